"""The round numbers that stand at an axis."""

import math

SMALLEST = 1e-12
"""No span that is measured is smaller."""


def round_steps(start: float, end: float, count: int) -> list[float]:
    """Return round numbers from `start` to `end`, evenly spaced, at most `count` + 1 of them."""
    span = max(end - start, SMALLEST)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(each * power for each in (1, 2, 5, 10) if each * power * count >= span * 0.9999)
    first, last = math.ceil(start / step - 1e-6), math.floor(end / step + 1e-6)
    return [index * step for index in range(first, last + 1)]


def powers_of_ten(low: float, high: float) -> list[float]:
    """Return the powers of ten from the one below `low` to the one above `high`, both positive."""
    first = math.floor(math.log10(low) + 1e-9)
    last = max(math.ceil(math.log10(high) - 1e-9), first + 1)
    return [10.0**power for power in range(first, last + 1)]
