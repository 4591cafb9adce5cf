"""How far a run is, and how long it will take: from how long its observations took up to now."""

from collections import defaultdict

from services_lab.experiment import Experiment, Family
from services_lab.runner import Plan

FIRST_GUESS = {Family.BEHAVIOUR: 1.0, Family.SPEED: 3.0, Family.CLAIM: 3.0}
"""Seconds for an observation before there is any to go by."""

FIRST_GUESS_FULL = {Family.BEHAVIOUR: 1.5, Family.SPEED: 8.0, Family.CLAIM: 8.0}
"""The same without `--quick`."""


class Estimate:
    """What is left of a plan.

    Args:
        plan: What is run.
    """

    def __init__(self, plan: Plan) -> None:
        self.total = sum(map(plan.observations, plan.experiments))
        self.done = 0
        self._left = {each.name: plan.observations(each) for each in plan.experiments}
        self._families = {each.name: each.family for each in plan.experiments}
        self._guess = FIRST_GUESS if plan.quick else FIRST_GUESS_FULL
        self._by_name: defaultdict[str, list[float]] = defaultdict(list)
        self._by_family: defaultdict[Family, list[float]] = defaultdict(list)

    def observed(self, experiment: Experiment, seconds: float) -> None:
        """Note that an observation of `experiment` took `seconds`."""
        self.done += 1
        self._left[experiment.name] -= 1
        self._by_name[experiment.name].append(seconds)
        self._by_family[experiment.family].append(seconds)

    def skipped(self, experiment: Experiment) -> None:
        """Note that nothing more of `experiment` will be observed."""
        self.total -= self._left[experiment.name]
        self._left[experiment.name] = 0

    def seconds_left(self) -> float:
        """Return how long the rest will take: each like its own kind, or like its family."""
        return sum(left * self._each(name) for name, left in self._left.items())

    def _each(self, name: str) -> float:
        family = self._families[name]
        known = self._by_name[name] or self._by_family[family] or [self._guess[family]]
        return sum(known) / len(known)
