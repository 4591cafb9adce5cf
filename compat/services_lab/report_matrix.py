"""The matrix of a report: a row for each experiment, a column for each library as people use it.

A cell is a sign that needs no colour, or a measurement; below it stands what the same library does
when it is used in another way (`barrier`, `plain`). Each leads to its experiment.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from services_lab.experiment import COLUMNS, Family, Figure, Verdict
from services_lab.report_markup import anchor, better, look_of, markup, name_of, scrolled
from services_lab.results import ColumnResult, ExperimentResult
from services_lab.statistics import ratio_to_base, spread
from services_lab.units import human, human_ratio

HEADINGS = {Family.BEHAVIOUR: "Behaviour", Family.SPEED: "Speed", Family.CLAIM: "Claims"}

SIGNS = {
    Verdict.GOOD: "as one would wish",
    Verdict.FAIR: "with a catch",
    Verdict.BAD: "a trap",
}

RATIO = "×0.5"
"""A sign for what is measured: half of the first in its row."""

NOT_HERE = "–"
"""The sign of what could not be asked on this machine."""

FAILED = "!"
"""The sign of an observation that could not be made."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What the matrix says of one column of one experiment."""

    sign: str
    look: str
    words: str
    short: str = ""


def matrix(experiments: Sequence[ExperimentResult]) -> str:
    """Return the matrix of experiments, with what its signs mean."""
    if not experiments:
        return "<p>Nothing was measured.</p>"
    present = {_place(each.column)[0] for one in experiments for each in one.columns}
    columns = [each for each in COLUMNS if each in present]
    head = "".join(f'<th scope="col"><span>{markup(name)}</span></th>' for name in columns)
    bodies = []
    for family in Family:
        rows = [_matrix_row(each, columns) for each in experiments if each.family is family]
        if rows:
            bodies.append(
                f'<tbody>\n<tr class="group"><th scope="rowgroup">{HEADINGS[family]}</th>'
                f'<td colspan="{len(columns)}"></td></tr>\n' + "\n".join(rows) + "\n</tbody>"
            )
    signs = [f'<span class="{look_of(each)}">{each.value}</span> {told}'
             for each, told in SIGNS.items()]  # fmt: skip
    signs.append(f"<span>{RATIO}</span> measured: half of the first in the row")
    signs.append("empty: not asked")
    if any(each.missing for one in experiments for each in one.columns):
        signs.append(f"<span>{NOT_HERE}</span> not to be had here")
    return (
        '<section aria-labelledby="matrix">\n<h2 id="matrix">At a glance</h2>\n'
        '<p class="legend"><b>original</b>: asyncio as the book had it · <b>asyncio</b>: as it is '
        f"written today, with TaskGroup<br>{' · '.join(signs)}</p>\n"
        f'{scrolled("the matrix")}<table class="matrix">\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n"
        + "\n".join(bodies)
        + "\n</table></div>\n</section>"
    )


def _matrix_row(result: ExperimentResult, columns: Sequence[str]) -> str:
    cells: dict[str, list[Cell]] = defaultdict(list)
    for column in result.columns:
        name, kind = _place(column.column)
        cells[name].append(cell(result, column, kind))
    mark = ' <strong class="bad">not as expected</strong>' if result.complaints else ""
    told = f'<span class="question">{markup(result.question)}</span>'
    if result.main_figure and is_measured(result):
        figure = result.main_figure
        measured = ", ".join(filter(None, (markup(figure.name), better(figure))))
        told += f'<span class="question">{measured}</span>'
    link = f'<a href="#{anchor(result)}">{markup(name_of(result))}{told}</a>'
    row = f'<th scope="row">{link}{mark}</th>'
    for name in columns:
        shown = "".join(_cell_html(result, each) for each in cells[name])
        row += f"<td>{shown}</td>"
    return f"<tr>{row}</tr>"


def _place(column: str) -> tuple[str, str]:
    """Return the column of the matrix where a result's column is shown, and what is special to it:
    `trio-barrier` is Trio, with a barrier, `plain-trio` is Trio, plain."""
    if column in COLUMNS:
        return column, ""
    for name in sorted(COLUMNS, key=len, reverse=True):
        if column.startswith(f"{name}-"):
            return name, column.removeprefix(f"{name}-")
        if column.endswith(f"-{name}"):
            return name, column.removesuffix(f"-{name}")
    return column, ""


def cell(result: ExperimentResult, column: ColumnResult, kind: str = "") -> Cell:
    """Return what the matrix says of a column; `kind` is what is special to it."""
    if column.missing:
        return Cell(NOT_HERE, "dim", column.missing, kind)
    seen = column.shown
    if seen is None:
        return Cell(FAILED, "bad", "could not be observed", kind)
    sign, look = seen.verdict.value, look_of(seen.verdict)
    figure = result.main_figure
    values = spread(column.values(figure.name)) if figure else None
    if figure is None or values is None:
        return Cell(sign, look, seen.words, kind)
    told = f"{seen.words}; {figure.name} {human(values.median, figure.unit)}"
    if seen.verdict is Verdict.MEASURED:
        ratio = ratio_to_base(result, column, figure.name) if _has_ratios(result, figure) else None
        number = human_ratio(ratio.median) if ratio else human(values.median, figure.unit)
        return Cell(number, look, told, kind)
    return Cell(sign, look, told, kind)


def is_measured(result: ExperimentResult) -> bool:
    """Tell whether nothing happened that is better or worse: all was only measured."""
    return all(seen.verdict is Verdict.MEASURED for each in result.columns for seen in each.seen)


def _has_ratios(result: ExperimentResult, figure: Figure) -> bool:
    """Tell whether the matrix compares values: counts speak for themselves, and what is not in
    the matrix is nothing to compare with."""
    return bool(figure.unit and result.base and _place(result.base.column)[0] in COLUMNS)


def _cell_html(result: ExperimentResult, cell: Cell) -> str:
    sign = f'<b aria-hidden="true">{markup(cell.sign)}</b>' if cell.sign else ""
    short = f"<small>{markup(cell.short)}</small>" if cell.short else ""
    return (
        f'<a class="cell {cell.look}" href="#{anchor(result)}" title="{markup(cell.words)}">'
        f'{sign}{short}<span class="unseen">{markup(cell.words)}</span></a>'
    )
