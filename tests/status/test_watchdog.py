"""The watchdog: what it reports, what it does not, and that nothing of it is left over."""

import logging
import sys
import threading
import traceback
from itertools import pairwise

import pytest
import trio

from trio_services.status.await_stacks import Frame
from trio_services.status.watchdog import (
    INTERVAL,
    REPORT_INTERVAL,
    THRESHOLD,
    BusyStep,
    Judge,
    log_busy_step,
    watch_steps,
)

PATIENCE = 60.0
"""Seconds after which a test gives up; it takes a small part of one."""

Reported = list[tuple[float, float, int]]


class Watched:
    """A loop's thread and a watchdog's looks at it, on a clock that is told what time it is."""

    def __init__(self) -> None:
        self.now = 100.0
        self.used = 5.0
        self.step: object = None
        self.began = 0.0
        self.judge = Judge(THRESHOLD, self.now, self.used)

    def look(self) -> tuple[float, float, int] | None:
        """Look once; return what was found, in hundredths."""
        found = self.judge.look(self.now, self.used, self.step, self.began)
        if not found:
            return None
        return round(found.seconds, 2), round(found.on_processor, 2), found.unreported

    def begin(self) -> None:
        """Begin a step."""
        self.step, self.began = object(), self.now

    def idle(self, seconds: float) -> None:
        """Let the loop wait."""
        self.step = None
        self.go_on(seconds, busy=0.0)

    def go_on(self, seconds: float, *, busy: float = 1.0) -> Reported:
        """Look every INTERVAL while a step uses the processor for a part of the time."""
        found: Reported = []
        for _ in range(round(seconds / INTERVAL)):
            self.now += INTERVAL
            self.used += INTERVAL * busy
            if each := self.look():
                found.append(each)
        return found


def test_a_long_step_is_reported_while_it_goes_on() -> None:
    """It is reported as soon as it is too long, and not again before it is twice as long."""
    watched = Watched()
    watched.begin()
    assert watched.go_on(THRESHOLD - INTERVAL) == []
    (first,) = watched.go_on(0.5)
    assert first[0] == pytest.approx(THRESHOLD, abs=INTERVAL)
    assert first[1:] == (1.0, 0)
    later = watched.go_on(20)
    assert 3 <= len(later) <= 6
    lengths = [first[0], *(each[0] for each in later)]
    assert all(2 * short <= long for short, long in pairwise(lengths))


def test_short_steps_are_not_reported() -> None:
    """Any number of steps that are short are fine, also when each look finds one of them."""
    watched = Watched()
    for _ in range(1000):
        watched.begin()
        assert watched.go_on(INTERVAL) == []


def test_a_step_that_waits() -> None:
    """A step that blocks without using the processor is reported as such."""
    watched = Watched()
    watched.begin()
    (found,) = watched.go_on(0.2, busy=0.0)
    assert found[1] == 0.0


def test_a_machine_that_sleeps() -> None:
    """Time in which neither the loop nor the watchdog ran is not the step's."""
    watched = Watched()
    watched.begin()
    watched.now += 3600
    assert watched.look() is None
    watched.idle(1)
    watched.begin()
    assert watched.go_on(INTERVAL) == []
    watched.now += 3600
    assert watched.look() is None
    (found,) = watched.go_on(3 * INTERVAL)
    assert found[0] == pytest.approx(THRESHOLD, abs=2 * INTERVAL)


def test_native_code_that_keeps_the_interpreter() -> None:
    """Time in which the watchdog could not run since the loop's thread was busy is the step's."""
    watched = Watched()
    watched.begin()
    watched.now += 3
    watched.used += 3
    assert watched.look() == (3.0, 1.0, 0)


def test_reports_are_bounded() -> None:
    """However many steps are too long, there is one report an interval, which counts the others."""
    watched = Watched()
    reports = []
    steps = 100
    for _ in range(steps):
        watched.begin()
        reports += watched.go_on(2 * THRESHOLD)
    elapsed = steps * 2 * THRESHOLD
    assert elapsed / (REPORT_INTERVAL + 4 * THRESHOLD) <= len(reports) <= elapsed + 1
    ended = sum(unreported for _, _, unreported in reports) + len(reports)
    assert steps - REPORT_INTERVAL / THRESHOLD <= ended <= steps


def keep_busy(until: threading.Event) -> None:
    """Hold the loop until it was noticed."""
    assert until.wait(PATIENCE)


@pytest.mark.parametrize("threshold", [THRESHOLD, 0.01])
async def test_a_task_that_holds_the_loop(threshold: float) -> None:
    """The report comes while the loop is held: who, for how long, and where at that moment."""
    reports: list[BusyStep] = []
    noticed = threading.Event()

    def report(step: BusyStep) -> None:
        # Whatever else takes long on a busy machine is none of this test's business.
        if any(frame.function == "keep_busy" for frame in step.stack):
            reports.append(step)
            noticed.set()

    async def culprit() -> None:
        keep_busy(noticed)

    async with trio.open_nursery() as nursery:

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            await watch_steps(report, threshold=threshold, task_status=task_status)

        await nursery.start(watch)
        nursery.start_soon(culprit, name="culprit")
        while not reports:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    step = reports[0]
    assert step.task == "culprit"
    assert threshold <= step.seconds < PATIENCE
    assert 0.0 <= step.on_processor <= 1.0
    functions = [frame.function.rpartition(".")[2] for frame in step.stack]
    assert functions[:2] == ["culprit", "keep_busy"]
    assert step.stack[1].line == keep_busy.__code__.co_firstlineno + 2


def threads_that_look() -> int:
    """Return how many threads are in a watchdog."""
    names: list[str] = []
    for frame in sys._current_frames().values():
        names += [each.f_code.co_name for each, _ in traceback.walk_stack(frame)]
    return names.count("_look_until")


async def test_nothing_is_left_over() -> None:
    """When the watchdog is cancelled its thread has ended, and Trio calls it no more."""
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_steps)
        with trio.fail_after(PATIENCE):
            while not threads_that_look():
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert not threads_that_look()


async def test_a_report_that_fails() -> None:
    """What the callback raises is raised where the watchdog runs: it is a bug, and loud."""

    class Bug(Exception):
        pass

    raised = threading.Event()

    def report(step: BusyStep) -> None:
        raised.set()
        raise Bug

    async def watched() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_steps, report)
            keep_busy(raised)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as found:
        await watched()
    assert found.group_contains(Bug)


def test_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The log says who, how long and where, in characters that print."""
    stack = (
        Frame("/home/me/main.py", 7, "handle", "__main__"),
        Frame("/lib/json/__init__.py", 1, "loads\n", "json"),
    )
    with caplog.at_level(logging.WARNING):
        log_busy_step(BusyStep("sort\x1b", 0.1234, 0.5, stack, 3))
        log_busy_step(BusyStep("sort", 2.0, 1.0, (), 0))
    assert [each.getMessage() for each in caplog.records] == [
        "sort\\x1b keeps the loop busy, for 0.12 s so far, 50% of it on the processor"
        " (3 more since the last report)\n"
        "    at main.py:7 handle\n"
        "    at __init__.py:1 loads\\n",
        "sort keeps the loop busy, for 2.00 s so far, 100% of it on the processor",
    ]
