"""Records what asyncio's tasks do, on asyncio's own loop or on uvloop: a task factory.

asyncio has no hooks into its scheduler, but it lets a program say how tasks are made. Here each is
a `Task` that runs `Steps`. It notes who asked for its cancellation, too, and that it was collected
before it had ended. What is between STOPPED and STARTED is waiting: when a task becomes ready
cannot be seen from here.

Everything else stays as it is: names, `TaskGroup`, `timeout`, eager tasks, what is collected when.
A program that sets a task factory of its own is not recorded from there on.
"""

import asyncio
import re
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services_lab.event_log import DESTROYED, OUTSIDE, Birth, EventLog
from services_lab.steps import Steps
from trio_services.sans_io.task_events import What

_UNNAMED = re.compile(r"Task-\d+|functools")
"""Names that nobody gave: asyncio's own, and what AnyIO calls every `functools.partial`."""

FRAMES_TO_GROUP = 3
"""How many calls a task group is away at most: it calls `loop.create_task`, and that us."""

_MAIN = "run.<locals>.wrapper"
"""What `uvloop.run` and `anyio.run` wrap the main function in."""


class AsyncioRecorder(EventLog):
    """The events of one loop of asyncio or uvloop."""

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
        parent = _host_of_group() or asyncio.current_task(loop)
        known = parent.birth.number if isinstance(parent, Task) else None
        return Task(coro, self, self.spawned(_name_of(coro), known), loop=loop, **options)

    def current(self) -> int:
        """Return the number of the task that runs now, OUTSIDE if none does."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # called from outside of the loop
            return OUTSIDE
        return task.birth.number if isinstance(task, Task) else OUTSIDE


class Task(asyncio.Task[Any]):
    """A task that is recorded. It is called as asyncio's are, so that logs read as they always do.

    Args:
        coro: What it runs.
        log: Where it is recorded.
        birth: Itself there.
        options: Further arguments of `asyncio.Task`.
    """

    def __init__(self, coro: Any, log: EventLog, birth: Birth, **options: Any) -> None:
        self.birth = birth
        self._log = log
        self._asked_by = ""
        # Weak, for what is collected, and when, must stay the same.
        myself = weakref.ref(self)

        def cancellation(thrown: object) -> str | None:
            task = myself()
            return task._asked_by if task and isinstance(thrown, asyncio.CancelledError) else None

        steps = Steps(coro, log, birth.number, asyncio.CancelledError, cancellation)
        super().__init__(steps, **options)
        self._note_name()

    def set_name(self, value: object) -> None:
        """Name it; Python 3.13.0 calls this with None where there is a task factory."""
        if value is not None:
            super().set_name(value)
            self._note_name()

    def cancel(self, msg: Any | None = None) -> bool:
        """Remember who asked, then do as asyncio does."""
        asker = asyncio.current_task(self.get_loop())
        if isinstance(asker, Task):
            self._asked_by = f"by {asker.birth.name}"
        else:
            self._asked_by = "by a callback of the loop"
        return super().cancel(msg)

    def _note_name(self) -> None:
        if not _UNNAMED.fullmatch(self.get_name()):
            self.birth.name = self.get_name()

    def __del__(self) -> None:
        if not self.done():
            self._log.record(What.EXITED, self.birth.number, note=DESTROYED)
        super().__del__()


def _host_of_group() -> object:
    """Return the task that opened the task group in which a task is being created, if one is.

    It is that task which waits for the new one and cancels it, as a nursery's does, whoever calls
    `create_task`. Neither asyncio nor AnyIO tells the factory, nor has a public name for it; so it
    is looked for where the group calls the loop.
    """
    frame = sys._getframe(2)
    for _ in range(FRAMES_TO_GROUP):
        group = frame.f_locals.get("self")
        if type(group).__name__ == "TaskGroup":
            scope = getattr(group, "cancel_scope", None)  # AnyIO's
            return getattr(group, "_parent_task", None) or getattr(scope, "_host_task", None)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _name_of(coro: object) -> str:
    name: str = getattr(coro, "__qualname__", type(coro).__name__)
    return "main" if name == _MAIN else name
