"""The pictures: what stands where, and that nothing stands on something else.

SVG is not drawn here: where text is comes from its position and `text_width`, which is that of the
widest of the common fonts. That it is so in a browser is tested with the report.
"""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from services_lab.event_log import THREAD
from services_lab.experiment import Family, Figure, Verdict
from services_lab.pictures.axis import log_ticks, round_steps
from services_lab.pictures.bars import Bar, bars
from services_lab.pictures.curve import crossings, curve
from services_lab.pictures.drawings import drawings
from services_lab.pictures.lanes import MOST_LANES, read_lanes, short_name
from services_lab.pictures.shapes import merged_bars
from services_lab.pictures.style import (
    DARK,
    LIGHT,
    NARROW,
    SMALL,
    STYLE,
    TEXT,
    WIDE,
    both,
    shortened,
    standalone,
    text_width,
)
from services_lab.pictures.timeline import timeline, timelines
from services_lab.results import ColumnResult, ExperimentResult, Seen
from services_lab.statistics import Spread

from trio_services.sans_io.task_events import TaskEvent, What

WIDTHS = (WIDE, NARROW)
HOSTILE = "<script>alert('&')</script>\x00\x1b[31m\u202e"

drawing = settings(max_examples=30, deadline=None)
"""A drawing takes milliseconds, and longer on a machine that has other things to do."""


@dataclass(frozen=True)
class Text:
    """A text of a picture, and the box that it needs."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Text") -> bool:
        """Tell whether the two are in the same place."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def parsed(svg: str) -> ElementTree.Element:
    """Return a picture as a tree, without namespaces."""
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", svg, count=1))


def texts(svg: str) -> list[Text]:
    """Return every text of a picture, whether it is within a group that is moved or not."""
    found = []
    for each in parsed(svg).iter("text"):
        size = SMALL if "lab-small" in each.get("class", "") else TEXT
        text = each.text or ""
        wide, x, y = text_width(text, size), float(each.get("x", 0)), float(each.get("y", 0))
        left = x - wide * {"end": 1.0, "middle": 0.5}.get(each.get("text-anchor", ""), 0.0)
        found.append(Text(text, left, y - size * 0.75, left + wide, y + size * 0.2))
    return found


def assert_legible(svg: str, *, but: str = "$^") -> None:
    """Every text is inside of the picture, and no two of them overlap, but those that match."""
    _, _, width, height = map(float, parsed(svg).get("viewBox", "").split())
    found = [each for each in texts(svg) if not re.fullmatch(but, each.text)]
    for text in found:
        assert text.left >= 0, text
        assert text.right <= width + 0.5, text
        assert text.top >= 0, text
        assert text.bottom <= height, text
    for one, other in itertools.combinations(found, 2):
        assert not one.overlaps(other), (one, other)


def shown(svg: str) -> list[str]:
    """Return the texts of a picture."""
    return [each.text for each in texts(svg)]


# Recordings


def born(at: float, task: int, name: str, parent: int | None = None, note: str = "") -> TaskEvent:
    """Return the birth of a task."""
    return TaskEvent(at, What.SPAWNED, task, name, parent, note)


def ran(task: int, *spans: tuple[float, float]) -> list[TaskEvent]:
    """Return the steps of a task."""
    return [
        TaskEvent(at, what, task)
        for span in spans
        for at, what in zip(span, (What.STARTED, What.STOPPED), strict=True)
    ]


def ended(at: float, task: int, note: str) -> TaskEvent:
    """Return the end of a task."""
    return TaskEvent(at, What.EXITED, task, note=note)


def in_order(*given: TaskEvent | list[TaskEvent]) -> list[TaskEvent]:
    """Return events in the order of time."""
    flat = [event for each in given for event in (each if isinstance(each, list) else [each])]
    return sorted(flat, key=lambda event: event.at)


FAILURE = in_order(
    born(0.0, 1, "<init>"),
    born(0.0, 2, "services_lab.experiments.some.main", 1),
    ran(2, (0.0, 0.01), (0.5, 0.51)),
    born(0.005, 3, "services_lab.experiments.some.main.<locals>.fails", 2),
    ran(3, (0.01, 0.02), (0.4, 0.41)),
    TaskEvent(0.405, What.MARK, 3, "the fault"),
    ended(0.41, 3, "raised ValueError: no"),
    born(0.006, 4, "sibling", 2),
    ran(4, (0.02, 0.03), (0.45, 0.46)),
    TaskEvent(0.45, What.CANCELLED, 4, note="due to nursery"),
    ended(0.46, 4, "cancelled"),
    ended(0.51, 2, "raised ExceptionGroup: ValueError: no"),
    ended(1.0, 1, "returned"),
)

ORPHAN = in_order(
    born(0.0, 1, "handler"),
    ran(1, (0.0, 0.01), (0.2, 0.2)),
    born(0.01, 2, "job", 1),
    ran(2, (0.01, 0.02), (0.5, 0.6)),
    ended(0.2, 1, "returned"),
    ended(1.0, 2, "returned"),
)


def test_lanes_follow_who_started_whom() -> None:
    """A lane stands below that of its parent, which is told from the runtime's own tasks."""
    lanes = read_lanes(FAILURE).lanes
    assert [(lane.name, lane.depth, lane.words()) for lane in lanes] == [
        ("main", 0, "raised ExceptionGroup"),
        ("fails", 1, "raised ValueError"),
        ("sibling", 1, "cancelled"),
    ]
    assert lanes[1].runs == [(0.01, 0.02), (0.4, 0.41)]
    assert lanes[2].cancelled == [(0.45, "due to nursery")]
    assert [mark.text for mark in read_lanes(FAILURE).marks] == ["the fault"]


def test_an_orphan_outlives_its_parent() -> None:
    """A task is orphaned from the end of the one that started it, if it goes on for some time."""
    handler, job = read_lanes(ORPHAN).lanes
    assert handler.orphaned is None
    assert (job.orphaned, job.words()) == (0.2, "orphaned, then returned")
    late = [e for e in ORPHAN if e.at <= 0.2] + [ended(0.201, 2, "cancelled")]
    assert read_lanes(late).lanes[1].orphaned is None


def test_a_task_of_trio_is_no_orphan() -> None:
    """`Nursery.start` hands a task over, so it may outlive the one that started it, not its owner;
    it stands below the nearest ancestor that is shown."""
    handed_over = in_order(
        born(0.0, 1, "main"),
        born(0.0, 2, "starter", 1),
        born(0.01, 3, "worker", 2),
        TaskEvent(0.02, What.READY, 3),
        ended(0.1, 2, "returned"),
        TaskEvent(9.0, What.MARK, 0, "later"),
        ended(10.0, 3, "returned"),
        ended(10.0, 1, "returned"),
    )
    main, worker = read_lanes(handed_over).lanes
    assert (worker.orphaned, worker.depth, main.depth) == (None, 1, 0)
    unknown = [each for each in handed_over if each.what is not What.READY]
    assert read_lanes(unknown).lanes[1].orphaned is not None


@pytest.mark.parametrize(("back", "orphaned"), [(0.3, 0.3), (0.9, None)])
def test_a_thread_is_orphaned_when_its_task_goes_on(back: float, orphaned: float | None) -> None:
    """Whoever waits for a thread does not run; if it runs, nobody waits for the thread."""
    events = in_order(
        born(0.0, 1, "main"),
        ran(1, (0.0, 0.1), (back, back + 0.05)),
        born(0.1, 2, "thread", 1, THREAD),
        ran(2, (0.1, 0.8)),
        ended(0.8, 2, "ended"),
        ended(1.0, 1, "returned"),
    )
    assert read_lanes(events).lanes[1].orphaned == orphaned


def test_a_task_that_never_ended() -> None:
    """A task that was there when the recording ended goes to the edge, and is told so."""
    events = in_order(born(0.0, 1, "main"), ran(1, (0.0, 0.1)), TaskEvent(1, What.STARTED, 1))
    [lane] = read_lanes(events).lanes
    assert (lane.ended, lane.words(), lane.runs) == (None, "never ended", [(0.0, 0.1), (1, 1)])


def test_time_begins_with_the_marks_of_the_lab() -> None:
    """Where the lab has marked a server's recording, what was long before is not shown."""
    early = in_order(born(0.0, 8, "at the start"), ran(8, (0.0, 0.1)), ended(0.2, 8, "returned"))
    later = [TaskEvent(10.0, What.MARK, 0, "a client comes"), born(10.1, 9, "connection")]
    recorded = read_lanes([*early, *later, ended(11.0, 9, "returned")])
    assert [lane.name for lane in recorded.lanes] == ["connection"]
    assert recorded.marks[0].at == 0
    assert recorded.end == 1
    assert recorded.lanes[0].born == pytest.approx(0.1)


def test_too_many_lanes_are_folded() -> None:
    """The lanes that are kept are those in which something happened; the rest is counted."""
    many = [born(0.0, 1, "main"), *(born(0.01, n, "connection", 1) for n in range(2, 102))]
    fault = [TaskEvent(0.5, What.CANCELLED, 77), ended(0.5, 77, "cancelled")]
    raised = ended(0.6, 88, "raised OSError")
    recorded = read_lanes([*many, *fault, raised, ended(1.0, 1, "returned")])
    assert len(recorded.lanes) == MOST_LANES
    assert {1, 77, 88} <= {lane.task for lane in recorded.lanes}
    assert recorded.folded == {"connection": 101 - MOST_LANES}
    for width in WIDTHS:
        svg = timeline([*many, *fault, raised, ended(1.0, 1, "returned")], title="t", width=width)
        assert f"and {101 - MOST_LANES} more: connection × {101 - MOST_LANES}" in shown(svg)
        assert_legible(svg)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("package.module.function", "function"),
        ("module.outer.<locals>.inner", "inner"),
        ("module.Class.method", "Class.method"),
        ("module.<lambda>", "<lambda>"),
        ("sort connection 127.0.0.1:4000", "sort connection 127.0.0.1:4000"),
        ("127.0.0.1", "127.0.0.1"),
        ("dns udp", "dns udp"),
    ],
)
def test_names_for_people(name: str, short: str) -> None:
    """Of the path to a function only the function is shown; other names are as they were given."""
    assert short_name(name) == short


# Timelines


@pytest.mark.parametrize("width", WIDTHS)
def test_timelines_share_an_axis(width: int) -> None:
    """The same time is at the same place in every panel, and all names and words are there."""
    svg = timelines({"original": ORPHAN, "trio": FAILURE}, title="both", width=width)
    assert_legible(svg)
    found = shown(svg)
    for wanted in (
        *("original", "trio", "handler", "└ job", "main", "└ fails", "└ sibling", "the fault"),
        *("returned", "orphaned, then returned", "raised ValueError", "cancelled"),
        *("runs", "waits", "starts", "is cancelled", "raises", "orphaned: nobody waits for it"),
    ):
        assert wanted in found
    gridlines = [
        line.get("x1") for line in parsed(svg).iter("line") if line.get("class") == "lab-grid"
    ]
    assert gridlines[: len(gridlines) // 2] == gridlines[len(gridlines) // 2 :]


def test_a_task_that_was_killed_ends_with_its_recording() -> None:
    """Its lane does not go on for as long as that of another recording."""
    killed = in_order(born(0.0, 1, "killed"), TaskEvent(0.5, What.MARK, 1, "killed"))
    long = in_order(born(0.0, 1, "main"), ended(1.0, 1, "returned"))
    svg = timelines({"one": killed, "other": long}, title="t")
    ends = [
        max(map(float, re.findall(r"[MLH]([\d.]+)", each.get("d", ""))))
        for each in parsed(svg).iter("path")
        if each.get("class") == "lab-wait"
    ]
    axis = [float(each.get("x1", 0)) for each in parsed(svg).iter("line")]
    assert ends[0] == pytest.approx((min(axis) + ends[1]) / 2, abs=1)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("end", [0.00019, 0.0151, 0.31, 0.777, 1.9, 12.0, 100.0])
def test_times_at_the_axis_keep_apart(end: float, width: int) -> None:
    """One time at the axis is not read as a part of the next."""
    svg = timeline(
        in_order(born(0.0, 1, "main"), ended(end, 1, "returned")), title="t", width=width
    )
    times = [each for each in texts(svg) if re.fullmatch(r"0|[\d.]+ (s|ms|µs)", each.text)]
    assert len(times) > 1
    for one, other in itertools.pairwise(sorted(times, key=lambda each: each.left)):
        assert other.left - one.right >= 4, (one, other)


def test_the_legend_tells_only_what_there_is() -> None:
    """Where nothing is cancelled, raised or orphaned, no sign of it is explained."""
    events = in_order(born(0.0, 1, "main"), ran(1, (0.0, 0.1)), ended(1.0, 1, "returned"))
    found = shown(timeline(events, title="t"))
    assert [each for each in found if each in ("runs", "waits")] == ["runs", "waits"]
    assert not {"starts", "is cancelled", "raises"} & set(found)


def test_a_timeline_in_words() -> None:
    """Who does not see it is told the same: title, lanes, ends, marks."""
    tree = parsed(timeline(FAILURE, title="A child fails"))
    assert tree.get("role") == "img"
    assert next(each.text for each in tree) == "A child fails"
    told = tree.findtext("desc") or ""
    assert "fails, 5 ms to 410 ms, raised ValueError: no" in told
    assert "sibling, 6 ms to 460 ms, cancelled at 450 ms due to nursery, cancelled" in told
    assert "mark at 405 ms: the fault" in told


@pytest.mark.parametrize(
    "draw",
    [
        timeline,
        lambda events, title, width: both(lambda _: timeline(events, title=title, width=width)),
    ],
)
def test_hostile_names_are_text(draw: Callable[..., str]) -> None:
    """Markup and control characters in names, notes and titles do not leave their place."""
    events = in_order(
        born(0.0, 1, HOSTILE),
        born(0.0, 2, HOSTILE, 1),
        TaskEvent(0.1, What.MARK, 1, HOSTILE),
        TaskEvent(0.2, What.CANCELLED, 2, note=HOSTILE),
        ended(0.3, 2, f"raised {HOSTILE}"),
        ended(1.0, 1, "returned"),
    )
    for width in WIDTHS:
        svg = draw(events, title=HOSTILE, width=width)
        ElementTree.fromstring(svg)
        assert "<script" not in svg
        assert not re.search("[\x00-\x1f\u202e]", svg)


@pytest.mark.parametrize("width", WIDTHS)
def test_marks_do_not_cover_each_other(width: int) -> None:
    """Marks at the same moment are told one above the other; equal ones once, with their number."""
    at_once = [TaskEvent(0.9, What.MARK, 1, f"mark {letter} with words") for letter in "abcd"]
    again = [TaskEvent(0.1 * n, What.MARK, 1, "tick") for n in range(5)]
    events = in_order(born(0.0, 1, "main"), at_once, again, ended(1.0, 1, "returned"))
    svg = timeline(events, title="t", width=width)
    assert_legible(svg)
    assert {"tick × 5", "mark a with words", "mark d with words"} <= set(shown(svg))


def test_steps_that_cannot_be_told_apart_are_drawn_as_one() -> None:
    """A task with many short steps is a few bars, each wide enough to be seen."""
    spans = merged_bars((10 + n * 0.01, 10 + n * 0.01) for n in range(1000))
    [(left, right)] = spans
    assert left == 10
    assert 20 <= right <= 22
    assert merged_bars([(1, 1), (50, 60)]) == [(1, pytest.approx(2.6)), (50, 60)]


TIMES = st.floats(0, 1)
SOME_EVENTS = st.lists(
    st.builds(
        TaskEvent,
        at=TIMES,
        what=st.sampled_from(What),
        task=st.integers(0, 20),
        name=st.text(max_size=30),
        parent=st.none() | st.integers(0, 20),
        note=st.sampled_from(["", "cancelled", "returned", "raised Error: text", THREAD]),
    ),
    max_size=60,
).map(lambda found: in_order(found))


@drawing
@given(st.lists(SOME_EVENTS, min_size=1, max_size=3), st.sampled_from(WIDTHS))
def test_whatever_was_recorded_can_be_drawn(recorded: list[list[TaskEvent]], width: int) -> None:
    """Any events give a legible picture of a bounded size, and the same one every time."""
    named = {f"column {index}": events for index, events in enumerate(recorded)}
    svg = timelines(named, title="t", width=width)
    assert_legible(svg)
    assert svg == timelines(named, title="t", width=width)
    assert len(svg) < 60_000 * len(recorded)


# Bars


ROWS = (
    Bar("original", Spread(33.5e-6, 31e-6, 40e-6, 3), None, is_base=True),
    Bar("anyio-asyncio", Spread(41e-6, 38e-6, 400e-6, 3), Spread(1.22, 1.1, 1.3, 3)),
    Bar("trio", Spread(6.7e-6, 6.5e-6, 7e-6, 3), Spread(0.2, 0.19, 0.21, 3)),
)


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_are_as_long_as_the_values(width: int) -> None:
    """Bars begin at zero and are to one scale, and the numbers stand beside them."""
    svg = bars(ROWS, figure="CPU per query", unit="s", lower_is_better=True, width=width)
    assert_legible(svg)
    lengths = [float(each.get("width", 0)) for each in parsed(svg).iter("rect")]
    assert len({each.get("x") for each in parsed(svg).iter("rect")}) == 1
    assert lengths[1] / lengths[0] == pytest.approx(41 / 33.5, rel=0.01)
    assert lengths[2] / lengths[0] == pytest.approx(6.7 / 33.5, rel=0.02)
    found = shown(svg)
    assert {"CPU per query", "shorter is better", "original", "anyio-asyncio", "trio"} <= set(found)
    assert "6.70 µs\N{EM SPACE}×0.20" in found
    assert "33.5 µs" in found


def test_an_outlier_does_not_make_all_bars_short() -> None:
    """A range that goes far beyond the longest bar is cut off at the edge, not the bars shrunk."""
    svg = bars(ROWS, figure="CPU", unit="s")
    longest = max(float(each.get("width", 0)) for each in parsed(svg).iter("rect"))
    assert longest > WIDE * 0.35
    for path in parsed(svg).iter("path"):
        assert all(0 <= float(x) <= WIDE for x in re.findall(r"[MH]([\d.]+)", path.get("d", "")))


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e12])
def test_bars_of_any_size(value: float) -> None:
    """A single value, nothing or a great deal, is a picture too."""
    svg = bars([Bar("trio", Spread(value, value, value, 1))], figure="lost", unit="", width=NARROW)
    assert_legible(svg)
    [bar] = parsed(svg).iter("rect")
    assert (float(bar.get("width", 0)) > 0) == (value > 0)


# Curves


def line(*values: float) -> list[tuple[float, Spread]]:
    """Return values at 10, 100, 1000, …"""
    return [(10.0**n, Spread(each, each, each, 1)) for n, each in enumerate(values, 1)]


def test_where_lines_cross() -> None:
    """Two powers cross where they are equal, and those that only touch or jitter do not."""
    linear, constant = line(1e-5, 1e-4, 1e-3, 1e-2), line(3e-4, 3e-4, 3e-4, 3e-4)
    [(one, other, size, value)] = crossings({"inline": linear, "process": constant})
    assert (one, other) == ("inline", "process")
    assert size == pytest.approx(300, rel=0.01)
    assert value == pytest.approx(3e-4, rel=0.01)
    jitter = line(3.1e-4, 2.9e-4, 3.05e-4, 2.95e-4)
    assert crossings({"jitter": jitter, "process": constant}) == []


def test_a_crossing_is_on_the_lines() -> None:
    """Where values are too close to be told apart, the crossing is still where the lines meet."""
    one, other = line(1.0, 10.0, 1000.0), line(5.0, 10.5, 20.0)
    [(_, _, size, value)] = crossings({"one": one, "other": other})
    assert 100 < size < 110
    assert 10 < value < 11


@pytest.mark.parametrize("width", WIDTHS)
def test_a_curve_is_legible(width: int) -> None:
    """Axes, series and crossings are told in words, and nothing overlaps."""
    series = {
        "inline loop": line(6e-6, 6e-5, 6e-4, 6e-3),
        "thread loop": line(6e-5, 6e-5, 1e-4, 4e-4),
        "process loop": line(3e-5, 3e-5, 4e-5, 3e-4),
    }
    svg = curve(series, title="trio: loop", unit="s", width=width)
    assert_legible(svg)
    found = shown(svg)
    assert {*series, "trio: loop", "10", "10,000", "1 ms", "numbers in a list"} <= set(found)
    assert "(1) at 50: inline loop crosses process loop" in found
    told = parsed(svg).findtext("desc") or ""
    assert "process loop: 30.0 µs at 10, 30.0 µs at 100, 40.0 µs at 1,000, 300 µs at 10,000" in told


def test_numbers_of_crossings_keep_apart() -> None:
    """Where many lines cross in one place, each crossing still has a number that can be read."""
    steep = {f"{n}": line(10.0 ** (4 - n), 10.0**n) for n in range(1, 5)}
    svg = curve(steep, title="t", unit="s")
    numbers = [each for each in texts(svg) if re.fullmatch(r"\(\d\)", each.text)]
    assert len(numbers) == 6
    for one, other in itertools.combinations(numbers, 2):
        assert not one.overlaps(other), (one, other)


@drawing
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=6).map(lambda each: line(*each)),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from(WIDTHS),
)
def test_whatever_was_measured_can_be_drawn(
    series: dict[str, list[tuple[float, Spread]]], width: int
) -> None:
    """Any positive values give a legible picture, and the same one every time."""
    svg = curve(series, title="t", unit="s", width=width)
    assert svg == curve(series, title="t", unit="s", width=width)
    assert_legible(svg, but=r"\(\d\)")  # rings are where lines cross, however near to each other


@given(st.floats(1e-9, 1e9), st.floats(1, 1e6))
def test_ticks_hold_what_is_drawn(low: float, times: float) -> None:
    """A logarithmic axis reaches from below the least to above the greatest value."""
    ticks = log_ticks(low, low * times)
    assert ticks[0] <= low * 1.00001
    assert ticks[-1] >= low * times * 0.99999
    assert ticks == sorted(ticks)
    assert 2 <= len(ticks) <= 12


@given(st.floats(-10, 10), st.floats(1e-6, 1e6), st.integers(2, 10))
def test_steps_are_round_and_few(start: float, span: float, count: int) -> None:
    """A linear axis has evenly spaced ticks within its range, and not too many."""
    ticks = round_steps(start, start + span, count)
    assert len(ticks) <= count + 1
    assert all(start - span * 1e-3 <= each <= start + span * 1.001 for each in ticks)


# What all have in common


def test_text_that_is_too_long_is_cut() -> None:
    """A text is as long as it may be, and ends with an ellipsis if some of it is missing."""
    assert shortened("short", 100) == "short"
    cut = shortened("a rather long name of a task", 100)
    assert cut.endswith("…")
    assert text_width(cut) <= 100


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours; WCAG 2.2, "contrast ratio"."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        lights.append(0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05)
    return max(lights) / min(lights)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_colours_can_be_seen(colours: dict[str, str]) -> None:
    """Text has a contrast of 4.5 to the paper, and what is drawn has 3."""
    for name in ("ink", "dim", "cancel", "orphan"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in set(colours) - {"paper", "grid"}:
        assert contrast(colours[name], colours["paper"]) >= 3 or name == "wait", name


def test_one_picture_serves_light_and_dark() -> None:
    """A picture has no colour of its own: they are all variables of the style sheet."""
    svg = timelines({"original": ORPHAN, "trio": FAILURE}, title="both")
    assert not re.search(r"#[0-9a-f]{6}|rgb", svg)
    used = set(re.findall(r'class="([^"]*)"', svg))
    for name in {each for group in used for each in group.split()} - {"lab"}:
        assert f".{name} " in STYLE, name
    assert LIGHT.keys() == DARK.keys()


def test_a_picture_as_a_file() -> None:
    """A file is well-formed and has its style inside; a page gets both widths, without it."""
    svg = standalone(timeline(FAILURE, title="t"))
    tree = parsed(svg)
    assert "--lab-run" in (tree.findtext("style") or "")
    html = both(lambda width: timeline(FAILURE, title="t", width=width))
    assert [each.get("class") for each in ElementTree.fromstring(html)] == [
        "lab lab-wide",
        "lab lab-narrow",
    ]


# Results


def result(picture: str, figures: tuple[Figure, ...], *columns: ColumnResult) -> ExperimentResult:
    """Return a made-up result."""
    return ExperimentResult(
        name="made-up",
        family=Family.CLAIM,
        question="What?",
        figures=figures,
        picture=picture,
        columns=columns,
    )


def seen(number: int = 0, events: tuple[TaskEvent, ...] = (), **figures: float) -> Seen:
    """Return an observation."""
    return Seen(
        round=number,
        outcome="X",
        verdict=Verdict.MEASURED,
        words="x",
        figures=figures,
        events=events,
    )


def column(name: str, *observations: Seen) -> ColumnResult:
    """Return what was seen of a column; every outcome is right."""
    return ColumnResult(column=name, expected=("X",), seen=observations)


def test_timelines_of_a_result() -> None:
    """The original stands beside Trio; each other column has a picture of its own."""
    found = drawings(
        result(
            "timeline",
            (),
            column("original", seen(events=tuple(ORPHAN))),
            column("asyncio", seen(), seen(1, events=tuple(FAILURE))),
            column("anyio-trio", seen()),
            column("trio", seen(events=tuple(FAILURE))),
        )
    )
    assert [each.is_main for each in found] == [True, False]
    assert [
        [name for name in ("original", "asyncio", "trio") if name in shown(each.draw(WIDE))]
        for each in found
    ] == [["original", "trio"], ["asyncio"]]


def test_the_first_task_of_a_program_is_its_main() -> None:
    """The name of a program's function says no more than its column; a server's task keeps its."""
    named = in_order(
        born(0.0, 1, "<init>"), born(0.0, 2, "some.with_trio", 1), born(0.1, 3, "child", 2)
    )
    recorded = Seen(round=0, outcome="X", verdict=Verdict.GOOD, words="x", events=tuple(named))
    program = ColumnResult(column="trio", seen=(recorded,), code="async def with_trio(): ...")
    server = ColumnResult(column="original", seen=(recorded,))
    [found] = drawings(result("timeline", (), program, server))
    lanes = [each for each in shown(found.draw(WIDE)) if each in ("main", "with_trio", "└ child")]
    assert lanes == ["with_trio", "└ child", "main", "└ child"]


def test_bars_of_a_result() -> None:
    """The main figure is drawn of those columns that have it, the base marked as such."""
    figures = (Figure(name="other", unit="s"), Figure(name="cost", unit="s", is_main=True))
    [found] = drawings(
        result(
            "bars",
            figures,
            column("original", seen(cost=2.0), seen(1, cost=4.0)),
            column("asyncio", seen(other=1.0)),
            column("trio", seen(cost=1.0), seen(1, cost=1.0)),
        )
    )
    texts_of = shown(found.draw(NARROW))
    assert "asyncio" not in texts_of
    assert {"original", "3 s", "trio"} <= set(texts_of)
    assert any("×0.38" in each for each in texts_of)


def test_curves_of_a_result() -> None:
    """Few columns have a picture each, with figures as series; many share one for each figure."""
    figures = tuple(
        Figure(name=f"{name} at {size}", unit="s") for name in ("a", "b") for size in (10, 100)
    )
    values = {"a at 10": 1.0, "a at 100": 2.0, "b at 10": 2.0, "b at 100": 1.0}
    some = Seen(round=0, outcome="X", verdict=Verdict.MEASURED, words="x", figures=values)
    few = drawings(result("curve", figures, column("asyncio", some), column("trio", some)))
    assert [(each.title, each.is_main) for each in few] == [("trio", True), ("asyncio", False)]
    assert {"a", "b", "(1) at 32: a crosses b"} <= set(shown(few[0].draw(WIDE)))
    columns = [column(name, some) for name in ("original", "asyncio", "uvloop", "anyio", "trio")]
    many = drawings(result("curve", figures, *columns))
    assert [(each.title, each.is_main) for each in many] == [("a", True), ("b", False)]
    assert {"original", "asyncio", "uvloop", "trio"} <= set(shown(many[0].draw(NARROW)))


@pytest.mark.parametrize("picture", ["timeline", "bars", "curve", ""])
def test_nothing_to_draw(picture: str) -> None:
    """A result without observations has no pictures."""
    assert drawings(result(picture, (Figure(name="cost", unit="s", is_main=True),))) == ()
    assert drawings(result(picture, (), column("trio"))) == ()
