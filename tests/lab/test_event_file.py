"""Recordings as files, and with fewer events."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services_lab.event_file import (
    Recording,
    from_rows,
    read_events,
    read_recording,
    to_rows,
    write_recording,
)
from services_lab.event_log import OUTSIDE
from services_lab.thinning import thinned

from trio_services.sans_io.task_events import TaskEvent, What

EVENTS = (
    TaskEvent(0.0, What.SPAWNED, 1, "main"),
    TaskEvent(0.25, What.SPAWNED, 2, "child", 1),
    TaskEvent(0.5, What.CANCELLED, 2, note="by main"),
    TaskEvent(0.75, What.EXITED, 2, note="cancelled"),
)

names = st.text(max_size=3)
events = st.builds(
    TaskEvent,
    at=st.integers(0, 1000).map(float),
    what=st.sampled_from(What),
    task=st.integers(1, 5),
    name=names,
    parent=st.none() | st.integers(1, 5),
    note=names,
)


@given(st.lists(events))
def test_rows_are_events(given: list[TaskEvent]) -> None:
    """Events are the same after they have been rows, and rows end with what is not the default."""
    rows = to_rows(given)
    assert from_rows(rows) == tuple(given)
    assert all(len(row) == 3 or row[-1] not in ("", None) for row in rows)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A recording is the same after it has been a file, and no other file is left."""
    path = tmp_path / "events.json"
    recording = Recording(began=1000.5, dropped=3, events=EVENTS)
    write_recording(path, recording)
    assert read_recording(path) == recording
    assert [each.name for each in tmp_path.iterdir()] == ["events.json"]


def test_a_file_that_was_never_written(tmp_path: Path) -> None:
    """A recording that was not written, as after SIGKILL, is not found."""
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path / "events.json")


def test_marks_of_the_lab_are_put_where_they_happened(tmp_path: Path) -> None:
    """What the lab saw at a time of the system's clock stands at that time of the recording."""
    path = tmp_path / "events.json"
    write_recording(path, Recording(began=1000.0, dropped=0, events=EVENTS))
    found = read_events(path, {"the client left": 1000.6})
    assert [event.what for event in found] == [
        *(e.what for e in EVENTS[:3]),
        What.MARK,
        What.EXITED,
    ]
    assert found[3].at == pytest.approx(0.6)
    assert (found[3].name, found[3].task) == ("the client left", OUTSIDE)


def busy(tasks: int, steps: int) -> tuple[TaskEvent, ...]:
    """Return what tasks do that take turns in steps of a millisecond, and are cancelled."""
    found = [TaskEvent(0.0, What.SPAWNED, task, f"task {task}") for task in range(1, tasks + 1)]
    for step in range(steps):
        at = step * 0.001
        task = step % tasks + 1
        found += [
            TaskEvent(at, What.READY, task),
            TaskEvent(at, What.STARTED, task),
            TaskEvent(at + 0.0009, What.STOPPED, task),
        ]
    end = steps * 0.001
    for task in range(1, tasks + 1):
        found += [
            TaskEvent(end, What.STARTED, task),
            TaskEvent(end, What.CANCELLED, task),
            TaskEvent(end, What.STOPPED, task),
            TaskEvent(end, What.EXITED, task, note="cancelled"),
        ]
    return tuple(found)


def test_few_events_stay_as_they_are() -> None:
    """What is within the limit is not touched."""
    some = busy(3, 10)
    assert thinned(some, len(some)) == some


def test_steps_that_follow_closely_become_one() -> None:
    """Births, cancellations and ends are all kept; steps become fewer and stay alternating."""
    many = busy(3, 1000)
    few = thinned(many, 100)
    assert len(few) <= 100
    lasting = (What.SPAWNED, What.CANCELLED, What.EXITED)
    assert [e for e in few if e.what in lasting] == [e for e in many if e.what in lasting]
    for task in (1, 2, 3):
        steps = [e.what for e in few if e.task == task and e.what in (What.STARTED, What.STOPPED)]
        assert steps == [What.STARTED, What.STOPPED] * (len(steps) // 2)
        ran = [e.at for e in few if e.task == task and e.what is What.STARTED]
        assert min(ran) < 0.01


def test_too_many_tasks_are_left_out() -> None:
    """Where merging is not enough, the tasks that came first are kept, whole."""
    few = thinned(busy(500, 500), 100)
    assert len(few) <= 100
    assert {e.task for e in few} == set(range(1, max(e.task for e in few) + 1))


@given(st.lists(events, max_size=60), st.integers(4, 40))
def test_the_limit_is_kept(given: list[TaskEvent], limit: int) -> None:
    """Whatever the events are, there are at most `limit`, in the order in which they were."""
    ordered = sorted(given, key=lambda event: event.at)
    few = thinned(ordered, limit)
    assert len(few) <= limit
    rest = iter(ordered)
    assert all(any(event is each for each in rest) for event in few)
