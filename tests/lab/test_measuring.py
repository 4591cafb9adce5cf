"""What experiments that measure have in common, on made-up counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services_lab.experiment import Measured, Subject
from services_lab.loads import Load
from services_lab.measuring import (
    WorkFailedError,
    check_answers,
    crossing,
    numbers_of,
    only_measured,
    outcome_of_latency,
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
    """All answers are right and nearly all have come, or there is no figure."""
    check_answers(load(rcodes={"NOERROR": 1000}, lost=10))
    for counts in (
        {"rcodes": {"NOERROR": 1000}, "lost": 11},
        {"rcodes": {"NOERROR": 1000, "SERVFAIL": 1}, "lost": 0},
        {"rcodes": {}, "lost": 0},
    ):
        with pytest.raises(WorkFailedError):
            check_answers(load(**counts))


def test_a_late_generator_is_told() -> None:
    """When most of a latency is the generator's own, it is called so."""
    late = {"p99": 0.010, "late": 0.006}
    assert outcome_of_latency(load(**late)) is Measured.GENERATOR_BOUND
    assert outcome_of_latency(load(**late | {"late": 0.004})) is Measured.MEASURED


def test_only_measured() -> None:
    """Each column may say either thing that a measurement can say of itself."""
    expected = only_measured([Subject(column="threads"), Subject(column="trio")])
    assert expected == {"threads": frozenset(Measured), "trio": frozenset(Measured)}
