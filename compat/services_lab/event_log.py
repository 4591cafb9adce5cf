"""What a recorder keeps: the newest events, and the birth of every task that they are about.

Memory is bounded by CAPACITY and the number of tasks that live. A birth is kept until the end of
its task is too old to be, so that a task that has lived long is still known by its name and parent.
"""

import itertools
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from trio_services.sans_io.task_events import TaskEvent, What

CAPACITY = 50_000
"""Events that are kept: about 6 MB, and more than any picture shows."""

OUTSIDE = 0
"""The task of a mark that no task made; tasks are numbered from 1."""

THREAD = "thread"
"""The note on the birth of what is no task, but a thread that one started."""

DESTROYED = "destroyed while pending"
"""The note on the end of a task that was collected; the words are asyncio's."""


@dataclass(slots=True)
class Birth:
    """That a task was spawned; see `TaskEvent`. Its name may become known later."""

    at: float
    number: int
    name: str
    parent: int | None
    note: str = ""


class EventLog(ABC):
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
        self._births: dict[int, Birth] = {}
        self._numbers = itertools.count(1)

    @abstractmethod
    def current(self) -> int:
        """Return the number of the task that runs now, OUTSIDE if none does."""

    def mark(self, text: str) -> None:
        """Note that something happened that the program alone knows of; it is drawn."""
        self.record(What.MARK, self.current(), name=text)

    def thread(self, name: str) -> AbstractContextManager[None]:
        """Return a block that is recorded as if it were a task of the one that runs now.

        It is to be entered in a thread, which knows of no task.
        """
        return self._thread(name, self.current() or None)

    @contextmanager
    def _thread(self, name: str, parent: int | None) -> Iterator[None]:
        number = self.spawned(name, parent, THREAD).number
        self.record(What.STARTED, number)
        try:
            yield
        finally:
            self.record(What.STOPPED, number)
            self.record(What.EXITED, number, note="ended")

    def spawned(self, name: str, parent: int | None, note: str = "") -> Birth:
        """Note that a task was spawned, and give it a number."""
        birth = Birth(self.now(), next(self._numbers), name, parent, note)
        self._births[birth.number] = birth
        return birth

    def now(self) -> float:
        """Return the time, as it stands in events."""
        return self._clock() - self.began

    def record(
        self, what: What, number: int, *, name: str = "", note: str = "", at: float | None = None
    ) -> None:
        """Append an event other than SPAWNED; the oldest goes if there are too many.

        Args:
            what, number, name, note: As in `TaskEvent`.
            at: When it happened, if it was not now.
        """
        if len(self._events) >= self._capacity:
            oldest = self._events.popleft()
            self.dropped += 1
            if oldest.what is What.EXITED:
                self._births.pop(oldest.task, None)
        when = self.now() if at is None else at
        self._events.append(TaskEvent(when, what, number, name=name, note=note))

    def events(self) -> tuple[TaskEvent, ...]:
        """Return what was recorded until now, in the order of time."""
        spawned = [
            TaskEvent(birth.at, What.SPAWNED, birth.number, birth.name, birth.parent, birth.note)
            for birth in self._births.values()
        ]
        return tuple(sorted([*spawned, *self._events], key=lambda event: event.at))
