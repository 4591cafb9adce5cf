"""How long things took, counted in a few fixed classes: cheap to add to, and copies can be summed.

A list of durations grows; a histogram of 22 numbers does not, whatever is measured. The bounds are
spaced evenly on a logarithmic scale, three to a decade, so that a percentile that is read off is
wrong by a factor of 2.5 at most, from ten microseconds to a hundred seconds.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

BOUNDS = (
    *(float(f"{digit}e{exponent}") for exponent in range(-5, 2) for digit in (1, 2.5, 5)),
    100.0,
)
"""Seconds, each the inclusive upper bound of its class, as in Prometheus; above them is one more
class."""


class Histogram:
    """Counts of durations by class."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


def percentile(counts: Sequence[int], part: float) -> float | None:
    """Return the duration that `part` (0 to 1) of all do not exceed, in seconds; None without any.

    Within a class they are taken to be spread evenly on the logarithmic scale. What is above the
    last bound counts as that bound.
    """
    wanted = part * sum(counts)
    if not any(counts):
        return None
    below = 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= wanted:
            upper = BOUNDS[index]
            lower = BOUNDS[index - 1] if index else upper / 10
            return lower * math.pow(upper / lower, max(wanted - below, 0) / count)
        below += count
    return BOUNDS[-1]
