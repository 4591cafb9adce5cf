"""Gnome sort takes a time that grows with the square of the list.

A garden gnome swaps two flower pots that are the wrong way round and steps back, else it steps on.
Each swap mends one inversion, and a random list of n has n(n-1)/4 of them (Knuth, The Art of
Computer Programming 3, 5.1.1), so the gnome takes about n²/2 steps with one comparison each. The
book's sort service uses it because it is slow: it burns a core on purpose.

The comparisons are counted, which is the same on every machine; and the CPU time is measured, since
a count is not yet a time. The exponent is the slope of the line through the logarithms. `sorted`,
which takes n log n, is measured the same way, so that it is seen that the method can tell.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from statistics import linear_regression
from typing import TYPE_CHECKING, Any

from asyncio_originals import sort_server

from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Observation,
    Outcome,
    Verdict,
)
from services_lab.facts import Report
from services_lab.measuring import numbers_of
from services_lab.subjects import programs
from trio_services.sans_io import sort_jobs

if TYPE_CHECKING:
    from services_lab.trial import Trial

QUICK_SIZES, FULL_SIZES = (100, 200, 400, 800), (100, 200, 400, 800, 1600, 3200)

REPEATS = 5
"""Of which the shortest counts: whatever else the machine does only ever adds."""


class Growth(Outcome):
    """How the time grows."""

    SQUARE = Verdict.BAD, "with the square"
    NEARLY_LINEAR = Verdict.GOOD, "hardly faster than the list"
    OTHERWISE = Verdict.FAIR, "otherwise"


class Counted:
    """A number that counts how often it is compared."""

    comparisons = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __lt__(self, other: "Counted") -> bool:
        Counted.comparisons += 1
        return self.value < other.value

    def __ge__(self, other: "Counted") -> bool:
        Counted.comparisons += 1
        return self.value >= other.value


async def the_originals(report: Report, *sizes: str) -> None:
    """The gnome sort of the asyncio original."""
    measure(report, sort_server.gnome_sort, sizes)


async def ours(report: Report, *sizes: str) -> None:
    """The gnome sort of trio-services, which lets a job be cancelled now and then."""
    measure(report, lambda values: sort_jobs.gnome_sort(values, lambda: None), sizes)


async def the_built_in(report: Report, *sizes: str) -> None:
    """Python's own, for comparison."""
    measure(report, lambda values: values.sort(), sizes)


def measure(report: Report, sort: Callable[[list[Any]], object], sizes: Sequence[str]) -> None:
    """Report comparisons and CPU seconds for lists of `sizes`."""
    for size in map(int, sizes):
        values = random.Random(size).sample(range(10 * size), size)
        counted = [Counted(value) for value in values]
        Counted.comparisons = 0
        sort(counted)
        assert [each.value for each in counted] == sorted(values)
        seconds = math.inf
        for _ in range(REPEATS):
            copies = [values.copy() for _ in range(max(1, 800 // size))]
            began = time.process_time()
            for copy in copies:
                sort(copy)
            seconds = min(seconds, (time.process_time() - began) / len(copies))
            assert all(copy == sorted(values) for copy in copies)
        report(**{f"comparisons at {size}": Counted.comparisons, f"CPU at {size}": seconds})


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return k of the c·nᵏ that fits best: the slope of the line through the logarithms."""
    return linear_regression([*map(math.log, sizes)], [*map(math.log, values)]).slope


async def run(trial: "Trial") -> Observation:
    """Fit both exponents, and call it a square if both say so."""
    sizes = QUICK_SIZES if trial.quick else FULL_SIZES
    facts = numbers_of(await trial.run_program(*map(str, sizes)))
    comparisons = [facts[f"comparisons at {size}"] for size in sizes]
    seconds = [facts[f"CPU at {size}"] for size in sizes]
    counted, timed = exponent(sizes, comparisons), exponent(sizes, seconds)
    outcome = Growth.OTHERWISE
    if 1.9 < counted < 2.1 and 1.6 < timed < 2.4:
        outcome = Growth.SQUARE
    elif counted < 1.5 and timed < 1.6:
        outcome = Growth.NEARLY_LINEAR
    return Observation(
        outcome=outcome,
        figures={
            "exponent of comparisons": counted,
            "exponent of CPU time": timed,
            **{f"CPU at {size}": value for size, value in zip(sizes, seconds, strict=True)},
        },
        evidence=tuple(
            f"{size} numbers: {int(count)} comparisons, {spent * 1e6:.0f} µs"
            for size, count, spent in zip(sizes, comparisons, seconds, strict=True)
        ),
    )


EXPERIMENT = Experiment(
    name="gnome-square",
    family=Family.CLAIM,
    question="Does gnome sort take a time that grows with the square of the list?",
    why=(
        "A hundred numbers take a fraction of a millisecond, so it looks harmless; a million would "
        "take hours. Whoever lets a client choose the length lets it choose the square of the "
        "time, which is what limits, deadlines and worker processes are for."
    ),
    subjects=programs(
        original=the_originals, trio=ours, others={"built-in": (the_built_in, "asyncio")}
    ),
    expected={
        "original": frozenset({Growth.SQUARE}),
        "trio": frozenset({Growth.SQUARE}),
        "built-in": frozenset({Growth.NEARLY_LINEAR}),
    },
    run=run,
    figures=(
        Figure(name="exponent of CPU time", unit="", is_main=True),
        Figure(name="exponent of comparisons", unit=""),
        *(Figure(name=f"CPU at {size}", unit="s") for size in FULL_SIZES),
    ),
    picture="curve",
)
