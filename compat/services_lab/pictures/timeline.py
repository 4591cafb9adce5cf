"""Timelines: a lane for each task, under the one that started it; when it ran, when it waited.

    main       ▐▌────────────────▐▌        returned
    └ child    ╰▶▌───────✕                 cancelled

A solid bar is a task that runs, a thin line one that waits; a step that is too short to be seen is
drawn as wide as a line. An arrow goes from whoever started a task to the task. The moment of a
fault is marked across all lanes. Several recordings of one experiment share the axis of time, so
that they can be compared by eye.

On a wide picture names stand left of the lanes and what became of the task right of them; on a
narrow one both stand above the lane.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services_lab.pictures.axis import round_steps
from services_lab.pictures.lanes import Lane, Marked, Recorded, read_lanes
from services_lab.pictures.shapes import (
    apart,
    arrow,
    bar,
    cross,
    diamond,
    legend,
    line,
    merged_bars,
    stroke_down,
)
from services_lab.pictures.style import (
    BREAKPOINT,
    SMALL,
    WIDE,
    hint,
    label,
    picture,
    shortened,
    tag,
    text_width,
)
from services_lab.units import human
from trio_services.sans_io.task_events import TaskEvent

BAR = 12
"""How high a running task is."""

INDENT = 12
"""How much further right a child's name begins."""

MOST_TICKS = 8

BETWEEN = 16
"""Units between one time at the axis and the next, or they are read as one."""

MOST_MARKS = 6
"""Marks of different texts that are told in words; more cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things go in a picture of some width.

    Attributes:
        width: Of the picture.
        left, right: Where the axis of time begins and ends.
        row: From one lane to the next.
        start, end: The times there.
    """

    width: int
    left: float
    right: float
    row: float
    start: float
    end: float

    @property
    def is_wide(self) -> bool:
        """Whether names stand beside the lanes."""
        return self.width >= BREAKPOINT

    def x(self, at: float) -> float:
        """Return where a time is; what is before the start is at the edge."""
        span = max(self.end - self.start, 1e-9)
        part = min(max((at - self.start) / span, 0), 1)
        return self.left + part * (self.right - self.left)

    def middle(self, row: float) -> float:
        """Return the y of a lane's bar, given the top of its row."""
        return row + (self.row / 2 if self.is_wide else self.row - BAR / 2 - 4)

    def ticks(self) -> list[float]:
        """Return the times that stand at the axis: as many as leave room between them."""
        for count in range(MOST_TICKS, 1, -1):
            found = round_steps(self.start, self.end, count)
            widest = max((text_width(_time(at, found[-1]), SMALL) for at in found), default=0)
            if len(found) < 2 or self.x(found[1]) - self.x(found[0]) > widest + BETWEEN:
                break
        return found


@dataclass(frozen=True, slots=True)
class PlacedMark:
    """A mark with its words: where the line is, and where the words are."""

    x: float
    y: float
    text: str
    text_x: float


def timeline(events: Sequence[TaskEvent], *, title: str, width: int = WIDE) -> str:
    """Return the timeline of one recording; see `timelines`."""
    return timelines({"": events}, title=title, width=width)


def timelines(
    recordings: Mapping[str, Sequence[TaskEvent]], *, title: str, width: int = WIDE
) -> str:
    """Return recordings of the same experiment, one above the other, as SVG.

    Args:
        recordings: By what was recorded, such as the column; those without events are left out.
        title: What it shows, for those who do not see it.
        width: WIDE or NARROW.
    """
    panels = {name: read_lanes(events) for name, events in recordings.items() if events}
    start = min((each.start for each in panels.values()), default=0.0)
    end = max((each.end for each in panels.values()), default=0.0)
    if width >= BREAKPOINT:
        layout = Layout(width, 180, width - 196, 25, start, end)
    else:
        layout = Layout(width, 6, width - 10, 40, start, end)
    content: list[str] = []
    y = 4.0
    for name, recorded in panels.items():
        y = _add_panel(content, layout, name, recorded, y)
    y = _add_axis(content, layout, y)
    y = _add_legend(content, layout, panels.values(), y)
    told = " ".join(_told(name, recorded) for name, recorded in panels.items())
    return picture(width, y, title, told, "".join(content))


def _add_panel(
    content: list[str], layout: Layout, name: str, recorded: Recorded, y: float
) -> float:
    """Add a panel at y; return where it ends."""
    if name:
        content.append(label(4, y + 16, name, "lab-bold"))
        y += 24
    marks, y = _place_marks(layout, recorded.marks, y)
    rows = {lane.task: y + index * layout.row for index, lane in enumerate(recorded.lanes)}
    bottom = y + len(rows) * layout.row
    content += [_upright(layout.x(at), y, bottom + 4, "lab-grid") for at in layout.ticks()]
    for lane in recorded.lanes:
        if lane.parent in rows and lane.born >= layout.start:
            above, below = (layout.middle(rows[task]) for task in (lane.parent, lane.task))
            content.append(arrow(layout.x(lane.born), above + BAR / 2, below - BAR / 2))
    xs = dict.fromkeys(round(layout.x(mark.at), 1) for mark in recorded.marks)
    content += [_upright(x, y - 4, bottom + 4, "lab-mark") for x in xs]
    content += [_upright(mark.x, mark.y - 9, y - 4, "lab-mark") for mark in marks]
    content += [_lane(layout, lane, rows[lane.task], recorded.end) for lane in recorded.lanes]
    content += [label(mark.text_x, mark.y, mark.text, "lab-small lab-over") for mark in marks]
    if recorded.folded:
        bottom += 20
        text = shortened(_folded(recorded.folded), layout.width - 8, SMALL)
        content.append(label(4, bottom, text, "lab-small"))
    return bottom + 14


def _upright(x: float, top: float, bottom: float, look: str) -> str:
    return tag("line", x1=x, y1=top, x2=x, y2=bottom, class_=look)


def _place_marks(
    layout: Layout, marks: Sequence[Marked], y: float
) -> tuple[list[PlacedMark], float]:
    """Return the marks with places for their words that do not overlap, and where these end.

    Marks of the same text are told once. The words stand right of the line, or left of it where
    there is no room, in as many rows as it takes.
    """
    counts = Counter(mark.text for mark in marks)
    first = {mark.text: mark for mark in reversed(marks)}
    told = sorted(first.values(), key=lambda mark: mark.at)[:MOST_MARKS]
    ends: list[list[tuple[float, float]]] = []
    placed = []
    for mark in told:
        times = f" × {counts[mark.text]}" if counts[mark.text] > 1 else ""
        text = shortened(mark.text, layout.width * 0.7, SMALL) + times
        x, wide = layout.x(mark.at), text_width(text, SMALL)
        left = x + 5 if x + 5 + wide <= layout.width - 4 else max(4.0, x - 5 - wide)
        span = (min(left, x) - 6, max(left + wide, x) + 6)
        row = next((row for row, taken in enumerate(ends) if not _overlaps(span, taken)), len(ends))
        if row == len(ends):
            ends.append([])
        ends[row].append(span)
        placed.append((row, mark, x, left, text))
    height = 16 * len(ends) + (4 if ends else 0)
    return [
        PlacedMark(x, y + height - 16 * (len(ends) - row) + 8, text, left)
        for row, _, x, left, text in placed
    ], y + height


def _overlaps(span: tuple[float, float], taken: Iterable[tuple[float, float]]) -> bool:
    return any(span[0] < right and left < span[1] for left, right in taken)


def _lane(layout: Layout, lane: Lane, row: float, end: float) -> str:
    """Return a lane: its bars, its name, and what became of it until the recording's end."""
    y, x = layout.middle(row), layout.x
    born, ended = x(lane.born), x(end if lane.ended is None else lane.ended)
    orphaned = ended if lane.orphaned is None else x(lane.orphaned)
    runs = merged_bars((x(start), x(end)) for start, end in lane.runs if end >= layout.start)
    owned = [(left, min(right, orphaned)) for left, right in runs if left < orphaned]
    alone = [(max(left, orphaned), right) for left, right in runs if right > orphaned]
    drawn = [
        hint(_lane_told(lane)),
        line([(born, orphaned)], y, "lab-wait", 2),
        line([(orphaned, ended)], y, "lab-orphan", 2, dashes="5 3"),
        bar(owned, y, "lab-run", BAR),
        bar(alone, y, "lab-orphan", BAR, striped=True),
    ]
    if lane.ended is not None:
        drawn.append(stroke_down(ended, y, BAR))
    crosses = apart(x(at) for at, _ in lane.cancelled)
    if lane.raised:
        crosses = [at for at in crosses if abs(at - ended) > BAR]  # one sign in one place
        drawn.append(diamond(ended, y))
    drawn += [cross(at, y) for at in crosses]
    return tag("g", "".join(drawn) + _lane_text(layout, lane, row))


def _lane_text(layout: Layout, lane: Lane, row: float) -> str:
    indent = (4 if layout.is_wide else 13) + min(lane.depth, 5) * INDENT
    name = ("└ " if lane.depth else "") + lane.name
    look = "lab-lost" if lane.lost else "lab-bad" if lane.raised else ""
    look = f"lab-small {look}".strip()
    if layout.is_wide:
        y, left = layout.middle(row) + 4.5, layout.right + 12
        words = shortened(lane.words(), layout.width - left - 2, SMALL)
        name = shortened(name, layout.left - 12 - indent)
        return label(indent, y, name) + label(left, y, words, look)
    y = row + 16
    words = shortened(lane.words(), layout.width * 0.55, SMALL)
    name = shortened(name, layout.width - indent - text_width(words, SMALL) - 14)
    return label(indent, y, name, "lab-over") + label(
        layout.width - 4, y, words, f"{look} lab-over", "end"
    )


def _add_axis(content: list[str], layout: Layout, y: float) -> float:
    ticks = layout.ticks()
    for at in ticks:
        x, text = layout.x(at), _time(at, ticks[-1])
        half = text_width(text, SMALL) / 2
        x = min(max(x, half + 2), layout.width - half - 2)
        content.append(label(x, y + 8, text, "lab-small", "middle"))
    return y + 20


def _time(at: float, longest: float) -> str:
    """Return a time in the unit that the longest of them has."""
    if not at:
        return "0"
    if longest >= 1:
        return f"{at:.4g} s"
    return f"{at * 1e3:.4g} ms" if longest >= 1e-3 else f"{at * 1e6:.4g} µs"


def _add_legend(content: list[str], layout: Layout, panels: Iterable[Recorded], y: float) -> float:
    lanes = [lane for recorded in panels for lane in recorded.lanes]
    entries = [
        (bar([(0, 18)], 0, "lab-run", BAR), "runs"),
        (line([(0, 18)], 0, "lab-wait", 2), "waits"),
    ]
    if any(lane.parent is not None for lane in lanes):
        entries.append((arrow(9, -8, 7), "starts"))
    if any(lane.cancelled for lane in lanes):
        entries.append((cross(9, 0), "is cancelled"))
    if any(lane.raised for lane in lanes):
        entries.append((diamond(9, 0), "raises"))
    if any(lane.orphaned is not None for lane in lanes):
        striped = bar([(0, 18)], 0, "lab-orphan", BAR, striped=True)
        entries.append((striped, "orphaned: nobody waits for it"))
    markup, y = legend(entries, layout.width, y + 12)
    content.append(markup)
    return y


def _folded(folded: Mapping[str, int]) -> str:
    kinds = ", ".join(
        f"{name} × {count}" if count > 1 else name for name, count in list(folded.items())[:5]
    )
    return f"and {sum(folded.values())} more: {kinds}" + (", …" if len(folded) > 5 else "")


def _told(name: str, recorded: Recorded) -> str:
    """Return a recording in words, for those who do not see it."""
    parts = [_lane_told(lane) for lane in recorded.lanes]
    parts += [f"mark at {human(mark.at, 's')}: {mark.text}" for mark in recorded.marks[:20]]
    if recorded.folded:
        parts.append(_folded(recorded.folded))
    return (f"{name}: " if name else "") + "; ".join(parts) + "."


def _lane_told(lane: Lane) -> str:
    until = "the end" if lane.ended is None else human(lane.ended, "s")
    told = f"{lane.name}, {human(lane.born, 's')} to {until}"
    if lane.orphaned is not None:
        told += f", orphaned at {human(lane.orphaned, 's')}"
    if lane.cancelled:
        why = ", ".join(dict.fromkeys(why for _, why in lane.cancelled if why))
        told += f", cancelled at {human(lane.cancelled[0][0], 's')}" + (why and f" {why}")
    return told + (f", {lane.how}" if lane.how else "")
