"""Bars: one figure of several columns, with its range, and how it compares with the original.

Bars begin at zero and are drawn to a linear scale, since people compare their lengths: what takes
ten times as long is ten times as long. (On a logarithmic scale a bar has no beginning, and its
length means nothing.) So the shortest may be slivers; the numbers stand beside them. A thin line
over each bar is the range over the rounds, and a dashed one across all bars is the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services_lab.pictures.style import (
    BREAKPOINT,
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
from services_lab.units import human, human_ratio, human_spread

BAR = 14
"""How high a bar is."""

TOP = 32.0
"""Where the bars begin, below the caption."""

LONGEST_RANGE = 1.5
"""How far beyond the longest bar a range is drawn: an outlier must not make all bars short."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        name: The column.
        values: In SI units.
        ratio: To the base; None for the base itself, or where there is none.
        is_base: Whether the others are compared with it.
    """

    name: str
    values: Spread
    ratio: Spread | None = None
    is_base: bool = False


def bars(
    rows: Sequence[Bar],
    *,
    figure: str,
    unit: str,
    lower_is_better: bool | None = None,
    width: int = WIDE,
) -> str:
    """Return bars, the first on top, as SVG.

    Args:
        rows: At least one.
        figure: What is drawn, as `CPU per query`.
        unit: As in `Figure`.
        lower_is_better: None where neither is.
        width: WIDE or NARROW.
    """
    is_wide = width >= BREAKPOINT
    text_of = [_words(row, unit) for row in rows]
    left, right = 4.0, width - 8.0
    if is_wide:
        left = 16 + min(max(text_width(row.name) for row in rows), 160)
        right = width - 16 - min(max(text_width(text, SMALL) for text in text_of), 250)
    longest = max(row.values.median for row in rows)
    farthest = max(longest, min(max(row.values.high for row in rows), LONGEST_RANGE * longest))
    scale = (right - left) / farthest if farthest else 0.0
    content = [_caption(figure, lower_is_better, width)]
    y, row_height = TOP, 26.0 if is_wide else 42.0
    bottom = y + row_height * len(rows)
    for row, text in zip(rows, text_of, strict=True):
        middle = y + (row_height / 2 if is_wide else row_height - BAR / 2 - 4)
        drawn = hint(f"{row.name}: {human_spread(row.values, unit)}")
        drawn += _bar(row, left, min(right, left + farthest * scale), scale, middle)
        if is_wide:
            drawn += label(4, middle + 4.5, shortened(row.name, left - 12))
            drawn += label(width - 4, middle + 4.5, text, "lab-small", "end")
        else:
            room = width - 16 - text_width(text, SMALL)
            drawn += label(4, y + 18, shortened(row.name, room), "lab-over")
            drawn += label(width - 4, y + 18, text, "lab-small lab-over", "end")
        content.append(tag("g", drawn))
        y += row_height
    base = next((row for row in rows if row.is_base), None)
    if base and len(rows) > 1:
        x = left + base.values.median * scale
        content.insert(
            1, tag("path", d=_across(x, len(rows), row_height, is_wide), class_="lab-mark")
        )
    told = "; ".join(f"{row.name} {text}" for row, text in zip(rows, text_of, strict=True))
    return picture(width, bottom + 8, figure, f"{figure}: {told}.", "".join(content))


def _across(x: float, rows: int, height: float, is_wide: bool) -> str:
    """Return the path of a line across all bars; where text stands above them, it is left out."""
    if is_wide:
        return f"M{number(x)} {number(TOP - 2)}V{number(TOP + rows * height + 4)}"
    return "".join(
        f"M{number(x)} {number(TOP + (row + 1) * height - BAR - 6)}v{BAR + 6}"
        for row in range(rows)
    )


def _words(row: Bar, unit: str) -> str:
    words = human(row.values.median, unit)
    if row.ratio:
        words += f"\N{EM SPACE}{human_ratio(row.ratio.median)}"
    return words


def _caption(figure: str, lower_is_better: bool | None, width: int) -> str:
    better = {True: "shorter is better", False: "longer is better", None: ""}[lower_is_better]
    caption = label(4, 17, shortened(figure, width - 24 - text_width(better, SMALL)), "lab-bold")
    return caption + (label(width - 4, 17, better, "lab-small", "end") if better else "")


def _bar(row: Bar, left: float, right: float, scale: float, y: float) -> str:
    """Return a bar and its range; what is beyond `right` is cut, and has no end there."""
    look = "7" if row.is_base else "1" if row.name == "trio" else "6"
    wide = max(row.values.median * scale, 1.0 if row.values.median else 0.0)
    drawn = tag("rect", x=left, y=y - BAR / 2, width=wide, height=BAR, class_=f"lab-fill-{look}")
    if row.values.count > 1:
        low, high = left + row.values.low * scale, left + row.values.high * scale
        path = (
            f"M{number(low)} {number(y - 4)}v8M{number(low)} {number(y)}H{number(min(high, right))}"
        )
        if high <= right:
            path += f"M{number(high)} {number(y - 4)}v8"
        drawn += tag("path", d=path, class_="lab-paper", stroke_width=3.5, stroke_opacity=0.7)
        drawn += tag("path", d=path, class_="lab-ink", stroke_width=1.4)
    return drawn
