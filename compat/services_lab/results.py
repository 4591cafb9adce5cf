"""What a run of the lab found: values that outlive the code, and their JSON.

`results.json` is a `Results`, field by field: dataclasses are objects, tuples are lists, enums are
their values, and what an experiment says of itself is written down with it, so that a report can be
made from the file alone, by a later version or on another machine. FORMAT_VERSION goes up when a
reader of the old form would misread the new.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services_lab.conditions import Conditions
from services_lab.experiment import Family, Figure, Verdict
from services_lab.json_values import from_json, to_json
from trio_services.sans_io.task_events import TaskEvent

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One observation.

    Attributes:
        round: In which round, from 0; observations of one round are comparable.
        outcome: The name of the member of the experiment's enum.
        verdict: What it means for somebody who runs a service.
        words: The outcome for people.
        figures: Values in SI units, by the names of the experiment's figures.
        evidence: Lines that show it.
        events: What its tasks did, if it was recorded.
        generator: What made the load and how busy it was; "" if nothing did.
        seconds: How long the observation took.
    """

    round: int
    outcome: str
    verdict: Verdict
    words: str
    figures: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    events: tuple[TaskEvent, ...] = ()
    generator: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnResult:
    """What was seen of one subject.

    Attributes:
        column: Its column in the matrix.
        runtime: What it ran on, with versions, for people: `uvloop 0.23.0`.
        missing: Why it could not be asked here; "" if it was.
        expected: The names of the outcomes that are right.
        seen: Every observation, in the order of the rounds.
        errors: Why observations could not be made: a line, and the traceback.
        source: The files that a reader may want to open, from the project's root.
        code: The text of its program; "" for a server.
        command: How it was started, as far as it is the same for every trial.
    """

    column: str
    runtime: str = ""
    missing: str = ""
    expected: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()
    errors: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    code: str = ""
    command: str = ""

    @property
    def unexpected(self) -> tuple[Seen, ...]:
        """The observations whose outcome is not among those expected."""
        return tuple(each for each in self.seen if each.outcome not in self.expected)

    @property
    def shown(self) -> Seen | None:
        """The observation that stands for the column: an unexpected one if there is any, so that it
        is not overlooked, else the first; None if there is none."""
        return next(iter((*self.unexpected, *self.seen)), None)

    def values(self, figure: str) -> tuple[float, ...]:
        """Return the values of a figure, in the order of the rounds."""
        return tuple(each.figures[figure] for each in self.seen if figure in each.figures)

    def by_round(self, figure: str) -> Mapping[int, float]:
        """Return the values of a figure by round."""
        return {each.round: each.figures[figure] for each in self.seen if figure in each.figures}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """What one experiment found.

    Attributes:
        name, family, question, why, figures, differences, picture: As the experiment has them.
        columns: In the order of the experiment's subjects.
        complaints: What is not as expected, a sentence each; empty if all is.
        source: The file of the experiment, from the project's root.
    """

    name: str
    family: Family
    question: str
    why: str = ""
    figures: tuple[Figure, ...] = ()
    differences: tuple[int, ...] = ()
    picture: str = ""
    columns: tuple[ColumnResult, ...] = ()
    complaints: tuple[str, ...] = ()
    source: str = ""

    @property
    def main_figure(self) -> Figure | None:
        """The figure that is drawn and shown in the matrix."""
        return next((each for each in self.figures if each.is_main), None)

    @property
    def base(self) -> ColumnResult | None:
        """The column that ratios are to: `original`, or else the first that was measured."""
        measured = [each for each in self.columns if each.seen]
        return next(
            (each for each in measured if each.column == "original"), next(iter(measured), None)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that one run found.

    Attributes:
        conditions: Where, when and with what.
        experiments: In the order in which they were run; those that were begun.
        interrupted: Whether somebody ended the run before it was complete.
        version: FORMAT_VERSION of what wrote it.
    """

    conditions: Conditions
    experiments: tuple[ExperimentResult, ...] = ()
    interrupted: bool = False
    version: int = field(default=FORMAT_VERSION)


class ResultsError(Exception):
    """A file is no results of the lab; the text is one line that says why."""


def write_results(results: Results, path: Path) -> None:
    """Write `results` as JSON, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(to_json(results), ensure_ascii=False) + "\n")
    unfinished.replace(path)


def read_results(path: Path) -> Results:
    """Return the results in a file.

    Raises:
        ResultsError: It has none, or those of another version.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ResultsError(f"{path} is no JSON") from None
    version = found.get("version") if isinstance(found, dict) else None
    if version != FORMAT_VERSION:
        raise ResultsError(f"{path} has version {version!r}; this lab reads {FORMAT_VERSION}")
    try:
        return from_json(Results, found)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path} is no results of the lab: {error}") from None
