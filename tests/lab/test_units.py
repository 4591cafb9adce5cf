"""Values in SI units, for people."""

import pytest
from services_lab.statistics import Spread
from services_lab.units import human, human_duration, human_ratio, human_spread


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (26.5e-6, "s", "26.5 µs"),
        (1.234, "s", "1.23 s"),
        (0.0, "s", "0 s"),
        (3e-10, "s", "0.30 ns"),
        (1.5e-3, "s", "1.50 ms"),
        (5734.0, "B", "5.60 KiB"),
        (12.0, "B", "12 B"),
        (0.0, "B", "0 B"),
        (151_234.0, "/s", "151 k/s"),
        (-0.002, "s", "-2 ms"),
        (7.0, "", "7"),
        (1_234_567.0, "", "1,234,567"),
        (0.254, "", "0.25"),
        (0.0004, "", "0.0004"),
        (3.0, "lists", "3 lists"),
    ],
)
def test_three_digits_and_a_unit_that_people_use(value: float, unit: str, shown: str) -> None:
    """A value is shown as it would be said."""
    assert human(value, unit) == shown


def test_a_value_and_its_range_share_a_unit() -> None:
    """999 µs and 1.2 ms in one cell would be read wrongly."""
    assert human_spread(Spread(0.00101, 0.000999, 0.0012, 3), "s") == "1.01 ms (1.00 to 1.20)"


def test_one_value_has_no_range() -> None:
    """With one round, or the same in all, there is nothing to tell of a spread."""
    assert human_spread(Spread(0.5, 0.5, 0.5, 1), "s") == "500 ms"
    assert human_spread(Spread(20, 20, 20, 3), "") == "20"


def test_ratios_and_durations() -> None:
    """A ratio has its sign; a time span is rough."""
    assert human_ratio(0.254) == "×0.25"
    assert human_ratio(12.34) == "×12.3"
    assert human_duration(99.4) == "99 s"
    assert human_duration(100) == "2 min"
