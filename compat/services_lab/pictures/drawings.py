"""The pictures of an experiment's result: what is drawn of it, by its `picture`.

- `timeline`: what was recorded of the base column and of Trio, one above the other; of each other
  column, a picture more.
- `bars`: the main figure.
- `curve`: figures whose names end in `at SIZE`. Where many columns were measured, a picture for
  each figure, whose series are the columns; else one for each column, whose series are figures.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from services_lab.pictures.bars import Bar, bars
from services_lab.pictures.curve import Points, curve
from services_lab.pictures.lanes import is_of_runtime
from services_lab.pictures.timeline import timelines
from services_lab.results import ColumnResult, ExperimentResult
from services_lab.statistics import ratio_to_base, spread
from trio_services.sans_io.task_events import TaskEvent, What

FEW = 4
"""Series that people compare in one picture without effort."""

_AT_SIZE = re.compile(r"(.+) at (\d+)")


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture.

    Attributes:
        title: What it shows.
        draw: Returns it as SVG, given a width (see `style`).
        is_main: Whether it is among the first to be looked at.
    """

    title: str
    draw: Callable[[int], str]
    is_main: bool


def drawings(result: ExperimentResult) -> tuple[Drawing, ...]:
    """Return the pictures of a result, the main ones first; none if there is nothing to draw."""
    draw = {"timeline": _timelines, "bars": _bars, "curve": _curves}.get(result.picture)
    found = draw(result) if draw else []
    return tuple(sorted(found, key=lambda each: not each.is_main))


def _timelines(result: ExperimentResult) -> list[Drawing]:
    recorded = {column.column: _events(column) for column in result.columns if _events(column)}
    base = "original" if "original" in recorded else next(iter(recorded), "")
    pair = [name for name in dict.fromkeys((base, "trio")) if name in recorded]
    groups = [pair, *([name] for name in recorded if name not in pair)] if pair else []
    found = []
    for names in groups:
        title = f"{result.question} Tasks over time: {' and '.join(names)}"
        chosen = {name: recorded[name] for name in names}
        found.append(Drawing(title, partial(_timeline, chosen, title), names is pair))
    return found


def _timeline(recorded: Mapping[str, Sequence[TaskEvent]], title: str, width: int) -> str:
    return timelines(recorded, title=title, width=width)


def _events(column: ColumnResult) -> Sequence[TaskEvent]:
    """Return the events of the observation that stands for a column, or of any that has some.

    A program's first task is its main function, whose name says no more than that of its column.
    """
    seen = [column.shown, *column.seen] if column.shown else []
    events = next((each.events for each in seen if each.events), ())
    if not column.code:
        return events
    births = (
        index
        for index, each in enumerate(events)
        if each.what is What.SPAWNED and not is_of_runtime(each.name)
    )
    main = next(births, None)
    return [
        replace(each, name="main") if index == main else each for index, each in enumerate(events)
    ]


def _bars(result: ExperimentResult) -> list[Drawing]:
    figure = result.main_figure
    if figure is None:
        return []
    rows = []
    for column in result.columns:
        values = spread(column.values(figure.name))
        if values:
            ratio = ratio_to_base(result, column, figure.name)
            rows.append(Bar(column.column, values, ratio, column is result.base))
    if not rows:
        return []

    def draw(width: int) -> str:
        return bars(
            rows,
            figure=figure.name,
            unit=figure.unit,
            lower_is_better=figure.lower_is_better,
            width=width,
        )

    return [Drawing(figure.name, draw, is_main=True)]


def _curves(result: ExperimentResult) -> list[Drawing]:
    units = {
        match[1]: figure.unit
        for figure in result.figures
        if (match := _AT_SIZE.fullmatch(figure.name))
    }
    columns = [each for each in result.columns if any(_points(each, name) for name in units)]
    if not columns:
        return []
    if len(units) == 1 or len(columns) > FEW:
        return [
            _curve(name, unit, {each.column: _points(each, name) for each in columns}, not index)
            for index, (name, unit) in enumerate(units.items())
        ]
    names = [each.column for each in columns]
    main = "trio" if "trio" in names else names[0]
    found = []
    for column in columns:
        for what, group in _groups(list(units)).items():
            series = {name: _points(column, name) for name in group}
            title = f"{column.column}: {what}".removesuffix(": ")
            found.append(_curve(title, units[group[0]], series, column.column == main))
    return found


def _curve(title: str, unit: str, series: Mapping[str, Points], is_main: bool) -> Drawing:
    def draw(width: int) -> str:
        return curve(series, title=title, unit=unit, width=width)

    return Drawing(title, draw, is_main)


def _groups(names: list[str]) -> dict[str, list[str]]:
    """Return names that are drawn together: all if they are few, else those of one last word."""
    if len(names) <= FEW:
        return {"": names}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name.rpartition(" ")[2]].append(name)
    return groups


def _points(column: ColumnResult, name: str) -> Points:
    sizes: dict[int, list[float]] = defaultdict(list)
    for seen in column.seen:
        for figure, value in seen.figures.items():
            match = _AT_SIZE.fullmatch(figure)
            if match and match[1] == name:
                sizes[int(match[2])].append(value)
    return [(size, values) for size in sorted(sizes) if (values := spread(sizes[size]))]
