"""What timelines are made of: bars, lines, arrows, crosses, and a legend of them."""

from collections.abc import Iterable, Sequence

from services_lab.pictures.style import SMALL, label, number, shortened, tag, text_width

THINNEST = 1.6
"""How wide the shortest step is, so that it can be seen."""

GAP = 0.8
"""Pauses that are narrower cannot be seen, and are not drawn."""

Spans = Sequence[tuple[float, float]]


def merged_bars(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return spans, in order, wide enough to be seen, those too close to be told apart as one."""
    merged: list[tuple[float, float]] = []
    for left, right in spans:
        right = max(right, left + THINNEST)
        if merged and left - merged[-1][1] < GAP:
            merged[-1] = (merged[-1][0], max(right, merged[-1][1]))
        else:
            merged.append((left, right))
    return merged


def line(spans: Spans, y: float, colour: str, thick: float, *, dashes: str = "") -> str:
    """Return horizontal lines as one path; "" if there are none.

    Args:
        spans: From x, to x.
        y: Of their middle.
        colour: A class of STYLE.
        thick: How high they are.
        dashes: SVG's `stroke-dasharray`.
    """
    drawn = "".join(
        f"M{number(left)} {number(y)}h{number(right - left)}"
        for left, right in spans
        if right > left
    )
    if not drawn:
        return ""
    return tag("path", d=drawn, class_=colour, stroke_width=thick, stroke_dasharray=dashes)


def bar(spans: Spans, y: float, colour: str, high: float, *, striped: bool = False) -> str:
    """Return bars: high lines, in stripes if nobody owns them."""
    return line(spans, y, colour, high, dashes="3 1.5" if striped else "")


def stroke_down(x: float, y: float, high: float) -> str:
    """Return the end of a lane."""
    drawn = f"M{number(x)} {number(y - high / 2)}v{number(high)}"
    return tag("path", d=drawn, class_="lab-wait", stroke_width=2)


def arrow(x: float, above: float, below: float) -> str:
    """Return an arrow from a parent's bar down to its child's."""
    shaft = f"M{number(x)} {number(above)}V{number(below - 4)}"
    head = f"M{number(x - 3.5)} {number(below - 5)}h7l-3.5 5z"
    return tag("path", d=shaft, class_="lab-thin") + tag("path", d=head, class_="lab-fill-dim")


def cross(x: float, y: float) -> str:
    """Return the sign of a cancellation; with a halo, since it stands on bars."""
    drawn = f"M{number(x - 5)} {number(y - 5)}l10 10m0 -10l-10 10"
    halo = tag("path", d=drawn, class_="lab-paper", stroke_width=5.5)
    return halo + tag("path", d=drawn, class_="lab-cancel", stroke_width=2.6)


def diamond(x: float, y: float) -> str:
    """Return the sign of an exception."""
    drawn = f"M{number(x)} {number(y - 7)}l7 7l-7 7l-7 -7z"
    return tag("path", d=drawn, class_="lab-fill-cancel")


def apart(places: Iterable[float], distance: float = 9) -> list[float]:
    """Return places, in order, without those that would cover the one before."""
    kept: list[float] = []
    for place in places:
        if not kept or place - kept[-1] >= distance:
            kept.append(place)
    return kept


def legend(entries: Iterable[tuple[str, str]], width: float, y: float) -> tuple[str, float]:
    """Return the legend, in as many rows as it takes, and where it ends.

    Args:
        entries: A sign, drawn from 0 to 18 around y = 0, and what it means.
        width: Of the picture.
        y: Where it begins.
    """
    drawn = []
    x = 4.0
    y += 8
    for sign, whole in entries:
        meaning = shortened(whole, width - 34, SMALL)
        wide = 24 + text_width(meaning, SMALL)
        if x > 4 and x + wide > width - 4:
            x = 4.0
            y += 20
        placed = tag("g", sign, transform=f"translate({number(x)} {number(y)})")
        drawn.append(placed + label(x + 24, y + 4, meaning, "lab-small"))
        x += wide + 16
    return "".join(drawn), y + 12
