"""Records what asyncio's tasks do, on asyncio's own loop or on uvloop: a task factory.

asyncio has no hooks into its scheduler, but it lets a program say how tasks are made. Here each is
a `Task` whose coroutine is wrapped: whatever the loop sends or throws into it passes through
`Steps`, which notes when a step starts and stops, and how the last one ended. `Task` notes who
asked for its cancellation, and that it was collected before it had ended. What is between STOPPED
and STARTED is waiting: when a task becomes ready cannot be seen from here.

Everything else stays as it is: names, `TaskGroup`, `timeout`, eager tasks, what `repr` tells. A
traceback has one more entry for each task that it passes through. A program that sets a task
factory of its own is not recorded from there on.

Memory is bounded: the newest CAPACITY events are kept, and the spawning of the tasks that they are
about.
"""

import asyncio
import re
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from trio_services.sans_io.task_events import TaskEvent, What

CAPACITY = 50_000
"""Events that are kept: about 6 MB, and more than any picture shows."""

CANCELLED = "cancelled"
DESTROYED = "destroyed while pending"

_UNNAMED = re.compile(r"Task-\d+|functools")
"""Names that nobody gave: asyncio's own, and what AnyIO calls every `functools.partial`."""

_MAIN = "run.<locals>.wrapper"
"""What `uvloop.run` and `anyio.run` wrap the main function in."""


class AsyncioRecorder:
    """The events of one loop.

    Args:
        clock: Tells the time in seconds.
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
        self._events: deque[TaskEvent] = deque()
        self._births: dict[int, _Birth] = {}
        self._last_number = 0

    @contextmanager
    def installed(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Record the tasks that are created on `loop` inside, until they end."""
        loop.set_task_factory(self.create_task)
        try:
            yield
        finally:
            loop.set_task_factory(None)

    def create_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """Return a recorded task that runs `coro`: a task factory."""
        parent = asyncio.current_task(loop)
        self._last_number += 1
        birth = _Birth(
            self._clock() - self.began,
            self._last_number,
            _name_of(coro),
            parent.birth.number if isinstance(parent, Task) else None,
        )
        self._births[birth.number] = birth
        return Task(Steps(coro, self, birth), self, birth, loop=loop, **options)

    def mark(self, text: str) -> None:
        """Note that something happened that the program alone knows of."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # called from outside of the loop
            task = None
        self.record(What.MARK, task.birth.number if isinstance(task, Task) else 0, name=text)

    def record(self, what: What, number: int, *, name: str = "", note: str = "") -> None:
        """Append an event; the oldest goes if there are too many."""
        if len(self._events) >= self._capacity:
            oldest = self._events.popleft()
            self.dropped += 1
            if oldest.what is What.EXITED:
                self._births.pop(oldest.task, None)
        at = self._clock() - self.began
        self._events.append(TaskEvent(at, what, number, name=name, note=note))

    def events(self) -> tuple[TaskEvent, ...]:
        """Return what was recorded until now, in the order of time."""
        spawned = [birth.event() for birth in self._births.values()]
        return tuple(sorted([*spawned, *self._events], key=lambda event: event.at))


class _Birth:
    """That a task was created; its name is known later, since it is given when it exists."""

    __slots__ = ("asked_by", "at", "name", "number", "parent", "task")

    def __init__(self, at: float, number: int, name: str, parent: int | None) -> None:
        self.at = at
        self.number = number
        self.name = name
        self.parent = parent
        self.asked_by = ""
        self.task: Callable[[], asyncio.Task[Any] | None] = lambda: None

    def look_up_name(self) -> str:
        """Return the name that the task was given, or else that of its coroutine."""
        task = self.task()
        if task is not None and not _UNNAMED.fullmatch(task.get_name()):
            self.name = task.get_name()
        return self.name

    def event(self) -> TaskEvent:
        return TaskEvent(self.at, What.SPAWNED, self.number, self.look_up_name(), self.parent)


class Task(asyncio.Task[Any]):
    """A task that is recorded. Its name is asyncio's, so that logs read as they always do."""

    def __init__(
        self, steps: "Steps", recorder: AsyncioRecorder, birth: _Birth, **options: Any
    ) -> None:
        self.birth = birth
        self._recorder = recorder
        birth.task = weakref.ref(self)  # weak: what is collected, and when, must stay the same
        super().__init__(steps, **options)

    def set_name(self, value: object) -> None:
        """Name it; Python 3.13.0 calls this with None where there is a task factory."""
        if value is not None:
            super().set_name(value)

    def cancel(self, msg: Any | None = None) -> bool:
        """Remember who asked, then do as asyncio does."""
        asker = asyncio.current_task(self.get_loop())
        if isinstance(asker, Task):
            self.birth.asked_by = f"by {asker.birth.look_up_name()}"
        else:
            self.birth.asked_by = "by a callback of the loop"
        return super().cancel(msg)

    def __del__(self) -> None:
        if not self.done():
            self.birth.look_up_name()
            self._recorder.record(What.EXITED, self.birth.number, note=DESTROYED)
        super().__del__()


class Steps(Coroutine[Any, Any, Any]):
    """A coroutine that notes each step of the one inside, and is otherwise like it."""

    __slots__ = ("_birth", "_coro", "_recorder")

    def __init__(
        self, coro: Coroutine[Any, Any, Any], recorder: AsyncioRecorder, birth: _Birth
    ) -> None:
        self._coro = coro
        self._recorder = recorder
        self._birth = birth

    def send(self, value: Any) -> Any:
        """Run a step."""
        self._recorder.record(What.STARTED, self._birth.number)
        try:
            waits_for = self._coro.send(value)
        except BaseException as error:
            self._end(error)
            raise
        self._recorder.record(What.STOPPED, self._birth.number)
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Run a step that begins with an exception: as a rule a cancellation."""
        self._recorder.record(What.STARTED, self._birth.number)
        if isinstance(error[0], asyncio.CancelledError) or error[0] is asyncio.CancelledError:
            self._recorder.record(What.CANCELLED, self._birth.number, note=self._birth.asked_by)
        try:
            waits_for = self._coro.throw(*error)
        except BaseException as end:
            self._end(end)
            raise
        self._recorder.record(What.STOPPED, self._birth.number)
        return waits_for

    def close(self) -> None:
        """Close the one inside."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)

    def _end(self, error: BaseException) -> None:
        self._birth.look_up_name()
        self._recorder.record(What.STOPPED, self._birth.number)
        self._recorder.record(What.EXITED, self._birth.number, note=how_it_ended(error))


def _name_of(coro: object) -> str:
    name: str = getattr(coro, "__qualname__", type(coro).__name__)
    return "main" if name == _MAIN else name


def how_it_ended(error: BaseException) -> str:
    """Return in words how a coroutine ended that raised `error` to its loop."""
    match error:
        case StopIteration():
            return "returned"
        case asyncio.CancelledError():
            return CANCELLED
        case _:
            text = str(error).partition("\n")[0]
            return f"raised {type(error).__name__}" + (f": {text}" if text else "")
