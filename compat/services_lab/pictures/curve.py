"""Curves: a figure over sizes for several series, both axes logarithmic.

On such axes a power is a straight line, and its exponent the slope. Series differ in colour and in
the shape of their points. Where two of them cross is ringed and numbered, and told below.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise

from services_lab.pictures.axis import log_ticks
from services_lab.pictures.shapes import legend
from services_lab.pictures.style import (
    SMALL,
    WIDE,
    hint,
    label,
    number,
    picture,
    shortened,
    tag,
    text_width,
)
from services_lab.statistics import Spread
from services_lab.units import human

Points = Sequence[tuple[float, Spread]]
"""Sizes, in order, and what was measured there; both positive."""

MOST_COMPARED = 4
"""Series of which it is told where they cross: more cross somewhere by chance."""

MOST_CROSSINGS = 6
"""More rings than that hide the lines."""

RING = 8
"""The radius of the ring around a crossing."""

CLEARLY = 1.1
"""The ratio from which on two values are taken to differ."""

LOOKS = {
    "trio": 0,
    "asyncio": 1,
    "anyio-trio": 5,
    "anyio-asyncio": 3,
    "anyio-uvloop": 7,
    "uvloop": 4,
    "original": 6,
    "original-uvloop": 2,
}
"""The colour and shape of columns, the same in every picture; other series get them in turn."""

DOTS = (
    "M{x} {y}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M{x} {y}m-3.5 -3.5h7v7h-7z",
    "M{x} {y}m0 -5l5 8.5h-10z",
    "M{x} {y}m0 -5l5 5l-5 5l-5 -5z",
    "M{x} {y}m0 5l5 -8.5h-10z",
    "M{x} {y}m-5 -1.5h10v3h-10z",
    "M{x} {y}m-1.5 -5h3v10h-3z",
    "M{x} {y}m-3 -3l6 0l0 6z",
)
"""Shapes of points, one for each colour."""


def curve(
    series: Mapping[str, Points],
    *,
    title: str,
    unit: str,
    sizes: str = "numbers in a list",
    width: int = WIDE,
) -> str:
    """Return the curves as SVG.

    Args:
        series: By name, at least one with a point that is not 0. All beyond the eighth are left
            out, and so are points that are 0, which have no place on such an axis.
        title: What is drawn, as `CPU per list`.
        unit: Of the values, as in `Figure`.
        sizes: What the sizes are.
        width: WIDE or NARROW.
    """
    drawable = {name: _drawable(points) for name, points in series.items()}
    series = dict([(name, points) for name, points in drawable.items() if points][: len(DOTS)])
    every = [point for points in series.values() for point in points]
    across = [size for size, _ in every]
    heights = [value for _, each in every for value in (each.low, each.high)]
    columns = log_ticks(min(across), max(across))
    rows = log_ticks(min(heights), max(heights))
    left = 10 + max(text_width(_tick(each, unit), SMALL) for each in rows)
    top, bottom, right = 34.0, 34.0 + min(max(46 * (len(rows) - 1), 200), 330), width - 16.0

    def x(size: float) -> float:
        return left + (right - left) * _part(size, columns)

    def y(value: float) -> float:
        return bottom - (bottom - top) * _part(value, rows)

    content = [label(4, 17, shortened(title, width - 8), "lab-bold")]
    for value in rows:
        content.append(tag("line", x1=left, y1=y(value), x2=right, y2=y(value), class_="lab-grid"))
        content.append(label(left - 6, y(value) + 4, _tick(value, unit), "lab-small", "end"))
    taken = 0.0
    for size in columns:
        content.append(tag("line", x1=x(size), y1=top, x2=x(size), y2=bottom, class_="lab-grid"))
        half = text_width(f"{size:,.0f}", SMALL) / 2
        place = min(x(size), width - half - 2)
        if place - half > taken:
            content.append(label(place, bottom + 17, f"{size:,.0f}", "lab-small", "middle"))
            taken = place + half + 4
    content.append(label(right, bottom + 34, sizes, "lab-small", "end"))
    looks = {name: LOOKS.get(name, index) for index, name in enumerate(series)}
    for name, points in series.items():
        content.append(_line(looks[name], name, points, x, y, unit))
    found = crossings(series)[:MOST_CROSSINGS] if len(series) <= MOST_COMPARED else []
    content += _rings([(x(size), y(value)) for _, _, size, value in found])
    entries = [(_sample(looks[name]), name) for name in series]
    markup, end = legend(entries, width, bottom + 46)
    content.append(markup)
    told = []
    for index, (one, other, size, _) in enumerate(found, 1):
        told.append(f"({index}) at {_rough(size)}: {one} crosses {other}")
        content.append(label(4, end + 14, shortened(told[-1], width - 8, SMALL), "lab-small"))
        end += 18
    description = "; ".join([*_told(series, unit), *told])
    return picture(width, end + 8, title, f"{title}, by {sizes}: {description}.", "".join(content))


def crossings(series: Mapping[str, Points]) -> list[tuple[str, str, float, float]]:
    """Return where two series cross, as `(one, other, size, value)`, by size.

    Between sizes that were measured a line is drawn, straight on logarithmic axes. Two series cross
    only where they differ clearly before and after.
    """
    found = []
    for (one, points), (other, others) in combinations(series.items(), 2):
        there = dict(others)
        both = [(size, each, there[size]) for size, each in points if size in there]
        clear = [index for index, (_, *pair) in enumerate(both) if _differ(*pair)]
        for before, after in pairwise(clear):
            place = _crossing(both[before : after + 1])
            if place:
                found.append((one, other, *place))
    return sorted(found, key=lambda each: each[2])


def _crossing(both: Sequence[tuple[float, Spread, Spread]]) -> tuple[float, float] | None:
    """Return the size and the value at which two lines cross that differ at both ends."""
    if (both[0][1].median < both[0][2].median) == (both[-1][1].median < both[-1][2].median):
        return None
    for (size, low, low_other), (next_size, high, high_other) in pairwise(both):
        before = math.log(low.median / low_other.median)
        after = math.log(high.median / high_other.median)
        if before * after <= 0:
            part = before / (before - after)
            return _between(size, next_size, part), _between(low.median, high.median, part)
    return None


def _differ(one: Spread, other: Spread) -> bool:
    low, high = sorted((one, other), key=lambda each: each.median)
    return low.high < high.low and low.median * CLEARLY < high.median


def _tick(value: float, unit: str) -> str:
    return human(value, unit).replace(".00", "").replace(".0", "")


def _drawable(points: Points) -> Points:
    return [(size, each) for size, each in points if size > 0 and each.low > 0]


def _between(low: float, high: float, part: float) -> float:
    return math.exp(math.log(low) + math.log(high / low) * part)


def _part(value: float, ticks: Sequence[float]) -> float:
    """Return how far along an axis a value is, from 0 to 1."""
    return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])


def _rough(size: float) -> str:
    """Return a size to two digits: more is not known."""
    return f"{float(f'{size:.2g}'):,.0f}"


def _line(
    index: int,
    name: str,
    points: Points,
    x: Callable[[float], float],
    y: Callable[[float], float],
    unit: str,
) -> str:
    places = [(x(size), y(each.median)) for size, each in points]
    path = "M" + "L".join(f"{number(at)} {number(up)}" for at, up in places)
    drawn = tag("path", d=path, class_=f"lab-{index + 1}", stroke_width=2)
    ranges = "".join(
        f"M{number(x(size))} {number(y(each.low))}V{number(y(each.high))}"
        for size, each in points
        if each.high > each.low
    )
    if ranges:
        drawn += tag("path", d=ranges, class_=f"lab-{index + 1}", stroke_width=1.2)
    for (at, up), (size, each) in zip(places, points, strict=True):
        told = hint(f"{name}, {size:,.0f}: {human(each.median, unit)}")
        drawn += tag("g", told + _dot(index, at, up))
    return tag("g", drawn)


def _dot(index: int, x: float, y: float) -> str:
    shape = DOTS[index].format(x=number(x), y=number(y))
    return tag("path", d=shape, class_=f"lab-fill-{index + 1}")


def _sample(index: int) -> str:
    line = tag("path", d="M0 0h18", class_=f"lab-{index + 1}", stroke_width=2)
    return line + _dot(index, 9, 0)


def _rings(places: Sequence[tuple[float, float]]) -> list[str]:
    """Return a ring for each place; its number stands above it, or where there is none yet."""
    drawn = []
    numbers: list[tuple[float, float]] = []
    for index, (x, y) in enumerate(places, 1):
        drawn.append(
            tag("circle", cx=x, cy=y, r=RING, fill="none", class_="lab-ink", stroke_width=1.4)
        )
        around = ((0, -12), (0, 21), (-20, 4), (20, 4), (-20, -13), (20, -13), (-20, 22), (20, 22))
        taken = [*numbers, *(place for place in places if place != (x, y))]
        free = [
            (x + right, y + down)
            for right, down in around
            if all(abs(x + right - a) > 18 or abs(y + down - b) > 14 for a, b in taken)
        ]
        place = free[0] if free else (x, y - 12)
        numbers.append(place)
        drawn.append(label(*place, f"({index})", "lab-small lab-over", "middle"))
    return drawn


def _told(series: Mapping[str, Points], unit: str) -> Iterable[str]:
    for name, points in series.items():
        yield f"{name}: " + ", ".join(
            f"{human(each.median, unit)} at {size:,.0f}" for size, each in points
        )
