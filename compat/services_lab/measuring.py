"""What experiments that measure have in common: a figure counts only if the work was done right."""

import math
from collections.abc import Iterable, Mapping, Sequence

from services_lab.experiment import Observation, Outcome, Subject, Verdict
from services_lab.loads import Load
from services_lab.ran import Ran

QUANTILES = ("p50", "p99", "p99.9")
"""Of latencies, by the names that figures have."""


class WorkFailedError(Exception):
    """What was to be measured was not done, or not rightly: there is no figure."""


def any_of(
    outcomes: Iterable[Outcome], subjects: Iterable[Subject]
) -> Mapping[str, frozenset[Outcome]]:
    """Return the `expected` of an experiment that only measures, say `any_of(Measured, …)`."""
    return {each.column: frozenset(outcomes) for each in subjects}


def numbers_of(ran: Ran) -> Mapping[str, float]:
    """Return the facts of a program that are numbers.

    Raises:
        WorkFailedError: The program did not end well.
    """
    if ran.exit_status != 0:
        raise WorkFailedError("\n".join((f"exit status {ran.exit_status}", *ran.stderr)))
    return {name: float(each) for name, each in ran.facts.items() if isinstance(each, int | float)}


def check_answers(load: Load) -> None:
    """See that DNS queries were answered, all that were with NOERROR.

    Raises:
        WorkFailedError: They were not.
    """
    if set(load.counts["rcodes"]) != {"NOERROR"}:
        raise WorkFailedError(f"answered with {load.counts['rcodes'] or 'nothing'}")


class Latency(Outcome):
    """The outcomes of an experiment that measures latencies, with `dns_open_loop`."""

    MEASURED = Verdict.MEASURED, "measured"
    GENERATOR_BOUND = Verdict.MEASURED, "measured; the load generator was late itself"
    LOSSY = Verdict.BAD, "measured; more than 1 % of the queries were lost"


def latencies_seen(load: Load) -> Observation:
    """Return the observation of latencies that `dns_open_loop` has found.

    A quantile that only lost queries exceed has no figure. Where the generator's own lateness is
    more than half of the p99, that is said.

    Raises:
        WorkFailedError: Answers were wrong.
    """
    check_answers(load)
    figures = {name: load.counts[name] for name in QUANTILES if load.counts[name] is not None}
    outcome = Latency.MEASURED
    if "p99" not in figures:
        outcome = Latency.LOSSY
    elif load["late"] > figures["p99"] / 2:
        outcome = Latency.GENERATOR_BOUND
    rate = load["sent"] / load.seconds
    return Observation(
        outcome=outcome,
        figures={**figures, "lost": load["lost"]},
        evidence=(
            f"{load['sent']:.0f} queries, {rate:.0f} a second, {load['lost']:.0f} lost",
            f"the worst reply took {load['worst'] * 1e3:.1f} ms",
            f"the generator was at most {load['late'] * 1e6:.0f} µs late, in 99 % of queries",
        ),
        generator=str(load),
    )


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
