"""Medians with their range, ratios paired by round, and expectations that fail."""

import pytest
from services_lab.experiment import Ratio
from services_lab.statistics import Spread, complaints, paired_ratio, ratio_to_base, spread

from tests.lab.fakes import Fake, column, result


def test_a_spread_is_the_median_and_the_range() -> None:
    """One burst moves the range and not the median."""
    assert spread([1.0, 1.2, 9.0]) == Spread(1.2, 1.0, 9.0, 3)
    assert spread([2.0, 1.0]) == Spread(1.5, 1.0, 2.0, 2)
    assert spread([]) is None


def test_ratios_are_paired_by_round() -> None:
    """A slow minute, in which both took thrice as long, is no part of the ratio."""
    assert paired_ratio({0: 1.0, 1: 3.0, 2: 1.0}, {0: 4.0, 1: 12.0, 2: 4.0}) == Spread(
        0.25, 0.25, 0.25, 3
    )


def test_only_rounds_that_both_have_make_a_ratio() -> None:
    """A round that one of them missed is left out, and with none left there is no ratio."""
    assert paired_ratio({0: 1.0, 2: 1.0}, {0: 2.0, 1: 9.0}) == Spread(0.5, 0.5, 0.5, 1)
    assert paired_ratio({0: 1.0}, {1: 2.0}) is None
    assert paired_ratio({0: 1.0}, {0: 0.0}) is None


def test_ratios_are_to_the_original() -> None:
    """The base is `original` wherever it stands, and has no ratio to itself."""
    trio, original = column("trio", 1.0), column("original", 4.0)
    found = result(trio, original)
    assert ratio_to_base(found, trio, "time") == Spread(0.25, 0.25, 0.25, 1)
    assert ratio_to_base(found, original, "time") is None


def test_without_an_original_ratios_are_to_the_first_that_was_measured() -> None:
    """A column that is missing is no base."""
    missing, asyncio = column("original", missing="not installed"), column("asyncio", 2.0)
    trio = column("trio", 1.0)
    assert ratio_to_base(result(missing, asyncio, trio), trio, "time") == Spread(0.5, 0.5, 0.5, 1)


def test_what_is_as_expected_is_no_complaint() -> None:
    """Outcomes and ratios that hold, and subjects that are missing, are not spoken of."""
    columns = [column("original", 4.0), column("trio", 1.0), column("uvloop", missing="not there")]
    ratios = [
        Ratio(figure="time", column="trio", below=0.5, of="original"),
        Ratio(figure="time", column="uvloop", below=0.5, of="original"),
        Ratio(figure="time", column="anyio-trio", below=0.5, of="original"),
    ]
    assert complaints(columns, ratios) == ()


def test_an_outcome_in_any_round_that_is_not_expected_is_a_complaint() -> None:
    """It is named once, in words, with what had been expected."""
    bad = column("trio", 1.0, 1.0, outcome=Fake.BADLY)
    assert complaints([bad], []) == ("trio: 'went badly', expected WELL",)


def test_a_ratio_that_is_not_kept_is_a_complaint() -> None:
    """It says the ratio and the bound."""
    columns = [column("original", 4.0), column("trio", 3.0)]
    ratio = Ratio(figure="time", column="trio", below=0.5, of="original")
    assert complaints(columns, [ratio]) == (
        "trio: time is ×0.75 of original's, expected below ×0.5",
    )


def test_a_ratio_of_a_figure_that_was_not_measured_is_a_complaint() -> None:
    """What cannot be compared has not been shown."""
    columns = [column("original", 4.0), column("trio", 3.0)]
    ratio = Ratio(figure="memory", column="trio", below=0.5, of="original")
    assert complaints(columns, [ratio]) == ("trio: no memory to compare with original",)


def test_a_failed_observation_is_a_complaint() -> None:
    """The line that says why is told, the traceback is left to the details."""
    [said] = complaints([column("trio", errors=("OSError: gone\nTraceback …",))], [])
    assert said == "trio: could not be observed: OSError: gone"


@pytest.mark.parametrize("below", [0.74, 0.75])
def test_the_bound_itself_is_not_below(below: float) -> None:
    """`below` means below."""
    columns = [column("original", 4.0), column("trio", 3.0)]
    assert complaints(columns, [Ratio(figure="time", column="trio", below=below, of="original")])
