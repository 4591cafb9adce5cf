"""What experiments that measure have in common, on made-up counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services_lab.experiment import Measured, Subject
from services_lab.load.dns_open import quantile
from services_lab.loads import Load
from services_lab.measuring import (
    Latency,
    WorkFailedError,
    any_of,
    check_answers,
    crossing,
    latencies_seen,
    numbers_of,
)
from services_lab.ran import Ran


def load(**counts: Any) -> Load:
    """Return what a generator found in a second."""
    return Load(counts=counts, generator="made-up", seconds=1.0, busy=0.5)


def ran(exit_status: int | None, facts: dict[str, object]) -> Ran:
    """Return what is left of a program."""
    return Ran(
        exit_status=exit_status,
        stdout=(),
        stderr=("it failed",),
        facts=facts,
        marks={},
        events=(),
        seconds=0.1,
        left_behind=False,
    )


SIZES = (10, 100, 1000)


@pytest.mark.parametrize(
    ("one", "other", "size"),
    [
        ((1, 10, 100), (10, 10, 10), 100),
        ((1, 10, 100), (100, 50, 10), 10 ** (2 + 0.6989700043 / 1.6989700043)),
        ((1, 10, 100), (0.5, 5, 50), 10),
        ((1, 10, 100), (2, 20, 200), None),
        ((1, 10, 100), (0.5, 20, 200), None),
        ((1, 10, 100), (0.5, 20, 50), 10 ** (2 + 0.5)),
    ],
)
def test_crossing(one: tuple[float, ...], other: tuple[float, ...], size: float | None) -> None:
    """The crossing is the last one, after which the other stays below; or there is none."""
    assert crossing(SIZES, one, other) == (size and pytest.approx(size))


@given(st.floats(11, 990), st.floats(1.1, 3))
def test_straight_lines_cross_where_they_do(where: float, power: float) -> None:
    """Powers of the size, as fixed costs and squares are, are found exactly."""
    one = [(size / where) ** power for size in SIZES]
    assert crossing(SIZES, one, [1.0] * 3) == pytest.approx(where)


def test_numbers_of() -> None:
    """Only numbers are figures, and only of a program that has ended well."""
    assert numbers_of(ran(0, {"time": 2, "who": "trio"})) == {"time": 2.0}
    for status in (1, -9, None):
        with pytest.raises(WorkFailedError, match="it failed"):
            numbers_of(ran(status, {"time": 2}))


def test_check_answers() -> None:
    """All answers are right, or there is no figure."""
    check_answers(load(rcodes={"NOERROR": 1000}))
    for rcodes in ({"NOERROR": 1000, "SERVFAIL": 1}, {}):
        with pytest.raises(WorkFailedError):
            check_answers(load(rcodes=rcodes))


def latencies(**changes: object) -> Load:
    """Return what an open loop found."""
    counts = {"sent": 1000, "lost": 0, "p50": 0.001, "p99": 0.01, "p99.9": 0.02, "worst": 0.03}
    return load(**{"rcodes": {"NOERROR": 1000}, "late": 0.004, **counts, **changes})


@pytest.mark.parametrize(
    ("changes", "outcome", "figures"),
    [
        ({}, Latency.MEASURED, {"p50", "p99", "p99.9", "lost"}),
        ({"late": 0.006}, Latency.GENERATOR_BOUND, {"p50", "p99", "p99.9", "lost"}),
        ({"lost": 2, "p99.9": None}, Latency.MEASURED, {"p50", "p99", "lost"}),
        ({"lost": 20, "p99.9": None, "p99": None}, Latency.LOSSY, {"p50", "lost"}),
    ],
)
def test_latencies_seen(changes: dict[str, object], outcome: Latency, figures: set[str]) -> None:
    """Lost queries take quantiles with them, and a generator that was late is told."""
    seen = latencies_seen(latencies(**changes))
    assert seen.outcome is outcome
    assert seen.figures.keys() == figures


@pytest.mark.parametrize(
    ("known", "part", "of", "found"),
    [
        ([1.0, 2.0, 3.0, 4.0], 0.5, 4, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.99, 4, 4.0),
        ([1.0, 2.0, 3.0, 4.0], 0.0, 4, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 4, 2.0),
        ([1.0, 2.0, 3.0], 0.99, 4, None),
        ([], 0.5, 4, None),
    ],
)
def test_quantile(known: list[float], part: float, of: int, found: float | None) -> None:
    """A query without a reply counts as the one that waited the longest."""
    assert quantile(known, part, of=of) == found


def test_any_of() -> None:
    """Each column may say whatever a measurement can say of itself."""
    expected = any_of(Measured, [Subject(column="threads"), Subject(column="trio")])
    assert expected == {"threads": frozenset(Measured), "trio": frozenset(Measured)}
