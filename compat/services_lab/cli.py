"""The command line `services-lab`; what is slow to import is imported by the command."""

import sys
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services_lab.variants import VARIANTS
from trio_services.settings import SettingsError

if TYPE_CHECKING:
    from services_lab.experiment import Experiment
    from services_lab.results import Results

app = typer.Typer(
    help="Runs the services on Trio, asyncio, uvloop and AnyIO, so that they can be compared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ReadyFile = Annotated[
    str | None, typer.Option(metavar="PATH", help="Written when everything listens.")
]


def main() -> None:
    """Run the command line; what cannot be done is one line and status 2."""
    try:
        app()
    except SettingsError as error:
        typer.echo(f"services-lab: {error}", err=True)
        sys.exit(2)


@app.command()
def side_by_side(
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Only this one: {', '.join(VARIANTS)}. Repeatable."),
    ] = None,
    ready_file: ReadyFile = None,
) -> None:
    """Run every variant in a process of its own, each on its own ports, until Ctrl-C."""
    unknown = [name for name in variant or () if name not in VARIANTS]
    if unknown:
        raise SettingsError(f"no such variant: {unknown[0]}; there are {', '.join(VARIANTS)}")
    import trio
    from rich.console import Console

    from services_lab.side_by_side import run_side_by_side

    chosen = [each for name, each in VARIANTS.items() if not variant or name in variant]
    trio.run(partial(run_side_by_side, chosen, Console(), ready_file=ready_file))


@app.command()
def hosted(ready_file: ReadyFile = None) -> None:
    """Run asyncio's services inside a Trio nursery, beside the Trio services: one process."""
    from services_lab.hosted import run_hosted

    raise typer.Exit(run_hosted(ready_file))


@app.command()
def guest(ready_file: ReadyFile = None) -> None:
    """Run the Trio services as guests of an asyncio loop, beside the originals: one process."""
    from services_lab.guest import run_guest

    raise typer.Exit(run_guest(ready_file))


def _chosen(names: list[str]) -> list[str]:
    """Return the experiments that `names` mean: each a name, or a family.

    Raises:
        SettingsError: There is none of that name.
    """
    from services_lab.experiment import Family
    from services_lab.registry import load_all
    from services_lab.registry import names as known_names

    known = known_names()
    found: list[str] = []
    for name in names:
        if name in set(Family):
            found += [each.name for each in load_all() if each.family == name]
        elif name in known:
            found.append(name)
        else:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see `services-lab list`"
            raise SettingsError(f"no such experiment: {name}; {hint}")
    return list(dict.fromkeys(found))


def _require_extra() -> None:
    """See that there is what the lab is made of.

    Raises:
        SettingsError: There is not.
    """
    absent = [name for name in ("anyio", "psutil") if find_spec(name) is None]
    if absent:
        raise SettingsError(
            f"{' and '.join(absent)} not installed: pip install 'trio-services[compare]'; "
            "in a checkout: pip install -e '.[compare]'"
        )


@app.command("list")
def list_experiments() -> None:
    """List the experiments, with the question of each."""
    _require_extra()
    from rich.console import Console

    from services_lab.registry import load_all
    from services_lab.terminal import draw_list

    Console().print(draw_list(load_all()))


@app.command()
def run(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Experiments, or a family of them.")
    ],
    variant: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Only this one. Repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Rough figures, one round.")] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=100, help="How often each is observed.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write everything that was found.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what tasks did, for Perfetto.")
    ] = None,
) -> None:
    """Run experiments; the exit status is 1 if something is not as expected."""
    _require_extra()
    from services_lab.registry import load
    from services_lab.results import write_results
    from services_lab.traces import write_trace

    for file in filter(None, (json, trace)):
        if not file.parent.is_dir():  # said before minutes are spent on what cannot be kept
            raise SettingsError(f"cannot write {file}: there is no folder {file.parent}")
    experiments = tuple(map(load, _chosen(names)))
    columns = frozenset(variant or ())
    unknown = columns - {each.column for one in experiments for each in one.subjects}
    if unknown:
        raise SettingsError(f"no such column in these experiments: {min(unknown)}")
    results = _run(experiments, columns=columns, quick=quick, rounds=rounds)
    if json:
        write_results(results, json)
    if trace and not write_trace(results, trace):
        typer.echo("services-lab: nothing was recorded, so there is no trace", err=True)
    raise typer.Exit(_status(results))


@app.command()
def report(
    from_file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Show what is in a results.json; run nothing."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Rough figures, one round: under five minutes.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path(
        "lab-report"
    ),
) -> None:
    """Run every experiment and write a report: index.html, pictures, results.json."""
    _require_extra()
    from services_lab.registry import load_all
    from services_lab.report import write_report
    from services_lab.results import ResultsError, read_results

    try:
        out.mkdir(parents=True, exist_ok=True)  # before minutes are spent on what cannot be kept
        results = read_results(from_file) if from_file else _run(tuple(load_all()), quick=quick)
        page = write_report(results, out)
    except ResultsError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"cannot write {error.filename}: {error.strerror}") from None
    typer.echo(f"The report is {page}")
    raise typer.Exit(0 if from_file else _status(results))


def _run(
    experiments: tuple["Experiment", ...],
    *,
    columns: frozenset[str] = frozenset(),
    quick: bool,
    rounds: int | None = None,
) -> "Results":
    """Run experiments before the eyes of whoever asked."""
    import trio
    from rich.console import Console

    from services_lab.conditions import look_around
    from services_lab.runner import Plan, run_plan
    from services_lab.terminal import Screen

    plan = Plan(experiments=experiments, columns=columns, quick=quick, rounds=rounds)
    conditions = look_around(quick=quick, rounds=rounds, arguments=sys.argv[1:])
    screen = Screen(plan, Console())
    with screen.shown():
        return trio.run(run_plan, plan, screen, conditions)


def _status(results: "Results") -> int:
    """Return the exit status: 130 after Ctrl-C, 1 if something is not as expected, else 0."""
    if results.interrupted:
        return 130
    return 1 if any(each.complaints for each in results.experiments) else 0
