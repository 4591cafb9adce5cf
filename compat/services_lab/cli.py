"""The command line `services-lab`; what is slow to import is imported by the command."""

import sys
from functools import partial
from typing import Annotated

import typer

from services_lab.variants import VARIANTS
from trio_services.settings import SettingsError

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
