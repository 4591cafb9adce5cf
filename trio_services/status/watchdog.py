"""Reports a task that keeps the loop busy, by name and with its stack, while it is doing so.

While a task runs nothing else does, so it takes a thread to look. An instrument notes which task
runs and since when (once a step, and once a pass of the loop); each INTERVAL a thread looks whether
that step has been going on for too long, and if so where it is. A step that never ends is reported
as well, and each time that it has lasted twice as long, with the stack of that moment.

What is not the task's fault is told apart. If the machine sleeps, or gives the whole process no
time, this thread does not run either: when it looks much too late, the time since its last look is
taken off, but for what the loop's thread was on the processor. If only the loop's thread gets no
time, the report's `on_processor` is small, as it is for a call that blocks; the stack tells which.

Native code that keeps the interpreter to itself (sorting a long list, say) keeps this thread out as
well; it is seen as soon as it lets go, in the line that called it. A call that blocks *and* keeps
the interpreter looks like a machine that sleeps.
"""

import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType

import trio
from trio.lowlevel import Task

from trio_services.status.await_stacks import Frame, frame_at
from trio_services.status.task_tree_text import describe, printable

THRESHOLD = 0.1
"""Seconds of one step from which on it is reported: other tasks, and clients, notice."""

INTERVAL = 0.05
"""Seconds between two looks; what lasts longer than THRESHOLD and this is never missed."""

REPORT_INTERVAL = 1.0
"""Seconds between two reports at least; what is found meanwhile is counted."""

FRAMES = 50
"""Frames of a report, the innermost: a stack that recurses has thousands."""

logger = logging.getLogger("trio_services")


@dataclass(frozen=True, slots=True)
class BusyStep:
    """A step that keeps the loop busy.

    Attributes:
        task: The name of the task.
        seconds: For how long it does, until now.
        on_processor: For about how much of that the loop's thread was on a processor, from 0 to 1;
            other threads count as well where the system does not tell them apart.
        stack: Where it is, outermost first, from the task's function on.
        unreported: How many others ended unreported since the last report, as that was too recent.
    """

    task: str
    seconds: float
    on_processor: float
    stack: tuple[Frame, ...]
    unreported: int


def log_busy_step(step: BusyStep) -> None:
    """Log a warning."""
    more = f" ({step.unreported} more since the last report)" if step.unreported else ""
    stack = "".join(f"\n    at {printable(describe(frame))}" for frame in step.stack)
    logger.warning(
        "%s keeps the loop busy, for %.2f s so far, %.0f%% of it on the processor%s%s",
        printable(step.task), step.seconds, 100 * step.on_processor, more, stack,
    )  # fmt: skip


async def watch_steps(
    report: Callable[[BusyStep], object] = log_busy_step,
    *,
    threshold: float = THRESHOLD,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Report steps that keep this loop busy for longer than `threshold` seconds; never returns.

    Args:
        report: Called for each, in a thread, while the loop is busy: it must not wait for the loop.
        threshold: Seconds.

    Error handling: what `report` raises is raised here.

    Cancellation: ends the thread, and waits for that: INTERVAL at the most, and the report.
    """
    steps = _Steps()
    stop = threading.Event()
    looks = trio.Event()
    token = trio.lowlevel.current_trio_token()
    thread = threading.get_ident()

    def look() -> None:
        token.run_sync_soon(looks.set)
        _look_until(stop, steps, threshold, report, thread)

    async with trio.open_nursery() as nursery:
        trio.lowlevel.add_instrument(steps)
        try:
            own_limiter = trio.CapacityLimiter(1)
            in_thread = partial(trio.to_thread.run_sync, look, limiter=own_limiter)
            nursery.start_soon(in_thread, name="watchdog's thread")
            await looks.wait()
            task_status.started()
            await trio.sleep_forever()
        finally:
            stop.set()
            trio.lowlevel.remove_instrument(steps)


class _Steps(trio.abc.Instrument):
    """Which task runs, and since when; one attribute, so that another thread reads both at once."""

    def __init__(self) -> None:
        self.current: tuple[Task, float] | None = None

    def before_task_step(self, task: Task) -> None:
        """A step begins."""
        self.current = task, time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        """No step goes on. (Told once a pass of the loop, not once a step: it costs less.)"""
        self.current = None


@dataclass(frozen=True, slots=True)
class Finding:
    """That a step is to be reported; see `BusyStep`."""

    seconds: float
    on_processor: float
    unreported: int


class Judge:
    """Decides which steps are to be reported, from what is seen every INTERVAL; has no clock.

    Args:
        threshold: Seconds.
        now, used: As for `look`, when the looking begins.
    """

    def __init__(self, threshold: float, now: float, used: float) -> None:
        self._threshold = threshold
        self._looked = now
        self._used = used
        self._step: object = None
        self._used_before = used
        self._lost = 0.0
        self._next_length = threshold
        self._next_report = -math.inf
        self._is_owed = False
        self._unreported = 0

    def look(self, now: float, used: float, step: object, began: float) -> Finding | None:
        """Return what is to be reported of the step that goes on.

        Args:
            now: Seconds, of a clock that stands still while the machine sleeps.
            used: Seconds that the loop's thread has been on a processor.
            step: The same object as long as the step is the same; None if there is none.
            began: When the step did.
        """
        since_look = now - self._looked
        just_used = used - self._used
        if step is not self._step:
            self._unreported += self._is_owed
            self._is_owed = False
            self._step = step
            self._used_before = self._used
            self._lost = 0.0
            self._next_length = self._threshold
        self._looked = now
        self._used = used
        if step is None:
            return None
        if since_look > 2 * INTERVAL:
            self._lost += max(min(since_look, now - began) - just_used, 0.0)
        seconds = now - began - self._lost
        if seconds < self._next_length:
            return None
        if now < self._next_report:
            self._is_owed = self._next_length == self._threshold  # else it was reported before
            return None
        on_processor = min((used - self._used_before) / seconds, 1.0)
        finding = Finding(seconds, on_processor, self._unreported)
        self._is_owed = False
        self._unreported = 0
        self._next_length = 2 * seconds
        self._next_report = now + REPORT_INTERVAL
        return finding


def _look_until(
    stop: threading.Event,
    steps: _Steps,
    threshold: float,
    report: Callable[[BusyStep], object],
    thread: int,
) -> None:
    """Look at the loop that runs in `thread` every INTERVAL, until `stop`."""
    used = _processor_clock(thread)
    judge = Judge(threshold, time.monotonic(), used())
    while not stop.wait(INTERVAL):
        current = steps.current
        task, began = current or (None, 0.0)
        finding = judge.look(time.monotonic(), used(), current, began)
        if finding and task:
            stack = _stack(task, thread)
            if steps.current is not current:
                stack = ()  # it has ended while we looked: the stack is another's
            report(
                BusyStep(
                    task.name, finding.seconds, finding.on_processor, stack, finding.unreported
                )
            )


def _processor_clock(thread: int) -> Callable[[], float]:
    """Return a clock of how long a thread was on a processor; of the process, where that is all."""
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.pthread_getcpuclockid(thread))
    return time.process_time


def _stack(task: Task, thread: int) -> tuple[Frame, ...]:
    """Return where `thread` is in `task`, outermost first; empty if it has left it."""
    stack: deque[Frame] = deque()
    outermost = task.coro.cr_frame
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None:
        if len(stack) < FRAMES:
            stack.appendleft(frame_at(frame, frame.f_lineno))
        if frame is outermost:
            return tuple(stack)
        frame = frame.f_back
    return ()
