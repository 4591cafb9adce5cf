"""Durations by class, and the percentiles that are read off."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_services.sans_io.histogram import BOUNDS, Histogram, percentile


def test_bounds() -> None:
    """They rise, three to a decade, from ten microseconds to a hundred seconds."""
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1], len(BOUNDS)) == (1e-5, 100.0, 22)
    assert all(1.9 < upper / lower < 2.6 for lower, upper in pairwise(BOUNDS))


@pytest.mark.parametrize(
    ("seconds", "index"),
    [(0.0, 0), (1e-5, 0), (1.1e-5, 1), (100.0, 21), (100.1, 22), (1e9, 22)],
)
def test_classes(seconds: float, index: int) -> None:
    """A bound belongs to the class below it; what is longer than all has a class of its own."""
    histogram = Histogram()
    histogram.add(seconds)
    assert histogram.counts.index(1) == index
    assert sum(histogram.counts) == 1
    assert histogram.total == seconds


def test_percentile_of_nothing() -> None:
    """Without durations there is none."""
    assert percentile(Histogram().counts, 0.5) is None


@given(
    st.lists(st.floats(2e-5, 99.0), min_size=1),
    st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_percentile(durations: list[float], part: float) -> None:
    """It is in the same class as the true one, or at its bounds: wrong by 2.5 times at most."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    found = percentile(histogram.counts, part)
    assert found is not None
    ordered = sorted(durations)
    true = ordered[max(-(-round(part * 1e6) * len(ordered) // 10**6) - 1, 0)]
    assert true / 2.51 <= found <= true * 2.51


def test_percentiles_rise() -> None:
    """The more is to be included, the longer it takes."""
    histogram = Histogram()
    for each in range(1, 1000):
        histogram.add(each / 1000)
    found = [percentile(histogram.counts, part / 100) or 0.0 for part in range(101)]
    assert found == sorted(found)
    assert 0.4 < found[50] < 0.6
    assert 0.9 < found[99] <= 1.0
