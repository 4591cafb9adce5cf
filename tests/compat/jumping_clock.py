"""A clock for asyncio's tests that jumps to the next timer whenever nothing else is to be done.

asyncio has none, as Trio has `MockClock(autojump_threshold=0)`. An event loop asks its selector to
wait until the next timer is due; this one does not wait, and moves the clock instead. Not for code
that waits for threads or other processes.
"""

import asyncio
from collections.abc import Coroutine
from selectors import DefaultSelector, SelectorKey
from typing import Any, TypeVar

T = TypeVar("T")


class JumpingSelector(DefaultSelector):
    """Waits for files, but never for time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return the files that are ready; if there are none, `timeout` seconds have passed."""
        if timeout is None:
            return super().select()
        ready = super().select(0)
        if not ready:
            self.now += max(timeout, 0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of its selector, in seconds since it was made."""

    def __init__(self) -> None:
        self.clock = JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        """Return the time."""
        return self.clock.now


def run_jumping(main: Coroutine[Any, Any, T]) -> T:
    """Do what `asyncio.run` does, in no time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
