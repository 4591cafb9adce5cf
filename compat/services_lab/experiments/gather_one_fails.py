"""`gather`, and one of several fails: what becomes of the others.

`asyncio.gather` raises the first exception at once and leaves the others running: they are nobody's
now, whoever waited has gone on, and what they do or raise later comes as a surprise. (With
`return_exceptions=True` it waits for all, also when the first has failed.) `TaskGroup`, since 3.11,
is asyncio's answer and the same as a nursery: the others are cancelled, the exception leaves when
they have ended, as a group. So here today's asyncio is as good as Trio.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

STEPS = 5
PAUSE = 0.02
WAIT = (STEPS + 5) * PAUSE
"""Seconds that the caller goes on for: more than a part needs."""

Sleep = Callable[[float], Awaitable[None]]


class Fate(Outcome):
    """What became of the others."""

    CANCELLED = Verdict.GOOD, "the others are cancelled, then the exception leaves"
    ORPHANED = Verdict.BAD, "the others run on, and nobody waits for them"
    WAITED_FOR = Verdict.FAIR, "the others run to their end, then the exception leaves"


async def fail(report: Report, sleep: Sleep) -> None:
    """Be the part that fails."""
    await sleep(PAUSE)
    report.mark("one fails")
    raise ValueError("no such record")


@dataclass(slots=True)
class Work:
    """Another part: works in steps, and counts them."""

    sleep: Sleep
    steps: int = 0

    async def run(self) -> None:
        """Do the work."""
        for _ in range(STEPS):
            await self.sleep(PAUSE)
            self.steps += 1


async def original(report: Report) -> None:
    """`gather`."""
    work = Work(asyncio.sleep)
    try:
        await asyncio.gather(fail(report, asyncio.sleep), work.run())
    except ValueError as error:
        tell(report, work, error)
    await asyncio.sleep(WAIT)  # whatever the program does next
    report(steps_at_end=work.steps)


async def with_asyncio(report: Report) -> None:
    """A task group."""
    work = Work(asyncio.sleep)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(report, asyncio.sleep), name="fail")
            tasks.create_task(work.run(), name="work")
    except* ValueError as errors:
        tell(report, work, errors)
    await asyncio.sleep(WAIT)
    report(steps_at_end=work.steps)


async def with_anyio(report: Report) -> None:
    """A task group."""
    work = Work(anyio.sleep)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, report, anyio.sleep, name="fail")
            tasks.start_soon(work.run, name="work")
    except* ValueError as errors:
        tell(report, work, errors)
    await anyio.sleep(WAIT)
    report(steps_at_end=work.steps)


async def with_trio(report: Report) -> None:
    """A nursery."""
    work = Work(trio.sleep)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, report, trio.sleep, name="fail")
            nursery.start_soon(work.run, name="work")
    except* ValueError as errors:
        tell(report, work, errors)
    await trio.sleep(WAIT)
    report(steps_at_end=work.steps)


def tell(report: Report, work: Work, error: BaseException) -> None:
    """Say that the caller has the exception, and goes on."""
    report.mark("the caller goes on")
    report(caught=repr(error), steps_when_caught=work.steps)


def judge(ran: Ran) -> Observation:
    """Say whether the other part did anything after the caller had the exception."""
    caught, end = (int(str(ran.facts[each])) for each in ("steps_when_caught", "steps_at_end"))
    if end > caught:
        outcome = Fate.ORPHANED
    else:
        outcome = Fate.WAITED_FOR if caught == STEPS else Fate.CANCELLED
    return Observation(
        outcome=outcome,
        evidence=(
            f"the caller caught {ran.facts['caught']}",
            f"the other had done {caught} of {STEPS} steps then, and {end} at the end",
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see what the other part did after the failure."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="gather-one-fails",
    family=Family.BEHAVIOUR,
    question="One of several parts fails: what becomes of the others?",
    why=(
        "gather() tells of the failure at once and lets the others run on: tasks that nobody waits "
        "for any more. A task group, asyncio's as well, cancels them first. Look at what runs on "
        "after the caller has gone on."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(Fate.CANCELLED, original=Fate.ORPHANED),
    run=run,
    differences=(15,),
    picture="timeline",
)
