"""Values in SI units, for people: 26.5 µs, 19.3 k/s, 5.6 KiB, ×0.25.

A value with its range has one unit, that of the value: the three can be compared at a glance.
"""

from services_lab.statistics import Spread

SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "/s": ((1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")),
}
"""From large to small: what a unit of people is worth in SI units, and its sign."""

MANY = 1000
"""Counts from here on are grouped in thousands."""


def human(value: float, unit: str) -> str:
    """Return a value with three significant digits and a unit that people use."""
    factor, sign = _scale(value, unit)
    return f"{_digits(value / factor)} {sign}".rstrip()


def human_spread(values: Spread, unit: str) -> str:
    """Return the median with the range, `26.5 µs (26.1 to 28.0)`; the median alone if it is all."""
    if values.low == values.high:
        return human(values.median, unit)
    factor, sign = _scale(values.median, unit)
    median, low, high = (
        _digits(each / factor) for each in (values.median, values.low, values.high)
    )
    return f"{median} {sign}".rstrip() + f" ({low} to {high})"


def human_ratio(ratio: float) -> str:
    """Return a ratio as `×0.25`."""
    return f"×{_digits(ratio)}"


def human_duration(seconds: float) -> str:
    """Return a rough time span: `12 s`, `3 min`."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _scale(value: float, unit: str) -> tuple[float, str]:
    scales = SCALES.get(unit)
    if scales is None or not value:
        return 1.0, unit
    return next((each for each in scales if abs(value) >= each[0]), scales[-1])


def _digits(value: float) -> str:
    if value == int(value) or abs(value) >= MANY:
        return f"{value:,.0f}"
    places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    shown = f"{value:.{places}f}"
    return shown if float(shown) else f"{value:.1g}"
