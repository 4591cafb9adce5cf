"""How late the loop wakes those who sleep: what every task of the process waits in vain.

A task sleeps for a quarter of a second and looks at the clock. What it was late is time in which
some task ran, or the process did not. That is a sample, of four moments a second; a single long
step may fall between two, and is the watchdog's to find.
"""

from collections import deque

import trio

INTERVAL = 0.25
KEPT = 240
"""Samples: a minute's."""


class LoopLag:
    """The lag of this loop, lately."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=KEPT)

    @property
    def now(self) -> float:
        """The last sample, seconds."""
        return self._samples[-1] if self._samples else 0.0

    @property
    def p99(self) -> float:
        """What 99 % of the samples of the last minute do not exceed, seconds."""
        ordered = sorted(self._samples)
        return ordered[int(0.99 * (len(ordered) - 1))] if ordered else 0.0

    async def keep(self) -> None:
        """Take samples for ever."""
        while True:
            due = trio.current_time() + INTERVAL
            await trio.sleep_until(due)
            self._samples.append(max(trio.current_time() - due, 0.0))
