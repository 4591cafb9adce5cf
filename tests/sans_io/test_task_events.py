"""What happened to tasks as a Chrome trace: the format, and what is drawn."""

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_services.sans_io.task_events import TaskEvent, What, chrome_trace

FAMILY = [
    TaskEvent(0.0, What.SPAWNED, 1, name="main"),
    TaskEvent(0.0, What.STARTED, 1),
    TaskEvent(0.001, What.SPAWNED, 2, name="child", parent=1),
    TaskEvent(0.001, What.READY, 2),
    TaskEvent(0.002, What.STOPPED, 1),
    TaskEvent(0.0025, What.STARTED, 2),
    TaskEvent(0.003, What.MARK, 2, name="the client left"),
    TaskEvent(0.004, What.STOPPED, 2),
    TaskEvent(0.005, What.MARK, 0, name="Ctrl-C"),
    TaskEvent(0.006, What.CANCELLED, 2, note="woken by main"),
    TaskEvent(0.006, What.STARTED, 2),
    TaskEvent(0.007, What.STOPPED, 2),
    TaskEvent(0.007, What.EXITED, 2, note="cancelled"),
]


def drawn(events: list[TaskEvent], **options: str) -> list[dict[str, Any]]:
    """Return the entries of a trace, as a reader of JSON gets them."""
    trace = json.loads(json.dumps(chrome_trace(events, **options), allow_nan=False))
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    entries: list[dict[str, Any]] = trace["traceEvents"]
    return entries


def test_a_family() -> None:
    """A parent and a child: their lives, their steps, the arrow between them, what befell them."""
    common = {"pid": 1}
    child = common | {"tid": 3}
    main = common | {"tid": 2}
    arrow = {"name": "spawned", "cat": "spawn", "id": 3, "ts": 1000.0}
    step = {"ph": "X", "name": "running", "cat": "step"}
    assert drawn(FAMILY, process="example") == [
        common | {"ph": "M", "name": "process_name", "args": {"name": "example"}},
        main | {"ph": "M", "name": "thread_name", "args": {"name": "main"}},
        child | {"ph": "M", "name": "thread_name", "args": {"name": "child"}},
        main | {"ph": "X", "name": "main", "cat": "task", "ts": 0.0, "dur": 7000.0, "args": {}},
        main | step | {"ts": 0.0, "dur": 2000.0, "args": {}},
        child
        | {"ph": "X", "name": "child", "cat": "task", "ts": 1000.0, "dur": 6000.0}
        | {"args": {"ended": "cancelled"}},
        main | arrow | {"ph": "s"},
        child | arrow | {"ph": "f", "bp": "e"},
        child | step | {"ts": 2500.0, "dur": 1500.0, "args": {"ready for µs": 1500.0}},
        child
        | {"ph": "i", "name": "the client left", "cat": "mark", "ts": 3000.0, "s": "t"}
        | {"args": {}},
        common
        | {"ph": "i", "name": "Ctrl-C", "cat": "mark", "ts": 5000.0, "s": "p", "tid": 1}
        | {"args": {}},
        child | step | {"ts": 6000.0, "dur": 1000.0, "args": {}},
        child
        | {"ph": "i", "name": "cancelled", "cat": "cancelled", "ts": 6000.0, "s": "t"}
        | {"args": {"note": "woken by main"}},
    ]


def test_nothing() -> None:
    """A trace of nothing is one that can be opened."""
    assert [entry["ph"] for entry in drawn([])] == ["M"]


def test_what_is_open_is_drawn_to_the_end() -> None:
    """A task that still runs when the recording ends is shown running until then."""
    events = [
        TaskEvent(1.0, What.SPAWNED, 1, name="main", note="before the recording began"),
        TaskEvent(2.0, What.STARTED, 1),
        TaskEvent(5.0, What.MARK, 1, name="still here"),
    ]
    life, step, _ = drawn(events)[2:]
    assert (life["ts"], life["dur"]) == (1e6, 4e6)
    assert life["args"] == {"note": "before the recording began"}
    assert (step["ts"], step["dur"]) == (2e6, 3e6)


@pytest.mark.parametrize("what", [What.STOPPED, What.EXITED, What.READY])
def test_a_recording_that_begins_late(what: What) -> None:
    """The end of something whose beginning was not recorded draws nothing, and breaks nothing."""
    assert [entry["ph"] for entry in drawn([TaskEvent(1.0, what, 7)])] == ["M"]


EVENTS = st.lists(
    st.builds(
        TaskEvent,
        st.floats(0, 1e5, allow_nan=False),
        st.sampled_from(What),
        st.integers(0, 4),
        name=st.text(max_size=5),
        parent=st.none() | st.integers(0, 4),
        note=st.text(max_size=5),
    ),
    max_size=30,
)

FIELDS = {
    "M": {"args", "name"},
    "X": {"name", "cat", "ts", "dur", "tid", "args"},
    "i": {"name", "cat", "ts", "s", "tid", "args"},
    "s": {"name", "cat", "ts", "id", "tid"},
    "f": {"name", "cat", "ts", "id", "tid", "bp"},
}
"""What each phase must have, besides `ph` and `pid`."""


@given(EVENTS)
def test_any_events(events: list[TaskEvent]) -> None:
    """Whatever was recorded, in whatever order: entries are complete, ordered and well nested."""
    entries = drawn(events)
    for entry in entries:
        assert set(entry) - {"tid"} >= FIELDS[entry["ph"]] - {"tid"} | {"ph", "pid"}
        assert "tid" in entry or entry["name"] == "process_name"
        assert entry.get("dur", 0) >= 0
    first_timed = next((i for i, entry in enumerate(entries) if "ts" in entry), len(entries))
    times = [entry["ts"] for entry in entries[first_timed:]]
    assert all(entry["ph"] == "M" for entry in entries[:first_timed])
    assert times == sorted(times)
    steps = defaultdict(list)
    for entry in entries:
        if entry.get("cat") == "step":
            steps[entry["tid"]].append(entry)
    for of_task in steps.values():  # a task runs once at a time
        ends = [entry["ts"] + entry["dur"] for entry in of_task]
        assert all(end <= later["ts"] + 0.01 for end, later in zip(ends, of_task[1:], strict=False))
