"""Experiments and results that are made up, so that what is said of them is known beforehand."""

from collections.abc import Awaitable, Callable
from typing import Any

from services_lab.conditions import Conditions
from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Observation,
    Outcome,
    Subject,
    Verdict,
)
from services_lab.results import ColumnResult, ExperimentResult, Seen
from services_lab.trial import Trial


class Fake(Outcome):
    """What may come of a made-up experiment."""

    WELL = Verdict.GOOD, "went well"
    BADLY = Verdict.BAD, "went badly"


class Nobody:
    """Watches a run, and tells nobody."""

    def observing(self, experiment: Experiment, subject: Subject, round: int) -> None:
        """Do nothing."""

    def observed(
        self, experiment: Experiment, subject: Subject, seen: Seen | None, seconds: float
    ) -> None:
        """Do nothing."""

    def finished(self, experiment: Experiment, result: ExperimentResult) -> None:
        """Do nothing."""


def experiment(
    run: Callable[[Trial], Awaitable[Observation]],
    columns: tuple[str, ...] = ("original", "trio"),
    **changes: Any,
) -> Experiment:
    """Return an experiment that asks `columns`, and expects all to go well."""
    parts: dict[str, Any] = {
        "name": "made-up",
        "family": Family.BEHAVIOUR,
        "question": "What comes of it?",
        "why": "Nobody knows.",
        "subjects": tuple(
            Subject(column=each, program="services_lab.program:main", runtime="trio")
            for each in columns
        ),
        "expected": dict.fromkeys(columns, frozenset({Fake.WELL})),
        "run": run,
        "figures": (Figure(name="time", unit="s", is_main=True),),
        **changes,
    }
    return Experiment(**parts)


def column(name: str, *times: float, outcome: Fake = Fake.WELL, **changes: Any) -> ColumnResult:
    """Return what was seen of a subject that took `times`, one a round."""
    parts: dict[str, Any] = {
        "column": name,
        "expected": ("WELL",),
        "seen": tuple(
            Seen(
                round=number,
                outcome=outcome.name,
                verdict=outcome.verdict,
                words=outcome.words,
                figures={"time": time},
            )
            for number, time in enumerate(times)
        ),
        **changes,
    }
    return ColumnResult(**parts)


def result(*columns: ColumnResult, **changes: Any) -> ExperimentResult:
    """Return what an experiment about speed found."""
    parts: dict[str, Any] = {
        "name": "made-up",
        "family": Family.SPEED,
        "question": "How long does it take?",
        "figures": (Figure(name="time", unit="s", is_main=True),),
        "columns": columns,
        **changes,
    }
    return ExperimentResult(**parts)


CONDITIONS = Conditions(
    processor="a fast one",
    cores=2,
    memory=2**34,
    system="Linux 6",
    container="",
    python="3.13.0 (CPython)",
    versions={"trio": "0.35.0"},
    pinned=True,
    load_average=0.5,
    quick=False,
    rounds=None,
    command="services-lab run made-up",
    began="2026-01-01T00:00:00+00:00",
)
