"""What an experiment is: a question, the subjects that are asked, what each is expected to do.

An experiment is one file in `experiments/` that ends in `EXPERIMENT = Experiment(…)`. It is asked
of *subjects*, a column of the matrix each: a *server* (a variant, in a process of its own) or a
*program* (a short one that stands in the experiment's file, in a process of its own as well). Its
`run` makes one observation of one subject; the runner repeats that in rounds, subjects in turns.

An *outcome* is what was seen, as a member of the experiment's own enum, with a verdict and words
for people. It comes with figures (SI units: seconds, bytes, per second) and evidence: log lines,
exit status, CPU seconds that were burnt after the client had left. A result that is not among those
expected is a failed test.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from services_lab.variants import Variant
from trio_services.sans_io.task_events import TaskEvent

if TYPE_CHECKING:
    from services_lab.trial import Trial

COLUMNS = (
    "original",
    "original-uvloop",
    "asyncio",
    "uvloop",
    "anyio-asyncio",
    "anyio-uvloop",
    "anyio-trio",
    "trio",
)
"""The columns of the matrix, in order. `original` is asyncio as the book had it (bare tasks,
callbacks, `gather`), `asyncio` is today's (TaskGroup, timeout, drain)."""

EXHIBITS = ("plain-trio", "drained-asyncio", "asyncio-4k")
"""Columns of the experiments that show what a technique brings and what a library brings."""

PYTHON = sys.version_info[:2]


class Family(StrEnum):
    """What kind of question it is."""

    BEHAVIOUR = "behaviour"
    SPEED = "speed"
    CLAIM = "claim"


class Verdict(Enum):
    """What an outcome means for somebody who runs a service; with a sign that needs no colour."""

    GOOD = "✓"
    FAIR = "~"
    BAD = "✗"
    MEASURED = "•"


class Outcome(Enum):
    """The base of each experiment's outcomes; a member is `NAME = Verdict.…, "in a few words"`."""

    def __init__(self, verdict: Verdict, words: str) -> None:
        self.verdict = verdict
        self.words = words


class Measured(Outcome):
    """The outcomes of an experiment that only measures."""

    MEASURED = Verdict.MEASURED, "measured"
    GENERATOR_BOUND = Verdict.MEASURED, "measured; the load generator was the bottleneck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something that is measured, in SI units.

    Attributes:
        name: `CPU per query`.
        unit: `s`, `B`, `/s`, or "" for a count or a ratio. People see µs, KiB, k/s.
        lower_is_better: None where neither is.
        is_main: Whether it is drawn and shown in the matrix; one figure of an experiment.
    """

    name: str
    unit: str
    lower_is_better: bool | None = True
    is_main: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of one subject in one round.

    Attributes:
        outcome: What happened.
        figures: Values by the names of the experiment's figures.
        evidence: Lines that show it: of a log, `exit status 1`, `0.93 s of CPU after it had left`.
        events: What its tasks did, if it was recorded.
        generator: What made the load and how busy it was; "" if nothing did.
    """

    outcome: Outcome
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    evidence: tuple[str, ...] = ()
    events: tuple[TaskEvent, ...] = ()
    generator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is asked.

    Attributes:
        column: Its column in the matrix.
        variant: The server, or None if it is a program.
        program: The program's function, as `module:function`, or "" if it is a server.
        runtime: What the program runs on: `asyncio`, `uvloop` or `trio`; `anyio-…` for AnyIO.
        options: Further arguments of the server.
        source: The files that a reader may want to open, from the project's root.
    """

    column: str
    variant: Variant | None = None
    program: str = ""
    runtime: str = ""
    options: tuple[str, ...] = ()
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """An expectation of a measurement: a column's `figure` is less than `below` × another's.

    It is the median that counts, of the ratios within each round.

    The bound is what holds on any machine, not what was measured on one: a test must not fail since
    a neighbour was busy.
    """

    figure: str
    column: str
    below: float
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A question, and how it is answered.

    Attributes:
        name: As on the command line; the file's name with dashes.
        family: What kind of question it is.
        question: One sentence that ends in a question mark.
        why: A paragraph of plain text for readers: why it matters, and what to look at.
        subjects: Who is asked, in the order of the columns.
        expected: The outcomes that are right for each column, on this Python (see `PYTHON`).
        run: Makes one observation of one subject.
        figures: What is measured.
        ratios: What is expected of the measurements.
        differences: The rows of the table of differences in docs that it shows.
        rounds: How often it is run by default; `--quick` runs it once.
        picture: How it is drawn: `timeline`, `bars`, `curve` (a figure over sizes) or "".
    """

    name: str
    family: Family
    question: str
    why: str
    subjects: tuple[Subject, ...]
    expected: Mapping[str, frozenset[Outcome]]
    run: Callable[["Trial"], Awaitable[Observation]]
    figures: tuple[Figure, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    differences: tuple[int, ...] = ()
    rounds: int = 1
    picture: str = ""
