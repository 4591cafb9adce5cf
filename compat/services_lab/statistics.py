"""The few statistics of the lab: medians with their range, ratios paired by round, expectations.

Medians, since a neighbour's burst is an outlier and not a mistake of the code. Ratios are taken
within each round, and their median is told: variants that are measured one after the other see the
same machine, and what slows it down for a minute cancels out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from services_lab.experiment import Ratio
from services_lab.results import ColumnResult, ExperimentResult


@dataclass(frozen=True, slots=True)
class Spread:
    """Some values of one figure."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median and the range of `values`; None if there are none."""
    found = sorted(values)
    return Spread(median(found), found[0], found[-1], len(found)) if found else None


def paired_ratio(values: Mapping[int, float], base: Mapping[int, float]) -> Spread | None:
    """Return the ratio of `values` to `base` over the rounds that have both; None if none has."""
    both = values.keys() & base.keys()
    return spread(values[each] / base[each] for each in both if base[each])


def ratio_to_base(result: ExperimentResult, column: ColumnResult, figure: str) -> Spread | None:
    """Return the ratio of a column's figure to the result's base; None for the base itself."""
    base = result.base
    if base is None or base.column == column.column:
        return None
    return paired_ratio(column.by_round(figure), base.by_round(figure))


def complaints(columns: Iterable[ColumnResult], ratios: Iterable[Ratio]) -> tuple[str, ...]:
    """Return what is not as expected, a sentence each.

    A subject that is missing is no complaint, nor is a ratio to one.
    """
    by_name = {each.column: each for each in columns}
    found = []
    for name, column in by_name.items():
        if column.errors:
            found.append(f"{name}: could not be observed: {column.errors[0].splitlines()[0]}")
        right = " or ".join(column.expected)
        words = dict.fromkeys(seen.words for seen in column.unexpected)
        found += [f"{name}: {each!r}, expected {right}" for each in words]
    for ratio in ratios:
        complaint = _ratio_complaint(by_name, ratio)
        if complaint:
            found.append(complaint)
    return tuple(found)


def _ratio_complaint(columns: Mapping[str, ColumnResult], ratio: Ratio) -> str:
    pair = columns.get(ratio.column), columns.get(ratio.of)
    if pair[0] is None or pair[1] is None or not (pair[0].seen and pair[1].seen):
        return ""
    found = paired_ratio(pair[0].by_round(ratio.figure), pair[1].by_round(ratio.figure))
    if found is None:
        return f"{ratio.column}: no {ratio.figure} to compare with {ratio.of}"
    if found.median < ratio.below:
        return ""
    return (
        f"{ratio.column}: {ratio.figure} is ×{found.median:.2f} of {ratio.of}'s, "
        f"expected below ×{ratio.below:g}"
    )
