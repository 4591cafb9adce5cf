"""Records what Trio's tasks do: an Instrument, and `Steps` for what instruments are not told.

Trio tells an Instrument when a task is spawned and when it becomes ready, but neither with what it
ended nor that a step begins with a cancellation. So the coroutine of each task is put into `Steps`
before its first step. Trio delivers a cancellation by sending in an `outcome.Error`, and its
`Cancelled` knows its source and reason.

`trio_services.status.trace` records running servers, with less: it must not touch their tasks.
"""

import outcome
import trio

from services_lab.event_log import OUTSIDE, EventLog
from services_lab.steps import Steps
from trio_services.sans_io.task_events import What


class TrioRecorder(EventLog, trio.abc.Instrument):
    """The events of one `trio.run`, as one of its instruments."""

    def current(self) -> int:
        """Return the number of the task that runs now, OUTSIDE if none does."""
        if not trio.lowlevel.in_trio_task():
            return OUTSIDE
        return self._tasks.get(trio.lowlevel.current_task(), OUTSIDE)

    def before_run(self) -> None:
        """Begin."""
        self._tasks: dict[trio.lowlevel.Task, int] = {}

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note that it was spawned, and by whose nursery; see its steps from now on."""
        nursery = task.parent_nursery
        parent = self._tasks.get(nursery.parent_task) if nursery else None
        number = self.spawned(task.name, parent).number
        self._tasks[task] = number
        task.coro = Steps(  # type: ignore[assignment]
            task.coro, self, number, trio.Cancelled, _cancellation
        )

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Note that it is ready."""
        if task in self._tasks:
            self.record(What.READY, self._tasks[task])

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget it."""
        self._tasks.pop(task, None)


def _cancellation(sent: object) -> str | None:
    """Return why a task was cancelled, given what was sent to it at the beginning of a step.

    `trio.sleep` is a scope of its own that is cancelled when it is time. That is no cancellation
    for its caller; the traceback tells that it went no further than there.
    """
    if not isinstance(sent, outcome.Error) or not isinstance(sent.error, trio.Cancelled):
        return None
    why = sent.error
    if why.__traceback__ and why.__traceback__.tb_frame.f_code is trio.sleep_until.__code__:
        return None
    return f"due to {why.source}" + (f": {why.reason}" if why.reason else "")
