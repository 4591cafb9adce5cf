"""What people see of a run: a moving line while it lasts, and a table for each experiment.

Where there is no terminal, the tables are all there is, each as soon as its experiment is complete.
Colour only repeats what a sign and a word say.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from services_lab.experiment import Experiment, Family, Figure, Subject, Verdict
from services_lab.progress import Estimate
from services_lab.results import ColumnResult, ExperimentResult, Seen
from services_lab.runner import Plan
from services_lab.statistics import ratio_to_base, spread
from services_lab.units import human_duration, human_ratio, human_spread

COLOURS = {
    Verdict.GOOD: "green",
    Verdict.FAIR: "yellow",
    Verdict.BAD: "red",
    Verdict.MEASURED: "cyan",
}

INDENT, GAP = 2, 2
"""Terminal columns before a table, and after each of its columns."""

MEASURED_ONLY = "MEASURED"

Cells = tuple[str, Sequence[Text]]
"""A column of a table: its title, and a cell for each subject."""


class Screen:
    """Shows a run on a console; a `Watcher` of the runner.

    Args:
        plan: What is run.
        console: Where to.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self.console = console
        self._estimate = Estimate(plan)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self._estimate.total, left="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while inside."""
        with self._progress:
            yield

    def observing(self, experiment: Experiment, subject: Subject, round: int) -> None:
        """Name what is being observed."""
        self._update(f"{experiment.name}: {subject.column}, round {round + 1}")

    def observed(
        self, experiment: Experiment, subject: Subject, seen: Seen | None, seconds: float
    ) -> None:
        """Move the bar on."""
        self._estimate.observed(experiment, seconds)
        self._update()

    def finished(self, experiment: Experiment, result: ExperimentResult) -> None:
        """Print its table."""
        self._estimate.skipped(experiment)
        self._update()
        self.console.print(draw(result, self.console.width))

    def refresh(self) -> None:
        """Draw now, without waiting for the next time."""
        self._progress.refresh()

    def _update(self, description: str | None = None) -> None:
        self._progress.update(
            self._task,
            description=description,
            completed=self._estimate.done,
            total=self._estimate.total,
            left=f"{human_duration(self._estimate.seconds_left())} left",
        )


def draw(result: ExperimentResult, width: int) -> RenderableType:
    """Return what an experiment found, for a terminal of `width` columns."""
    parts: list[RenderableType] = [
        Text(f"{result.name}  ({result.family})", style="bold"),
        Text(result.question),
    ]
    parts += [Padding(each, (0, 0, 0, INDENT)) for each in _tables(result, width)]
    generators = {seen.generator for each in result.columns for seen in each.seen} - {""}
    if generators:
        parts.append(Text(f"  load: {_shortest(sorted(generators))}", style="dim"))
    parts.append(_verdict(result))
    parts += [
        Text(f"{each.column}: {error}", style="red")
        for each in result.columns
        for error in each.errors
    ]
    return Group(*parts, "")


def _shortest(generators: Sequence[str]) -> str:
    """Return the generators, each as `name, busy`; with many rounds, only the kinds."""
    kinds = dict.fromkeys(each.partition(",")[0] for each in generators)
    return "; ".join(generators if len(generators) == 1 else kinds)


def _tables(result: ExperimentResult, width: int) -> list[Table]:
    """Return a table with the outcomes and as many figures as fit, and others with the rest."""
    figures = [each for each in result.figures if any(c.values(each.name) for c in result.columns)]
    figures.sort(key=lambda each: not each.is_main)
    outcomes = [_outcome(each) for each in result.columns]
    names = [Text(each.column) for each in result.columns]
    columns: list[Cells] = [
        (figure.name, [_figure(result, each, figure) for each in result.columns])
        for figure in figures
    ]
    if _has_news(result):
        columns.insert(0, ("", outcomes))
    room = width - INDENT - _width_of("", names)
    groups: list[list[Cells]] = []
    left = 0
    for title, cells in columns:
        needed = min(_width_of(title, cells), room)
        if needed > left:
            groups.append([])
            left = room
        groups[-1].append((title, cells))
        left -= needed
    return [_table(names, group) for group in groups]


def _has_news(result: ExperimentResult) -> bool:
    """Return whether there is more to be said of the subjects than that they were measured."""
    return any(
        each.missing or each.errors or any(seen.outcome != MEASURED_ONLY for seen in each.seen)
        for each in result.columns
    )


def _width_of(title: str, cells: Sequence[Text]) -> int:
    return max(len(title), *(len(each.plain) for each in cells)) + GAP


def _table(names: Sequence[Text], columns: Sequence[Cells]) -> Table:
    """Return a table with one row for each of `names`."""
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="dim", show_edge=False)
    table.add_column("", no_wrap=True)
    for title, _ in columns:
        table.add_column(title)
    for at, name in enumerate(names):
        table.add_row(name, *(cells[at] for _, cells in columns))
    return table


def _outcome(column: ColumnResult) -> Text:
    if column.missing:
        return Text(f"– {column.missing}", style="dim")
    shown = column.shown
    if shown is None:
        return Text("! not observed", style="bold red")
    text = Text(f"{shown.verdict.value} {shown.words}", style=COLOURS[shown.verdict])
    if column.unexpected:
        text.append(" (NOT as expected)", style="bold red")
    return text


def _figure(result: ExperimentResult, column: ColumnResult, figure: Figure) -> Text:
    found = spread(column.values(figure.name))
    if found is None:
        return Text("")
    text = Text(human_spread(found, figure.unit))
    ratio = ratio_to_base(result, column, figure.name)
    if ratio is not None and result.family is not Family.BEHAVIOUR:
        text.append(f" {human_ratio(ratio.median)}", style="bold" if figure.is_main else "")
    return text


def _verdict(result: ExperimentResult) -> Text:
    if not result.complaints:
        return Text("  as expected", style="green")
    said = "; ".join(result.complaints)
    return Text(f"  NOT as expected: {said}", style="bold red")


def draw_list(experiments: Sequence[Experiment]) -> RenderableType:
    """Return the list of experiments: name and question, columns below, by family."""
    parts: list[RenderableType] = []
    for family in dict.fromkeys(each.family for each in experiments):
        parts.append(Text(family, style="bold"))
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, show_edge=False)
        table.add_column("name", no_wrap=True, style="cyan")
        table.add_column("question")
        for each in experiments:
            if each.family is family:
                columns = ", ".join(subject.column for subject in each.subjects)
                table.add_row(each.name, Group(each.question, Text(columns, style="dim")))
        parts.append(Padding(table, (0, 0, 1, 2)))
    return Group(*parts)
