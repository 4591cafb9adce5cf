"""Recording what tasks do: known programs exactly, bounded memory, and files that are whole."""

import json
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_services.sans_io.task_events import TaskEvent, What
from trio_services.status.trace import PROGRAM, TraceRecorder, record_to

Told = list[tuple[What, str, str]]


def record(main: Callable[[TraceRecorder], Awaitable[None]]) -> tuple[TaskEvent, ...]:
    """Run a program on a clock that jumps; return everything that was recorded."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    recorder = TraceRecorder(clock=clock.current_time)
    trio.run(main, recorder, clock=clock, instruments=[recorder])
    return recorder.events()


def short(name: str) -> str:
    """Return a name without its module."""
    return name.rpartition(".")[2]


def names_in(events: tuple[TaskEvent, ...]) -> dict[int, str]:
    """Return the short name of each task."""
    return {each.task: short(each.name) for each in events if each.what is What.SPAWNED}


def told_of(events: tuple[TaskEvent, ...], *tasks: str, what: set[What] | None = None) -> Told:
    """Return what happened to tasks of these names."""
    names = names_in(events)
    return [
        (each.what, names[each.task], " ".join(map(short, each.note.split())))
        for each in events
        if names.get(each.task) in tasks and (what is None or each.what in what)
    ]


CHANGES = {What.SPAWNED, What.CANCELLED, What.EXITED}


def test_a_known_program() -> None:
    """Every event of a parent and its child, in order, at its time."""

    async def child() -> None:
        await trio.sleep(1)

    async def main(recorder: TraceRecorder) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, name="child")
            recorder.mark("spawned it")
        await trio.sleep(2)

    events = record(main)
    numbers = {name: number for number, name in names_in(events).items()}
    parent, small = numbers["main"], numbers["child"]
    assert [each for each in events if each.task in (parent, small)] == [
        TaskEvent(0.0, What.SPAWNED, parent, name=events_name(events, parent), parent=1),
        TaskEvent(0.0, What.READY, parent),
        TaskEvent(0.0, What.STARTED, parent),
        TaskEvent(0.0, What.SPAWNED, small, name="child", parent=parent),
        TaskEvent(0.0, What.READY, small),
        TaskEvent(0.0, What.MARK, parent, name="spawned it"),
        TaskEvent(0.0, What.STOPPED, parent),
        TaskEvent(0.0, What.STARTED, small),
        TaskEvent(0.0, What.STOPPED, small),
        TaskEvent(1.0, What.READY, small),
        TaskEvent(1.0, What.STARTED, small),
        TaskEvent(1.0, What.READY, parent),
        TaskEvent(1.0, What.STOPPED, small),
        TaskEvent(1.0, What.EXITED, small),
        TaskEvent(1.0, What.STARTED, parent),
        TaskEvent(1.0, What.STOPPED, parent),
        TaskEvent(3.0, What.READY, parent),
        TaskEvent(3.0, What.STARTED, parent),
        TaskEvent(3.0, What.STOPPED, parent),
        TaskEvent(3.0, What.EXITED, parent),
    ]


def events_name(events: tuple[TaskEvent, ...], task: int) -> str:
    """Return the full name of a task."""
    return next(each.name for each in events if each.what is What.SPAWNED and each.task == task)


def test_cancelled_by_a_sibling() -> None:
    """Who cancelled is told, and that the cancelled task ended so."""

    async def main(recorder: TraceRecorder) -> None:
        async with trio.open_nursery() as nursery:

            async def canceller() -> None:
                await trio.sleep(1)
                nursery.cancel_scope.cancel()

            nursery.start_soon(trio.sleep_forever, name="sleeper")
            nursery.start_soon(canceller, name="canceller")

    assert told_of(record(main), "sleeper", what=CHANGES) == [
        (What.SPAWNED, "sleeper", ""),
        (What.CANCELLED, "sleeper", "woken by canceller"),
        (What.EXITED, "sleeper", "cancelled"),
    ]


def test_cancelled_since_a_sibling_failed() -> None:
    """A task that fails is told to have woken those that are cancelled for it."""

    async def failing() -> None:
        await trio.sleep(1)
        raise ValueError

    async def main(recorder: TraceRecorder) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever, name="sleeper")
                nursery.start_soon(failing, name="failing")
        except* ValueError:
            pass

    assert told_of(record(main), "sleeper", "failing", what={What.CANCELLED, What.EXITED}) == [
        (What.EXITED, "failing", ""),
        (What.CANCELLED, "sleeper", "woken by failing"),
        (What.EXITED, "sleeper", "cancelled"),
    ]


@pytest.mark.parametrize("own", [True, False])
def test_cancelled_by_a_deadline(own: bool) -> None:
    """A deadline is told, whether it is the task's own or one around it; a sleep is none."""

    async def waiting() -> None:
        with trio.move_on_after(1 if own else 100):
            await trio.sleep(50)
        await trio.sleep(5)

    async def main(recorder: TraceRecorder) -> None:
        with trio.move_on_after(100 if own else 1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(waiting, name="waiting")

    cancelled = (What.CANCELLED, "waiting", "woken by a deadline")
    ended = (What.EXITED, "waiting", "" if own else "cancelled")
    assert told_of(record(main), "waiting", what={What.CANCELLED, What.EXITED}) == [
        cancelled,
        ended,
    ]


def test_cancelled_again() -> None:
    """A cancellation is told once however often it is raised, and the next one is told again."""

    async def stubborn(scope: trio.CancelScope) -> None:
        with scope:
            for _ in range(3):
                with pytest.raises(trio.Cancelled):
                    await trio.sleep_forever()
        with trio.move_on_after(1):
            await trio.sleep_forever()

    async def main(recorder: TraceRecorder) -> None:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(stubborn, scope, name="stubborn")
            await trio.sleep(1)
            scope.cancel()

    assert told_of(record(main), "stubborn", what={What.CANCELLED, What.EXITED}) == [
        (What.CANCELLED, "stubborn", "woken by main"),
        (What.CANCELLED, "stubborn", "woken by a deadline"),
        (What.EXITED, "stubborn", ""),
    ]


def test_a_new_task_in_a_cancelled_nursery() -> None:
    """Whoever spawned a task is not said to have cancelled it."""

    async def main(recorder: TraceRecorder) -> None:
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.cancel()
            nursery.start_soon(trio.sleep_forever, name="late")

    assert (What.CANCELLED, "late", "") in told_of(record(main), "late")


async def test_on_a_running_loop(nursery: trio.Nursery) -> None:
    """Recording starts and stops while the loop runs; tasks that were there are known."""
    again = trio.Event()

    async def early() -> None:
        await again.wait()
        recorder.mark("was early")

    nursery.start_soon(early, name="early")
    await trio.testing.wait_all_tasks_blocked()
    recorder = TraceRecorder()
    recorder.start()
    again.set()
    await trio.testing.wait_all_tasks_blocked()
    recorder.stop()
    events = recorder.events()
    await trio.lowlevel.checkpoint()
    recorder.stop()  # once more is once
    assert recorder.events() == events
    names = names_in(events)
    (mark,) = [each for each in events if each.what is What.MARK]
    assert (mark.name, names[mark.task]) == ("was early", "early")
    parents = {each.task: each.parent for each in events if each.what is What.SPAWNED}
    me = short(trio.lowlevel.current_task().name)
    assert names[parents[mark.task] or PROGRAM] == me
    before = "before the recording began"
    assert told_of(events, "early")[0] == (What.SPAWNED, "early", before)
    assert told_of(events, me)[:2] == [(What.SPAWNED, me, before), (What.STARTED, me, "")]

    recorder.start()
    recorder.stop()
    assert "early" not in names_in(recorder.events()).values()  # a recording of its own


async def test_off_means_off() -> None:
    """After stopping, Trio has no instrument left to call."""
    recorder = TraceRecorder()
    recorder.start()
    recorder.stop()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(recorder)


async def test_memory_is_bounded() -> None:
    """However much happens, the newest events are kept, and the names of their tasks."""
    recorder = TraceRecorder(capacity=50)
    recorder.start()
    living = len(recorder.events())
    for _ in range(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint, name="brief")
    recorder.mark("at last")
    recorder.stop()
    events = recorder.events()
    assert recorder.dropped > 300
    assert len(events) <= 50 + living + 50
    assert events[-1].name == "at last"
    assert {each.task for each in events} == set(names_in(events))


def test_marks_of_no_task() -> None:
    """What is marked outside of tasks is marked for the program."""
    recorder = TraceRecorder()
    recorder.mark("before anything ran")
    (mark,) = recorder.events()
    assert (mark.what, mark.task, mark.name) == (What.MARK, PROGRAM, "before anything ran")


async def test_scopes_nested_deeply(caplog: pytest.LogCaptureFixture) -> None:
    """A task in more scopes than Trio can add up is recorded all the same."""
    recorder = TraceRecorder()
    with ExitStack() as scopes, caplog.at_level(logging.WARNING):
        for _ in range(3000):
            scopes.enter_context(trio.CancelScope())
        recorder.start()
        await trio.lowlevel.checkpoint()
        recorder.mark("still recording")
        trio.lowlevel.remove_instrument(recorder)
    assert recorder.events()[-1].name == "still recording"
    assert not caplog.records


class Crash(Exception):
    """What a program that is recorded may end with."""


async def recorded_program(path: Path) -> None:
    """Be recorded, and cancelled."""
    with record_to(path) as recorder:
        recorder.mark("in")
        await trio.sleep_forever()


async def test_a_file_when_cancelled(tmp_path: Path) -> None:
    """Cancelling what is recorded still writes the whole file."""
    path = tmp_path / "trace.json"
    with trio.move_on_after(0):
        await recorded_program(path)
    assert "in" in names_in_file(path)


def test_a_file_when_crashed(tmp_path: Path) -> None:
    """A program that crashes leaves the trace of what led to it, in place of an older file."""
    path = tmp_path / "trace.json"
    path.write_text("older")

    async def main() -> None:
        recorder.mark("in")
        raise Crash

    with pytest.raises(Crash), record_to(path, process="example") as recorder:
        trio.run(main, instruments=[recorder])
    assert names_in_file(path) >= {"in", "process_name", f"{__name__}.{main.__qualname__}"}


def names_in_file(path: Path) -> set[str]:
    """Return the names of what is drawn in a trace."""
    assert list(path.parent.iterdir()) == [path], "it is the only file that is left"
    return {entry["name"] for entry in json.loads(path.read_text())["traceEvents"]}


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A path that leads nowhere is an error before anything is run."""
    with pytest.raises(FileNotFoundError):
        with record_to(tmp_path / "missing" / "trace.json"):
            pytest.fail("it was run")


def test_what_is_no_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or a pipe is refused before anything is run, and is left as it was."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    for path in ("", ".", "/", "..", "folder", "pipe"):
        with pytest.raises(OSError, match="not a file"), record_to(path):
            pytest.fail("it was run")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "pipe"]
    assert Path("pipe").is_fifo()


def test_a_link_to_a_file(tmp_path: Path) -> None:
    """What it leads to is written, and the link stays one."""
    file, link = tmp_path / "trace.json", tmp_path / "link"
    file.write_text("older")
    link.symlink_to(file)
    with record_to(link):
        pass
    assert link.is_symlink()
    assert "traceEvents" in json.loads(file.read_text())
