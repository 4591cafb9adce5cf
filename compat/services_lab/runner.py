"""Runs experiments: every subject in turns, round by round, each with a deadline.

Turns, since machines change by the minute: the subjects of one round see about the same. What an
experiment cannot do is its error, written down with its traceback, and the others go on. Ctrl-C
keeps what was seen up to then.
"""

import inspect
import signal
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

import trio

from services_lab.conditions import Conditions
from services_lab.cores import Cores, cores_apart
from services_lab.experiment import Experiment, Family, Subject
from services_lab.results import ColumnResult, ExperimentResult, Results, Seen
from services_lab.side_by_side import open_folder
from services_lab.statistics import complaints
from services_lab.subjects import missing, runtime_version
from services_lab.trial import Trial

OBSERVATION_DEADLINE = 120.0
"""Seconds for one observation: the longest takes ten on an idle machine."""

QUICK_DEADLINE = 60.0
"""The same for a quick one, which takes one second, on a machine that is very busy."""


class ObservationFailedError(Exception):
    """An observation could not be made; the cause says why."""


class Watcher(Protocol):
    """Who is told how a run goes on."""

    def observing(self, experiment: Experiment, subject: Subject, round: int) -> None:
        """An observation begins."""

    def observed(
        self, experiment: Experiment, subject: Subject, seen: Seen | None, seconds: float
    ) -> None:
        """It has ended after `seconds`; without having seen anything if it failed."""

    def finished(self, experiment: Experiment, result: ExperimentResult) -> None:
        """An experiment is complete, or cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run.

    Attributes:
        experiments: In this order.
        columns: Only these; all if empty.
        quick: Whether rough figures are enough.
        rounds: How often, instead of each experiment's own number.
        at_once: How many subjects of a question about behaviour are asked at the same time; those
            whose time is measured are always alone.
    """

    experiments: tuple[Experiment, ...]
    columns: frozenset[str] = frozenset()
    quick: bool = False
    rounds: int | None = None
    at_once: int = 1

    def rounds_of(self, experiment: Experiment) -> int:
        """Return how many rounds an experiment gets."""
        return self.rounds or (1 if self.quick else experiment.rounds)

    def subjects_of(self, experiment: Experiment) -> list[Subject]:
        """Return who is asked and who is known to be missing, in order."""
        return [
            each for each in experiment.subjects if not self.columns or each.column in self.columns
        ]

    def observations(self, experiment: Experiment) -> int:
        """Return how many observations an experiment takes."""
        present = [each for each in self.subjects_of(experiment) if not missing(each)]
        return len(present) * self.rounds_of(experiment)


@dataclass(slots=True)
class _Column:
    """What was seen of one subject up to now."""

    subject: Subject
    missing: str
    seen: list[Seen] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def run_plan(plan: Plan, watcher: Watcher, conditions: Conditions) -> Results:
    """Run every experiment of `plan` and return what they found.

    SIGINT and SIGTERM end what runs, and the results are those up to then, marked as interrupted.

    Args:
        plan: What to run.
        watcher: Told of every step.
        conditions: For the results.
    """
    found: list[ExperimentResult] = []
    interrupted = False

    async def stop_on_signal() -> None:
        nonlocal interrupted
        async for _ in signals:
            interrupted = True
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_folder() as home, trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signal)
            for experiment in plan.experiments:
                await run_experiment(plan, experiment, home, watcher, found)
            nursery.cancel_scope.cancel()
    return Results(conditions=conditions, experiments=tuple(found), interrupted=interrupted)


async def run_experiment(
    plan: Plan, experiment: Experiment, home: Path, watcher: Watcher, into: list[ExperimentResult]
) -> None:
    """Run one experiment.

    Args:
        plan: How.
        experiment: The question.
        home: The folder that the warden watches.
        watcher: Told of every step.
        into: Gets what was seen, also when it is cancelled half-way.
    """
    columns = [_Column(each, missing(each)) for each in plan.subjects_of(experiment)]
    try:
        await _run_rounds(plan, experiment, columns, home, watcher)
    finally:
        if any(each.seen or each.errors or each.missing for each in columns):
            into.append(result_of(experiment, columns))
            watcher.finished(experiment, into[-1])


async def _run_rounds(
    plan: Plan,
    experiment: Experiment,
    columns: Iterable[_Column],
    home: Path,
    watcher: Watcher,
) -> None:
    limit = trio.CapacityLimiter(plan.at_once if experiment.family is Family.BEHAVIOUR else 1)

    async def look_at(column: _Column, number: int) -> None:
        async with limit:
            watcher.observing(experiment, column.subject, number)
            began, seen = trio.current_time(), None
            try:
                seen = await observe(
                    experiment, column.subject, home, round=number, quick=plan.quick
                )
                column.seen.append(seen)
            except ObservationFailedError as error:
                column.errors.append(str(error))
            watcher.observed(experiment, column.subject, seen, trio.current_time() - began)

    for number in range(plan.rounds_of(experiment)):
        # One that has failed is not asked again: what hangs once would hang in every round.
        asked = [each for each in columns if not each.missing and not each.errors]
        async with trio.open_nursery() as nursery:
            for column in asked:
                if limit.total_tokens == 1:
                    await look_at(column, number)
                else:
                    nursery.start_soon(look_at, column, number)


async def observe(
    experiment: Experiment, subject: Subject, home: Path, *, round: int = 0, quick: bool = False
) -> Seen:
    """Make one observation.

    Args:
        experiment: The question.
        subject: Who is asked; it must not be missing.
        home: The folder that the warden watches.
        round: Its number.
        quick: Whether a rough figure is enough.

    Raises:
        ObservationFailedError: The experiment failed, or took longer than its deadline; the text is
            one line that says why, and the traceback.
    """
    folder = home / f"{experiment.name}.{subject.column}.{round}"
    folder.mkdir()
    cores = Cores() if experiment.family is Family.BEHAVIOUR else cores_apart()
    trial = Trial(subject=subject, quick=quick, folder=folder, home=home, cores=cores)
    began = trio.current_time()
    try:
        with trio.fail_after(QUICK_DEADLINE if quick else OBSERVATION_DEADLINE):
            found = await experiment.run(trial)
    except Exception as error:
        text = "".join([_in_a_line(error), "\n", *traceback.format_exception(error)])
        raise ObservationFailedError(text) from error
    return Seen(
        round=round,
        outcome=found.outcome.name,
        verdict=found.outcome.verdict,
        words=found.outcome.words,
        figures=dict(found.figures),
        evidence=tuple(found.evidence),
        events=tuple(found.events),
        generator=found.generator,
        seconds=trio.current_time() - began,
    )


def _in_a_line(error: BaseException) -> str:
    """Return what failed; of a group, the first that did."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def result_of(experiment: Experiment, columns: Sequence[_Column]) -> ExperimentResult:
    """Return what was seen of the subjects of an experiment, and what is to be said against it."""
    results = tuple(
        ColumnResult(
            column=each.subject.column,
            runtime=runtime_version(each.subject),
            missing=each.missing,
            expected=tuple(
                sorted(outcome.name for outcome in experiment.expected[each.subject.column])
            ),
            seen=tuple(each.seen),
            errors=tuple(each.errors),
            source=each.subject.source,
            code=code_of(each.subject),
        )
        for each in columns
    )
    return ExperimentResult(
        name=experiment.name,
        family=experiment.family,
        question=experiment.question,
        why=experiment.why,
        figures=experiment.figures,
        differences=experiment.differences,
        picture=experiment.picture,
        columns=results,
        complaints=complaints(results, experiment.ratios),
        source=f"compat/services_lab/experiments/{experiment.name.replace('-', '_')}.py",
    )


def code_of(subject: Subject) -> str:
    """Return the text of a subject's program; "" for a server."""
    if not subject.program:
        return ""
    module, _, name = subject.program.partition(":")
    return inspect.getsource(getattr(import_module(module), name))
