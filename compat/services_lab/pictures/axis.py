"""Numbers for people: values with units and prefixes, and the round ones that stand at an axis."""

import math

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))

SMALLEST = 1e-12
"""Nothing that is measured is smaller, but for 0."""


def quantity(value: float, unit: str) -> str:
    """Return `value` to three digits with its unit: `12.3 µs`, `1.5 MiB`, `20.9 k/s`, `0.031`.

    Args:
        value: In SI units.
        unit: `s`, `B`, `/s`, "" or another.
    """
    if unit == "B":
        factor, name = _prefix(value, _BYTES)
        return f"{_digits(value / factor)} {name}"
    if unit == "s":
        factor, name = _prefix(value, _TIMES)
        return f"{_digits(value / factor)} {name}"
    if abs(value) < 1000:
        return f"{_digits(value)} {unit}".rstrip()
    factor, name = _prefix(value, _COUNTS)
    return f"{_digits(value / factor)} {name}{unit}"


def _prefix(value: float, prefixes: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    if not value:
        return prefixes[0] if prefixes is _TIMES else prefixes[-1]
    for factor, name in prefixes:
        if abs(value) >= factor * 0.9995:
            return factor, name
    return prefixes[-1]


def _digits(value: float) -> str:
    if not value:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value) * 1.0005)))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ratio(value: float) -> str:
    """Return how many times as much something is: `0.35×`, `12×`."""
    return f"{_digits(value) if value < 10 else format(value, '.0f')}×"


def round_steps(start: float, end: float, count: int) -> list[float]:
    """Return round numbers from `start` to `end`, evenly spaced, at most about `count` of them."""
    span = max(end - start, SMALLEST)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(each * power for each in (1, 2, 5, 10) if each * power * count >= span * 0.9999)
    first = math.ceil(start / step - 1e-6)
    last = math.floor(end / step + 1e-6)
    return [index * step for index in range(first, last + 1)]


def powers_of_ten(low: float, high: float) -> list[float]:
    """Return the powers of ten from the one below `low` to the one above `high`, both positive."""
    first = math.floor(math.log10(low) + 1e-9)
    last = max(math.ceil(math.log10(high) - 1e-9), first + 1)
    return [10.0**power for power in range(first, last + 1)]
