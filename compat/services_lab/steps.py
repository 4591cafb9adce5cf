"""A coroutine in another, which notes each of its steps: how tasks are recorded on any runtime.

A runtime drives a task by sending values into its coroutine, or by throwing exceptions, until it
ends. What stands between the two sees when each step starts and stops, whether it begins with a
cancellation, and how the last one ended. All else is passed on, so that names, `repr`, stacks and
what debuggers look at stay as they are; a traceback has one more entry for each task.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any

from services_lab.event_log import EventLog
from trio_services.sans_io.task_events import What

CANCELLED = "cancelled"


class Steps(Coroutine[Any, Any, Any]):
    """A coroutine like the one inside.

    Args:
        coro: The one inside.
        log: Where its steps are noted.
        number: The task's number there.
        cancelled: What the runtime raises in a task that is cancelled.
        cancellation: Returns why the task was cancelled, given what was sent or thrown in; None if
            that was something else. It is asked after the step.
    """

    __slots__ = ("_cancellation", "_cancelled", "_coro", "_log", "_number")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        log: EventLog,
        number: int,
        cancelled: type[BaseException],
        cancellation: Callable[[object], str | None],
    ) -> None:
        self._coro = coro
        self._log = log
        self._number = number
        self._cancelled = cancelled
        self._cancellation = cancellation

    def send(self, value: Any) -> Any:
        """Run a step."""
        began = self._begin()
        try:
            waits_for = self._coro.send(value)
        except BaseException as error:
            self._end(began, value, error)
            raise
        self._stop(began, value)
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Run a step that begins with an exception."""
        began = self._begin()
        try:
            waits_for = self._coro.throw(*error)
        except BaseException as end:
            self._end(began, error[0], end)
            raise
        self._stop(began, error[0])
        return waits_for

    def close(self) -> None:
        """Close the one inside."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)

    def _begin(self) -> float:
        began = self._log.now()
        self._log.record(What.STARTED, self._number, at=began)
        return began

    def _stop(self, began: float, value: object) -> None:
        why = self._cancellation(value)
        if why is not None:
            self._log.record(What.CANCELLED, self._number, note=why, at=began)
        self._log.record(What.STOPPED, self._number)

    def _end(self, began: float, value: object, error: BaseException) -> None:
        self._stop(began, value)
        self._log.record(What.EXITED, self._number, note=how_it_ended(error, self._cancelled))


def how_it_ended(error: BaseException, cancelled: type[BaseException]) -> str:
    """Return in words how a coroutine ended that raised `error` to its runtime.

    Args:
        error: StopIteration if it returned.
        cancelled: What the runtime raises in a task that is cancelled; a group of nothing else is
            the same.
    """
    if isinstance(error, StopIteration):
        return "returned"
    if isinstance(error, cancelled):
        return CANCELLED
    if isinstance(error, BaseExceptionGroup):
        others = error.split(cancelled)[1]
        if others is None:
            return CANCELLED
        return f"raised {type(error).__name__}: {', '.join(map(_told, others.exceptions))}"
    return f"raised {_told(error)}"


def _told(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return type(error).__name__ + (f": {text}" if text else "")
