"""The recorders: what the tasks of known programs did, on every runtime.

The programs say the same in each library. What a runtime is free to do (which of two ready tasks
runs first, how often a task that waits is woken) is not asserted.
"""

import asyncio
import gc
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import uvloop
from services_lab.asyncio_recorder import AsyncioRecorder
from services_lab.event_file import read_events, read_recording
from services_lab.event_log import DESTROYED, OUTSIDE, THREAD, EventLog
from services_lab.program import RUNTIMES
from services_lab.recorded import runtime_of
from services_lab.recorders import recording
from services_lab.server import open_server
from services_lab.trio_recorder import TrioRecorder
from services_lab.variants import VARIANTS

from trio_services.sans_io.task_events import TaskEvent, What

ASYNCIO = ("asyncio", "uvloop")
ON_ASYNCIO = tuple(each for each in RUNTIMES if not each.endswith("trio"))
ON_TRIO = ("trio", "anyio-trio")

Program = Callable[[EventLog], Awaitable[None]]


def run(runtime: str, *programs: Program) -> tuple[TaskEvent, ...]:
    """Run the program for the library of `runtime`: of AnyIO, or else of its own; return events."""
    names = [program.__name__ for program in programs]
    wanted = "anyio" if runtime.startswith("anyio") else "trio" if runtime == "trio" else "asyncio"
    [program] = [each for each, name in zip(programs, names, strict=True) if wanted in name]
    library, _, backend = runtime.rpartition("-")
    with recording(runtime) as log:
        if library:
            options = {"use_uvloop": True} if backend == "uvloop" else {}
            under = "trio" if backend == "trio" else "asyncio"
            anyio.run(program, log, backend=under, backend_options=options)
        elif runtime == "trio":
            trio.run(program, log)
        elif runtime == "uvloop":
            uvloop.run(as_coroutine(program, log))
        else:
            asyncio.run(as_coroutine(program, log))
    return log.events()


MAIN = {"asyncio": "as_coroutine", "uvloop": "main"}
"""What the task of the main function is called."""


async def as_coroutine(program: Program, log: EventLog) -> None:
    """Run it under the name of the main function."""
    await program(log)


def number(events: tuple[TaskEvent, ...], name: str) -> int:
    """Return the number of the task of this name, or of a function of this name."""
    [found] = [
        e.task
        for e in events
        if e.what is What.SPAWNED and (e.name == name or e.name.endswith(f".{name}"))
    ]
    return found


def story(events: tuple[TaskEvent, ...], name: str) -> list[str]:
    """Return what happened to a task, without its steps."""
    task = number(events, name)
    steps = (What.READY, What.STARTED, What.STOPPED, What.MARK, What.SPAWNED)
    told = [f"{e.what} {e.note}" for e in events if e.task == task and e.what not in steps]
    return [each.strip() for each in told]


def parent(events: tuple[TaskEvent, ...], name: str) -> int | None:
    """Return the number of the task that is told to have started it."""
    task = number(events, name)
    return next(e.parent for e in events if e.what is What.SPAWNED and e.task == task)


# One child returns, one fails; the third and the parent are cancelled.


async def asyncio_failure(log: EventLog) -> None:
    """A TaskGroup."""
    failed = asyncio.Event()

    async def returns() -> None:
        await asyncio.sleep(0)

    async def fails() -> None:
        log.mark("the fault")
        failed.set()
        raise ValueError("no\nmore")

    async def waits() -> None:
        await asyncio.Event().wait()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits(), name="waiting")
            await group.create_task(returns(), name="returning")
            group.create_task(fails(), name="failing")
            await failed.wait()
    except* ValueError:
        pass


async def anyio_failure(log: EventLog) -> None:
    """AnyIO's TaskGroup."""
    failed, returned = anyio.Event(), anyio.Event()

    async def returns() -> None:
        await anyio.lowlevel.checkpoint()
        returned.set()

    async def fails() -> None:
        log.mark("the fault")
        failed.set()
        raise ValueError("no\nmore")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever, name="waiting")
            group.start_soon(returns, name="returning")
            await returned.wait()
            group.start_soon(fails, name="failing")
            await failed.wait()
    except* ValueError:
        pass


async def trio_failure(log: EventLog) -> None:
    """A nursery."""
    failed, returned = trio.Event(), trio.Event()

    async def returns() -> None:
        await trio.lowlevel.checkpoint()
        returned.set()

    async def fails() -> None:
        log.mark("the fault")
        failed.set()
        raise ValueError("no\nmore")

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="waiting")
            nursery.start_soon(returns, name="returning")
            await returned.wait()
            nursery.start_soon(fails, name="failing")
            await failed.wait()
    except* ValueError:
        pass


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_who_fails_who_is_cancelled_who_returns(runtime: str) -> None:
    """On every runtime a recording tells how each task ended, and who was cancelled."""
    events = run(runtime, asyncio_failure, anyio_failure, trio_failure)
    assert story(events, "returning") == ["exited returned"]
    assert story(events, "failing") == ["exited raised ValueError: no"]
    *cancelled, exited = story(events, "waiting")
    assert cancelled
    assert {each.partition(" ")[0] for each in cancelled} == {"cancelled"}
    assert exited == "exited cancelled"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_who_started_whom(runtime: str) -> None:
    """The parent of a task is the one that opened the group in which it runs."""
    events = run(runtime, asyncio_failure, anyio_failure, trio_failure)
    mains = {parent(events, name) for name in ("waiting", "returning", "failing")}
    [main] = mains
    birth = next(e for e in events if e.what is What.SPAWNED and e.task == main)
    assert birth.name.rpartition(".")[2] in (
        "main",
        "as_coroutine",
        "anyio_failure",
        "trio_failure",
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_steps_alternate(runtime: str) -> None:
    """A task starts and stops in turn from its birth to its end; time never goes back."""
    events = run(runtime, asyncio_failure, anyio_failure, trio_failure)
    assert [e.at for e in events] == sorted(e.at for e in events)
    for task in {e.task for e in events if e.what is What.SPAWNED}:
        own = [e.what for e in events if e.task == task and e.what is not What.MARK]
        assert own[0] is What.SPAWNED
        steps = [what for what in own if what in (What.STARTED, What.STOPPED)]
        assert steps == [What.STARTED, What.STOPPED] * (len(steps) // 2)
        if What.EXITED in own:
            assert own[-1] is What.EXITED


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_marks_belong_to_the_task_that_makes_them(runtime: str) -> None:
    """A mark has its text, and the number of the task that made it."""
    events = run(runtime, asyncio_failure, anyio_failure, trio_failure)
    [mark] = [e for e in events if e.what is What.MARK]
    assert (mark.name, mark.task) == ("the fault", number(events, "failing"))


# A task is started in the group of one task by another.


async def asyncio_deputy(log: EventLog) -> None:
    """A TaskGroup that somebody else was given."""
    done = asyncio.Event()

    async def deputy(group: asyncio.TaskGroup) -> None:
        group.create_task(done.wait(), name="child")

    async with asyncio.TaskGroup() as group:
        await asyncio.create_task(deputy(group), name="deputy")
        done.set()


async def anyio_deputy(log: EventLog) -> None:
    """AnyIO's TaskGroup."""
    async with anyio.create_task_group() as group, anyio.create_task_group() as deputies:

        async def deputy() -> None:
            group.start_soon(anyio.lowlevel.checkpoint, name="child")

        deputies.start_soon(deputy, name="deputy")


async def trio_deputy(log: EventLog) -> None:
    """A nursery."""
    async with trio.open_nursery() as group, trio.open_nursery() as deputies:

        async def deputy() -> None:
            group.start_soon(trio.lowlevel.checkpoint, name="child")

        deputies.start_soon(deputy, name="deputy")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_task_belongs_to_whose_group_it_is_in(runtime: str) -> None:
    """Whoever calls `create_task` of a group, its host is the parent."""
    events = run(runtime, asyncio_deputy, anyio_deputy, trio_deputy)
    assert parent(events, "child") == parent(events, "deputy")


# A thread that is started by a task.


async def asyncio_thread(log: EventLog) -> None:
    """Wait for a thread."""
    await asyncio.to_thread(enter, log.thread("the thread"))


async def anyio_thread(log: EventLog) -> None:
    """Wait for a thread."""
    await anyio.to_thread.run_sync(enter, log.thread("the thread"))


async def trio_thread(log: EventLog) -> None:
    """Wait for a thread."""
    await trio.to_thread.run_sync(enter, log.thread("the thread"))


def enter(block: Any) -> None:
    """Run a block in this thread."""
    with block:
        pass


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_thread_is_a_lane_of_its_task(runtime: str) -> None:
    """A thread is recorded as a child of the task that started it, and as a thread."""
    events = run(runtime, asyncio_thread, anyio_thread, trio_thread)
    assert story(events, "the thread") == ["exited ended"]
    [birth] = [e for e in events if e.name == "the thread"]
    assert birth.note == THREAD
    assert birth.parent in {e.task for e in events if e.what is What.SPAWNED}


# What is special to asyncio.


@pytest.mark.parametrize("runtime", ASYNCIO)
def test_a_task_that_is_collected(runtime: str, caplog: pytest.LogCaptureFixture) -> None:
    """A task that nobody holds ends when it is collected, as if it were not recorded."""

    async def asyncio_main(log: EventLog) -> None:
        async def lost() -> None:
            await asyncio.get_running_loop().create_future()

        asyncio.create_task(lost(), name="lost")  # noqa: RUF006 - that it is lost is the point
        await asyncio.sleep(0)
        gc.collect()

    events = run(runtime, asyncio_main)
    assert story(events, "lost") == [f"exited {DESTROYED}"]
    assert "Task was destroyed but it is pending!" in caplog.text


@pytest.mark.parametrize("runtime", ASYNCIO)
def test_who_asked_for_a_cancellation(runtime: str) -> None:
    """A cancellation names the task that asked for it; one that is swallowed is recorded too."""

    async def asyncio_main(log: EventLog) -> None:
        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)

        task = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        task.cancel()
        await task

    events = run(runtime, asyncio_main)
    assert story(events, "stubborn") == [
        f"cancelled by {MAIN[runtime]}",
        "exited returned",
    ]


@pytest.mark.parametrize("runtime", ASYNCIO)
def test_a_task_is_still_itself(runtime: str) -> None:
    """A recorded task has the name, coroutine, stack and deadlines that it has anyway."""
    seen: dict[str, object] = {}

    async def asyncio_main(log: EventLog) -> None:
        async def child() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(child(), name="mine")
        unnamed = asyncio.create_task(child())
        await asyncio.sleep(0)
        seen["repr"] = repr(task)
        seen["stack"] = [frame.f_code.co_name for frame in task.get_stack()]
        seen["unnamed"] = unnamed.get_name()
        unnamed.cancel()
        try:
            async with asyncio.timeout(0):
                await task
        except TimeoutError:
            seen["timeout"] = task.cancelled()

    events = run(runtime, asyncio_main)
    assert "<Task pending name='mine' coro=<" in str(seen["repr"])
    assert "child() running at" in str(seen["repr"])
    assert seen["stack"] == ["child"]
    assert str(seen["unnamed"]).startswith("Task-")
    assert seen["timeout"] is True
    assert story(events, "child") == [f"cancelled by {MAIN[runtime]}", "exited cancelled"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_an_eager_task() -> None:
    """A task whose first step runs while it is created is recorded from birth to end."""

    async def main(log: AsyncioRecorder) -> None:
        async def child() -> None:
            log.mark("within")

        loop = asyncio.get_running_loop()
        task = log.create_task(loop, child(), name="eager", eager_start=True)
        assert task.done()

    log = AsyncioRecorder()
    with asyncio.Runner() as runner, log.installed(runner.get_loop()):
        runner.run(main(log))
    events = log.events()
    assert story(events, "eager") == ["exited returned"]
    assert [e.task for e in events if e.what is What.MARK] == [number(events, "eager")]


# What is special to Trio.


@pytest.mark.parametrize("runtime", ON_TRIO)
def test_a_sleep_that_is_over_is_no_cancellation(runtime: str) -> None:
    """Trio ends a sleep by cancelling it, which is nobody's business; other deadlines are told."""

    async def trio_main(log: EventLog) -> None:
        await trio.sleep(0.001)
        with trio.move_on_after(0):
            await trio.sleep(1)

    async def anyio_main(log: EventLog) -> None:
        await trio_main(log)

    events = run(runtime, trio_main, anyio_main)
    assert story(events, f"{runtime.partition('-')[0]}_main") == [
        "cancelled due to deadline",
        "exited returned",
    ]


def test_why_trio_cancels() -> None:
    """A cancellation tells its source and its reason, as Trio's `Cancelled` does."""
    events = run("trio", trio_failure)
    assert story(events, "waiting")[0].startswith(
        "cancelled due to nursery: child task raised exception ValueError"
    )


def test_ready_is_recorded_on_trio() -> None:
    """Trio tells when a task becomes ready, so waiting for the loop can be told from waiting."""
    events = run("trio", trio_failure)
    own = [e.what for e in events if e.task == number(events, "returning")]
    assert own[:3] == [What.SPAWNED, What.READY, What.STARTED]


# Recording itself.


def test_nothing_stays_installed() -> None:
    """Outside of `recording`, and in loops that run there, everything is as it was."""
    before = asyncio.Runner.run, trio.run
    with recording("asyncio"), recording("trio"):
        assert (asyncio.Runner.run, trio.run) != before
    assert (asyncio.Runner.run, trio.run) == before

    async def main() -> object:
        return asyncio.get_running_loop().get_task_factory()

    assert asyncio.run(main()) is None


def test_memory_is_bounded() -> None:
    """The newest events are kept, and the births of the tasks that they are about."""
    log = TrioRecorder(capacity=30)

    async def main() -> None:
        for _ in range(100):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)

    trio.run(main, instruments=[log])
    events = log.events()
    births = {e.task: e.name for e in events if e.what is What.SPAWNED}
    assert len(events) - len(births) == 30
    assert log.dropped > 100
    assert {e.task for e in events} <= set(births)
    assert len(births) < 20
    assert any(name.endswith("main") for name in births.values())


def test_a_mark_from_outside() -> None:
    """A mark that no task makes belongs to none."""
    for log in (AsyncioRecorder(), TrioRecorder()):
        thread = threading.Thread(target=log.mark, args=("from a thread",))
        thread.start()
        thread.join()
        [event] = log.events()
        assert (event.what, event.task) == (What.MARK, OUTSIDE)


def test_the_file_is_written_however_it_ends(tmp_path: Path) -> None:
    """An exception that escapes the program leaves the recording behind."""
    path = tmp_path / "events.json"

    async def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), recording("asyncio", path):
        asyncio.run(main())
    assert [e.note for e in read_events(path) if e.what is What.EXITED] == [
        "raised ZeroDivisionError"
    ]
    assert read_recording(path).dropped == 0


@pytest.mark.parametrize(
    "name", ["trio", "asyncio", "anyio-uvloop", "original-sort", "original-dns-uvloop"]
)
async def test_a_server_is_recorded(name: str, tmp_path: Path) -> None:
    """A variant that is told to stop leaves a recording, even an original, which just dies."""
    variant = VARIANTS[name]
    if variant.missing():
        pytest.skip(variant.missing() or "")
    async with open_server(
        variant, name="recorded", home=tmp_path, folder=tmp_path, record=True
    ) as server:
        status = await server.stop()
    assert status == (-15 if variant.is_original else 0)
    names = [e.name for e in server.events() if e.what is What.SPAWNED]
    assert any("serve" in each or each == "main" for each in names)


def test_the_runtime_of_a_command() -> None:
    """Whatever a variant is run by tells what it runs on."""
    for variant in VARIANTS.values():
        words = variant.arguments("ready.json")
        package = words.index("-m") + 1
        assert runtime_of(words[package], words[package + 1 :]) == variant.runtime[-1]
    with pytest.raises(LookupError, match="no variant is run by: nothing at all"):
        runtime_of("nothing", ["at", "all"])
