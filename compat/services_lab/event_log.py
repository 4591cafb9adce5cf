"""What a recorder keeps: the newest events, and the birth of every task that they are about.

Memory is bounded by CAPACITY and the number of tasks that live. A birth is kept until the end of
its task is too old to be, so that a task that has lived long is still known by its name and parent.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from trio_services.sans_io.task_events import TaskEvent, What

CAPACITY = 50_000
"""Events that are kept: about 6 MB, and more than any picture shows."""


@dataclass(slots=True)
class Birth:
    """That a task was spawned; see `TaskEvent`. Its name may become known later."""

    at: float
    number: int
    name: str
    parent: int | None


class EventLog:
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
        self._last_number = 0

    def spawned(self, name: str, parent: int | None) -> Birth:
        """Note that a task was spawned, and give it a number."""
        self._last_number += 1
        birth = Birth(self.now(), self._last_number, name, parent)
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
            TaskEvent(birth.at, What.SPAWNED, birth.number, birth.name, birth.parent)
            for birth in self._births.values()
        ]
        return tuple(sorted([*spawned, *self._events], key=lambda event: event.at))
