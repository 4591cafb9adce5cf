"""The round numbers that stand at an axis."""

import math

SMALLEST = 1e-12
"""No span that is measured is smaller."""

FEW = 3
"""A logarithmic axis has more ticks than that, if it can."""


def round_steps(start: float, end: float, count: int) -> list[float]:
    """Return round numbers from `start` to `end`, evenly spaced, at most `count` + 1 of them."""
    span = max(end - start, SMALLEST)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(each * power for each in (1, 2, 5, 10) if each * power * count >= span * 0.9999)
    first, last = math.ceil(start / step - 1e-6), math.floor(end / step + 1e-6)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis that holds `low` to `high`, both positive.

    They are powers of ten; where these are FEW, 1, 2 and 5 times those.
    """
    for factors in ((1,), (1, 2, 5)):
        first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
        every = [each * 10.0**power for power in range(first, last + 1) for each in factors]
        start = max(index for index, each in enumerate(every) if each <= low * 1.000001)
        end = min(index for index, each in enumerate(every) if each >= high * 0.999999)
        ticks = every[start : max(end, start + 1) + 1]
        if len(ticks) > FEW:
            break
    return ticks
