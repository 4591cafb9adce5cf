"""A cancellation that is swallowed once: lost, or raised again.

Code that catches too much is everywhere: `except BaseException` around a call that is to be tried
again, a `finally` that returns, a library that turns every exception into one of its own. asyncio
delivers a cancellation once, as an event: caught, it is gone, and the task goes on as if nobody
had asked. Its documentation asks that CancelledError be raised again. `Task.cancelling()` (3.11)
counts that somebody did, but nothing looks at it by itself.

In Trio cancellation is a state of the scope: whatever was caught, the next checkpoint raises
Cancelled again. AnyIO does the same on asyncio: it cancels the task anew in each pass of the loop
until the task has left the scope.
"""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

STEPS = 5
PAUSE = 0.02
FOR_EVER = 3600.0
SWALLOWED = "the cancellation is swallowed"

Sleep = Callable[[float], Awaitable[None]]


class Fate(Outcome):
    """What became of a cancellation that was caught and not raised again."""

    RAISED_AGAIN = Verdict.GOOD, "it is raised again at the next checkpoint"
    LOST = Verdict.BAD, "the task goes on as if nothing had happened"


async def stubborn(report: Report, sleep: Sleep) -> None:
    """Wait; catch whatever ends the waiting; go on working."""
    try:
        await sleep(FOR_EVER)
    except BaseException:  # noqa: BLE001 - the mistake
        report.mark(SWALLOWED)
    for step in range(STEPS):
        await sleep(PAUSE)
        report(steps_after=step + 1)


async def original(report: Report) -> None:
    """A bare task, cancelled by its handle."""
    task = asyncio.create_task(stubborn(report, asyncio.sleep), name="stubborn")
    await asyncio.sleep(PAUSE)
    task.cancel()
    await asyncio.wait([task])


async def with_asyncio(report: Report) -> None:
    """A task in a task group: cancelled by the same means."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(stubborn(report, asyncio.sleep), name="stubborn")
        await asyncio.sleep(PAUSE)
        task.cancel()


async def with_anyio(report: Report) -> None:
    """A task group and its scope."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stubborn, report, anyio.sleep, name="stubborn")
        await anyio.sleep(PAUSE)
        tasks.cancel_scope.cancel()


async def with_trio(report: Report) -> None:
    """A nursery and its scope."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stubborn, report, trio.sleep, name="stubborn")
        await trio.sleep(PAUSE)
        nursery.cancel_scope.cancel()


def judge(ran: Ran) -> Observation:
    """Say whether the task got anything done after it had been cancelled."""
    if ran.exit_status != 0 or SWALLOWED not in ran.marks:
        raise AssertionError(f"no cancellation was swallowed: {ran}")
    steps = ran.facts.get("steps_after", 0)
    return Observation(
        outcome=Fate.LOST if steps else Fate.RAISED_AGAIN,
        evidence=(f"{steps} of {STEPS} steps were done after the cancellation",),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see what its task did after it had been cancelled."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="swallowed-cancellation",
    family=Family.BEHAVIOUR,
    question="A task catches its cancellation and goes on: does it end?",
    why=(
        "Code that catches too much is everywhere. asyncio delivers a cancellation once, so one "
        "such line makes a task that cannot be ended. In Trio and AnyIO a cancellation is a state: "
        "the next checkpoint raises it again. Look at what runs after it was swallowed."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(Fate.RAISED_AGAIN, original=Fate.LOST, asyncio=Fate.LOST),
    run=run,
    differences=(6,),
    picture="timeline",
)
