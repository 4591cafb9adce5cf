"""Records what the tasks of a Trio program do: an instrument with bounded memory.

A `TraceRecorder` is started and stopped while the loop runs; while it is off Trio knows nothing of
it, so it costs nothing. It can also be handed to `trio.run(instruments=[recorder])`, to have all of
a run. It keeps the newest CAPACITY events, and the spawning of every task that these are about: as
numbers and names, so that no task, frame or value of the program lives on because of it.

What can be told of a cancellation, by public means:

- *That* it is pending for a task is seen when the task is about to run and its effective deadline
  is minus infinity. It is told once, until the task has left the cancelled scope.
- *By whom* is told by who woke the task, since cancelling wakes what is cancelled, in the step of
  the task that cancels; if the clock did, it was a deadline. A task that was ready already is not
  woken again, so who woke it need not be who cancelled it: the note says no more than "woken by".
- A *sleep* that is over is none, though Trio ends it by a deadline as well.
- *How* a task ends, by returning or by an exception, Trio does not tell an instrument. One that
  ends in the step in which it was cancelled from outside is said to have ended "cancelled".
"""

import errno
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path

import trio
from trio.lowlevel import Task

from trio_services.sans_io.task_events import TaskEvent, What, chrome_trace

CAPACITY = 100_000
"""Events that are kept: 10 MB."""

PROGRAM = 0
"""The number of whoever is no task: marks from outside of tasks. Tasks are numbered from 1."""


class _Wakes(Enum):
    """What but a task can make a task ready."""

    IO = auto()
    CLOCK = auto()


class _Living:
    """What is known of a task that has not ended."""

    __slots__ = ("cancelled", "number", "outer_deadline", "stepped", "woken_by")

    def __init__(self, number: int) -> None:
        self.number = number
        self.stepped = False
        self.cancelled = False
        self.outer_deadline = math.inf
        self.woken_by: int | _Wakes | None = None


class TraceRecorder(trio.abc.Instrument):
    """The events of one run.

    Args:
        clock: Tells the time in seconds; `trio.current_time` for that of a mock clock.
        capacity: How many events are kept.

    Attributes:
        began: The time of the clock at which `TaskEvent.at` is 0.
        dropped: How many events were too old to be kept.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, capacity: int = CAPACITY
    ) -> None:
        self.began = clock()
        self.dropped = 0
        self._clock = clock
        self._capacity = capacity
        self._events: deque[tuple[float, What, int, str]] = deque()
        self._spawned: dict[int, tuple[int, TaskEvent]] = {}  # before which event, counted from 0
        self._living: dict[Task, _Living] = {}
        self._last_number = PROGRAM
        self._outside = _Wakes.CLOCK

    def start(self) -> None:
        """Begin a new recording of the run that this is called in, with the tasks that there are.

        Raises:
            RuntimeError: Called outside of a Trio run.
        """
        trio.lowlevel.add_instrument(self)
        self.began = self._clock()
        self.dropped = 0
        self._events.clear()
        self._spawned.clear()
        self._living.clear()
        root = trio.lowlevel.current_root_task()
        ahead = [root] if root else []
        while ahead:
            task = ahead.pop()
            self._meet(task, "before the recording began").stepped = True
            for nursery in task.child_nurseries:
                ahead += nursery.child_tasks
        if trio.lowlevel.in_trio_task():
            self._record(What.STARTED, self._known(trio.lowlevel.current_task()).number)

    def stop(self) -> None:
        """Stop recording, if it goes on; what was recorded stays.

        Raises:
            RuntimeError: Called outside of a Trio run.
        """
        with suppress(KeyError):  # not started, or an error in it: Trio has logged that
            trio.lowlevel.remove_instrument(self)
        self._living.clear()

    def mark(self, text: str) -> None:
        """Note what the program alone knows of, for the task that calls this.

        Outside of tasks it is noted for the program. It is to be called in the thread of the run.
        """
        number = PROGRAM
        if trio.lowlevel.in_trio_task():
            number = self._known(trio.lowlevel.current_task()).number
        self._record(What.MARK, number, text)

    def events(self) -> tuple[TaskEvent, ...]:
        """Return what was recorded until now, in the order of time."""
        kept = [
            (
                place,
                TaskEvent(at, what, number, name=text)
                if what is What.MARK
                else TaskEvent(at, what, number, note=text),
            )
            for place, (at, what, number, text) in enumerate(self._events, self.dropped)
        ]
        ordered = sorted([*self._spawned.values(), *kept], key=lambda placed: placed[0])
        return tuple(event for _, event in ordered)

    def _record(self, what: What, number: int, text: str = "") -> None:
        if len(self._events) >= self._capacity:
            _, oldest, whose, _ = self._events.popleft()
            self.dropped += 1
            if oldest is What.EXITED:
                del self._spawned[whose]
        self._events.append((self._clock() - self.began, what, number, text))

    def _meet(self, task: Task, note: str = "") -> _Living:
        """Give a task a number, and note that it was spawned."""
        self._last_number += 1
        living = self._living[task] = _Living(self._last_number)
        nursery = task.parent_nursery
        parent = self._living.get(nursery.parent_task) if nursery else None
        event = TaskEvent(
            self._clock() - self.began,
            What.SPAWNED,
            living.number,
            name=task.name,
            parent=parent.number if parent else None,
            note=note,
        )
        self._spawned[living.number] = self.dropped + len(self._events), event
        return living

    def _known(self, task: Task) -> _Living:
        return self._living.get(task) or self._meet(task)

    # What Trio calls.

    def task_spawned(self, task: Task) -> None:
        """A task was created."""
        self._meet(task)

    def task_scheduled(self, task: Task) -> None:
        """A task became ready."""
        living = self._known(task)
        if trio.lowlevel.in_trio_task():
            living.woken_by = self._known(trio.lowlevel.current_task()).number
        else:
            living.woken_by = self._outside
        self._record(What.READY, living.number)

    def before_task_step(self, task: Task) -> None:
        """A task is about to run."""
        living = self._known(task)
        deadline = _effective_deadline(task)
        if deadline > -math.inf:
            living.cancelled = False  # a shield was raised meanwhile
        elif not living.cancelled and not _has_slept(task):
            living.cancelled = True
            self._record(What.CANCELLED, living.number, self._waker(living))
        if not living.stepped:
            living.stepped = True
            living.outer_deadline = deadline  # it has no scopes of its own yet
        self._record(What.STARTED, living.number)

    def after_task_step(self, task: Task) -> None:
        """A task has run."""
        living = self._living.get(task)
        if living:  # else the step was its last
            self._record(What.STOPPED, living.number)
            if living.cancelled:
                living.cancelled = _effective_deadline(task) == -math.inf

    def task_exited(self, task: Task) -> None:
        """A task has ended."""
        living = self._known(task)
        self._record(What.STOPPED, living.number)
        from_outside = isinstance(living.woken_by, int) or _is_cancelled_around(task, living)
        note = "cancelled" if living.cancelled and from_outside else ""
        self._record(What.EXITED, living.number, note)
        del self._living[task]

    def before_io_wait(self, timeout: float) -> None:
        """The loop is about to wait: what becomes ready now was waiting for the system."""
        self._outside = _Wakes.IO

    def after_io_wait(self, timeout: float) -> None:
        """The loop has waited: what becomes ready now was waiting for the clock."""
        self._outside = _Wakes.CLOCK

    def _waker(self, living: _Living) -> str:
        """Return who has woken a task that is cancelled, if that tells anything."""
        if living.woken_by is _Wakes.CLOCK:
            return "woken by a deadline"
        if not isinstance(living.woken_by, int) or living.woken_by == living.number:
            return ""
        # New tasks are ready from the beginning, and whoever woke it may be long forgotten.
        if not living.stepped or living.woken_by not in self._spawned:
            return ""
        _, spawned = self._spawned[living.woken_by]
        return f"woken by {spawned.name}"


def _effective_deadline(task: Task) -> float:
    """Return the effective deadline of the task whose step it is; -inf if it is cancelled."""
    if task.parent_nursery is None:  # the root task begins outside of any scope
        return math.inf
    try:
        return trio.current_effective_deadline()
    except RecursionError:  # Trio recurses from scope to scope; a thousand of them are too many
        return math.inf


def _has_slept(task: Task) -> bool:
    """Tell whether the task that is about to run was in a `trio.sleep` that is over."""
    for frame, _ in task.iter_await_frames():
        if frame.f_code is trio.sleep_until.__code__:
            until: float = frame.f_locals.get("deadline", math.inf)
            return until <= trio.current_time()
    return False


def _is_cancelled_around(task: Task, living: _Living) -> bool:
    """Tell whether what a task runs in is cancelled, as far as its scopes can be seen."""
    if living.outer_deadline <= trio.current_time():
        return True
    nursery = task.parent_nursery
    while nursery and not nursery.cancel_scope.cancel_called:
        if nursery.cancel_scope.shield:
            return False
        nursery = nursery.parent_task.parent_nursery
    return nursery is not None


@contextmanager
def record_to(
    path: str | os.PathLike[str], *, process: str = "trio", capacity: int = CAPACITY
) -> Iterator[TraceRecorder]:
    """Record what happens inside, and write it to `path` on leaving, however it is left.

    In a Trio run, recording begins at once. Around `trio.run`, pass it the recorder:
    `with record_to(path) as recorder: trio.run(main, instruments=[recorder])`. This is the better
    place, since writing blocks.

    The file is a Chrome trace. It is made at the beginning, so that a path that cannot be written
    is found out before anything was recorded, and it appears whole or not at all.

    Args:
        path: The file; one that is there is replaced, also where a link leads.
        process: What the program is called in the trace.
        capacity: How many events are kept, the newest.

    Raises:
        OSError: The file cannot be written, or there is something that is none: to replace
            `/dev/null` would be a surprise.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a file but a directory, pipe or device")
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    recorder = TraceRecorder(capacity=capacity)
    with partial.open("w", encoding="utf-8") as file:
        try:
            in_run = trio.lowlevel.in_trio_run()
            if in_run:
                recorder.start()
            try:
                yield recorder
            finally:
                if in_run:
                    recorder.stop()
                json.dump(chrome_trace(recorder.events(), process), file)
                file.flush()
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
