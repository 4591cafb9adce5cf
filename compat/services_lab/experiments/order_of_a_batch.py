"""The order in which ready tasks run: as they were started, or any.

Tasks that become ready together run in one pass of the loop. asyncio runs them first in, first out.
That is not promised for tasks, but it has always been so, and code comes to rely on it without
anybody noticing: a consumer that works only if its producer began first. One `await` more, or
another loop, and it breaks.

Trio promises no order and sees to it that nobody can rely on one: each batch is run from the front
or from the back, at random. What depends on the order fails in the first tests, not in a year. (For
whoever needs an order there are events, and `nursery.start`.)
"""

import asyncio
from collections.abc import Sequence

import anyio
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

TASKS = 4
BATCHES = 100
"""A loop that turns half of the batches round has them all in order with a chance of 2 ** -100."""


class Fate(Outcome):
    """In which order tasks began: neither is better, it is a matter of when one wants to know."""

    AS_STARTED = Verdict.MEASURED, "always as they were started"
    AT_RANDOM = Verdict.MEASURED, "as started or the other way round, at random"
    ANY = Verdict.MEASURED, "in any order"


async def with_asyncio(report: Report) -> None:
    """A task group."""
    batches = []
    for _ in range(BATCHES):
        began: list[int] = []

        async def begin(number: int, began: list[int] = began) -> None:
            began.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(TASKS):
                tasks.create_task(begin(number))
        batches.append(began)
    tell(report, batches)


async def with_anyio(report: Report) -> None:
    """A task group."""
    batches = []
    for _ in range(BATCHES):
        began: list[int] = []

        async def begin(number: int, began: list[int] = began) -> None:
            began.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(TASKS):
                tasks.start_soon(begin, number)
        batches.append(began)
    tell(report, batches)


async def with_trio(report: Report) -> None:
    """A nursery."""
    batches = []
    for _ in range(BATCHES):
        began: list[int] = []

        async def begin(number: int, began: list[int] = began) -> None:
            began.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(begin, number)
        batches.append(began)
    tell(report, batches)


def tell(report: Report, batches: Sequence[Sequence[int]]) -> None:
    """Report how many batches began in the order of starting, or turned round, and the first."""
    in_order = sum(list(began) == sorted(began) for began in batches)
    turned = sum(list(began) == sorted(began, reverse=True) for began in batches)
    first = ["".join(map(str, began)) for began in batches[:5]]
    report(in_order=in_order, turned=turned, first=first)


def judge(ran: Ran) -> Observation:
    """Say whether every batch began in the order of starting, or turned round."""
    in_order, turned = (int(str(ran.facts[each])) for each in ("in_order", "turned"))
    first = ran.facts["first"]
    assert isinstance(first, list)
    if in_order == BATCHES:
        outcome = Fate.AS_STARTED
    else:
        outcome = Fate.AT_RANDOM if in_order + turned == BATCHES else Fate.ANY
    return Observation(
        outcome=outcome,
        figures={f"in order, of {BATCHES}": in_order},
        evidence=(
            f"the first five batches: {' '.join(first)}",
            f"{in_order} as started, {turned} the other way round, of {BATCHES}",
        ),
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and compare the orders."""
    return judge(await trial.run_program())


EXPERIMENT = Experiment(
    name="order-of-a-batch",
    family=Family.BEHAVIOUR,
    question="Several tasks are started at once: in which order do they begin?",
    why=(
        "asyncio's order is always the same, so a program may depend on it for years before "
        "something changes it. Trio turns half of its batches round, so such a program fails "
        "in its first tests."
    ),
    subjects=programs(asyncio=with_asyncio, anyio=with_anyio, trio=with_trio, uvloop=True),
    expected=expect(Fate.AS_STARTED, anyio_trio=Fate.AT_RANDOM, trio=Fate.AT_RANDOM),
    run=run,
    figures=(Figure(name=f"in order, of {BATCHES}", unit="", lower_is_better=None, is_main=True),),
    differences=(27,),
)
