"""Ctrl-C while a task computes: at once, or when it pleases.

Since 3.11 `asyncio.run` takes SIGINT for itself: its handler cancels the main task and returns. A
task that computes without an await is not touched; the cancellation is seen when the loop has its
turn again, which for an endless loop is never. Only a second Ctrl-C raises KeyboardInterrupt.

Trio raises KeyboardInterrupt in the code that runs, if that is the program's and not Trio's own:
the first Ctrl-C ends an endless loop, and its siblings clean up. AnyIO is as what it runs on.

The program sends itself the signal in the middle of its computation, so that it cannot come at
another time; Python takes it as it would take one from a terminal.
"""

import asyncio
import signal

import anyio
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

STEPS = 400_000


class Fate(Outcome):
    """When the computation ended."""

    AT_ONCE = Verdict.GOOD, "the computation is interrupted at once"
    AFTERWARDS = Verdict.BAD, "the computation goes on to its end first"


async def compute(report: Report) -> None:
    """Compute without an await; in the middle of it comes the signal."""
    total = 0
    for step in range(STEPS):
        if step == STEPS // 2:
            report.mark("Ctrl-C")
            report(total=total)
            signal.raise_signal(signal.SIGINT)
        total += step
    report(total=total, done=True)


async def original(report: Report) -> None:
    """A bare task."""
    await asyncio.create_task(compute(report), name="compute")


async def with_asyncio(report: Report) -> None:
    """A task group."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(compute(report), name="compute")


async def with_anyio(report: Report) -> None:
    """A task group."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(compute, report, name="compute")


async def with_trio(report: Report) -> None:
    """A nursery."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(compute, report, name="compute")


def judge(ran: Ran) -> Observation:
    """Say whether the computation came to its end."""
    done = bool(ran.facts.get("done"))
    if not ran.exit_status or not any("KeyboardInterrupt" in line for line in ran.stderr):
        raise AssertionError(f"the program was not interrupted: {ran}")
    return Observation(
        outcome=Fate.AFTERWARDS if done else Fate.AT_ONCE,
        evidence=(
            "the computation came to its end" if done else "the computation ended half-way",
            f"exit status {ran.exit_status}",
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see what its task did after the signal."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="ctrl-c-while-computing",
    family=Family.BEHAVIOUR,
    question="Ctrl-C while a task computes without an await: does it end?",
    why=(
        "An endless loop by mistake is when Ctrl-C is needed most. asyncio's first Ctrl-C cancels "
        "the main task, which a loop that never gets its turn does not notice; Trio interrupts the "
        "code that runs. Look at whether the computation goes on after the signal."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(
        Fate.AT_ONCE,
        original=Fate.AFTERWARDS,
        asyncio=Fate.AFTERWARDS,
        anyio_asyncio=Fate.AFTERWARDS,
    ),
    run=run,
    differences=(18,),
    picture="timeline",
)
