"""Records what Trio's tasks do; until `trio_services.status.trace` has its own."""

import time

import trio

from trio_services.sans_io.task_events import TaskEvent, What


class TraceRecorder(trio.abc.Instrument):
    """An instrument that keeps events."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.dropped = 0
        self._events: list[TaskEvent] = []
        self._numbers: dict[trio.lowlevel.Task, int] = {}

    def _record(self, what: What, task: trio.lowlevel.Task, **more: object) -> None:
        number = self._numbers.setdefault(task, len(self._numbers) + 1)
        at = time.monotonic() - self.began
        self._events.append(TaskEvent(at, what, number, **more))  # type: ignore[arg-type]

    def mark(self, text: str) -> None:
        """Note that something happened."""
        try:
            self._record(What.MARK, trio.lowlevel.current_task(), name=text)
        except RuntimeError:
            at = time.monotonic() - self.began
            self._events.append(TaskEvent(at, What.MARK, 0, name=text))

    def events(self) -> tuple[TaskEvent, ...]:
        """Return what was recorded until now."""
        return tuple(self._events)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note it."""
        parent = task.parent_nursery and self._numbers.get(task.parent_nursery.parent_task)
        self._record(What.SPAWNED, task, name=task.name, parent=parent)

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Note it."""
        self._record(What.READY, task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note it."""
        self._record(What.STARTED, task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note it."""
        self._record(What.STOPPED, task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Note it."""
        self._record(What.EXITED, task)
