"""What experiments that measure have in common: a figure counts only if the work was done right."""

import math
from collections.abc import Iterable, Mapping, Sequence

from services_lab.experiment import Measured, Outcome, Subject
from services_lab.loads import Load
from services_lab.ran import Ran


class WorkFailedError(Exception):
    """What was to be measured was not done, or not rightly: there is no figure."""


def only_measured(subjects: Iterable[Subject]) -> Mapping[str, frozenset[Outcome]]:
    """Return the `expected` of an experiment that only measures."""
    return {each.column: frozenset(Measured) for each in subjects}


def numbers_of(ran: Ran) -> Mapping[str, float]:
    """Return the facts of a program that are numbers.

    Raises:
        WorkFailedError: The program did not end well.
    """
    if ran.exit_status != 0:
        raise WorkFailedError("\n".join((f"exit status {ran.exit_status}", *ran.stderr)))
    return {name: float(each) for name, each in ran.facts.items() if isinstance(each, int | float)}


def check_answers(load: Load, most_lost: float = 0.01) -> None:
    """See that DNS queries were answered: with NOERROR, and nearly all of them.

    Raises:
        WorkFailedError: They were not.
    """
    answered = sum(load.counts["rcodes"].values())
    if set(load.counts["rcodes"]) != {"NOERROR"}:
        raise WorkFailedError(f"answered with {load.counts['rcodes']}")
    if load["lost"] > most_lost * answered:
        raise WorkFailedError(f"{load['lost']:.0f} lost of {answered + load['lost']:.0f}")


def outcome_of_latency(load: Load) -> Measured:
    """Tell whose the latencies of `dns_open_loop` are: its own lateness is part of them."""
    return Measured.GENERATOR_BOUND if load["late"] > load["p99"] / 2 else Measured.MEASURED


def crossing(sizes: Sequence[int], one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the size from which on `other` is below `one`, or None if it is not at the last.

    Between two sizes both are taken as straight lines on logarithmic axes.
    """
    gains = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    if gains[-1] <= 0:
        return None
    last = max((at for at, gain in enumerate(gains) if gain <= 0), default=None)
    if last is None:
        return float(sizes[0])
    part = -gains[last] / (gains[last + 1] - gains[last])
    return float(sizes[last] * (sizes[last + 1] / sizes[last]) ** part)
