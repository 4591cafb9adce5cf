"""A background task fails. Who hears of it, and when?

`asyncio.create_task` gives the exception to whoever awaits the task. If nobody does, as for work
that is started and forgotten, it stays in the task object: the program goes on as if all were well,
and "Task exception was never retrieved" is logged when the object is collected: at once for a task
that nobody kept, at the end of the program or never for one that is kept, as the documentation says
it should be. Nothing else of the program can act on it.

A nursery, and a TaskGroup of asyncio (Python 3.11) or AnyIO alike, has no task that nobody awaits:
the failure cancels the siblings and is raised where the group was opened.

Here a reader fails while its sibling, a heartbeat, goes on for as long as it is allowed to, at most
TICKS times.

Sources: Python's documentation of `asyncio.create_task` ("Save a reference to the result of this
function") and of `loop.call_exception_handler`; N. J. Smith, "Notes on structured concurrency".
"""

import asyncio
import sys

import anyio
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

TICK = 0.01
TICKS = 20

OVER = "the program is over"


class Outcomes(Outcome):
    """What became of the exception."""

    RAISED = Verdict.GOOD, "raised at once, sibling cancelled"
    LOGGED = Verdict.FAIR, "logged at once, and nothing else"
    LOGGED_LATE = Verdict.BAD, "logged when the program was over"
    LOST = Verdict.BAD, "nothing was said"


async def bare_tasks(report: Report) -> None:
    """The book's asyncio: start it, keep it, look at it later, perhaps."""

    async def reader() -> None:
        report.mark("the reader fails")
        raise ConnectionError("the peer has gone")

    reading = asyncio.create_task(reader())
    for tick in range(TICKS):
        report(ticks=tick)
        await asyncio.sleep(TICK)
    tell_end(report)
    assert reading.done()


async def task_group(report: Report) -> None:
    """Today's asyncio: a group that owns both."""

    async def reader() -> None:
        report.mark("the reader fails")
        raise ConnectionError("the peer has gone")

    async with asyncio.TaskGroup() as group:
        group.create_task(reader())
        for tick in range(TICKS):
            report(ticks=tick)
            await asyncio.sleep(TICK)
    tell_end(report)


async def any_group(report: Report) -> None:
    """AnyIO: a group that owns both."""

    async def reader() -> None:
        report.mark("the reader fails")
        raise ConnectionError("the peer has gone")

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        for tick in range(TICKS):
            report(ticks=tick)
            await anyio.sleep(TICK)
    tell_end(report)


async def nursery(report: Report) -> None:
    """Trio: a nursery that owns both."""

    async def reader() -> None:
        report.mark("the reader fails")
        raise ConnectionError("the peer has gone")

    async with trio.open_nursery() as group:
        group.start_soon(reader)
        for tick in range(TICKS):
            report(ticks=tick)
            await trio.sleep(TICK)
    tell_end(report)


def tell_end(report: Report) -> None:
    """Say that the program has come to its end; on standard error too, where it can be seen what
    was logged before that."""
    sys.stderr.write(f"{OVER}\n")
    report(finished=True)


def judge(ran: Ran) -> Observation:
    """Say whether the program was ended by the exception, and if not, when it was logged."""
    finished = bool(ran.facts.get("finished"))
    said = [line for line in ran.stderr if "the peer has gone" in line]
    if ran.exit_status and said and not finished:
        outcome = Outcomes.RAISED
    elif ran.exit_status == 0 and said:
        in_time = ran.stderr.index(said[0]) < ran.stderr.index(OVER)
        outcome = Outcomes.LOGGED if in_time else Outcomes.LOGGED_LATE
    elif ran.exit_status == 0:
        outcome = Outcomes.LOST
    else:
        raise AssertionError(f"none of the outcomes: {ran}")
    ticks = int(str(ran.facts["ticks"])) + 1
    return Observation(
        outcome=outcome,
        figures={"sibling's ticks": ticks},
        evidence=(
            f"exit status {ran.exit_status}",
            f"the sibling ticked {ticks} times of {TICKS}",
            *(said or ("standard error says nothing of it",)),
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program and look for its exception."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="lost-exception",
    family=Family.BEHAVIOUR,
    question="A background task fails and nobody awaits it: who hears of it, and when?",
    why=(
        "A server that starts work and forgets it goes on without what has failed. Look at "
        "how long the sibling ticks after the failure, and at the exit status. (asyncio logs the "
        "exception when the task is collected: early if nobody kept it, late if somebody did.)"
    ),
    subjects=programs(original=bare_tasks, asyncio=task_group, anyio=any_group, trio=nursery),
    expected=expect(Outcomes.RAISED, original=Outcomes.LOGGED_LATE),
    run=run,
    figures=(Figure(name="sibling's ticks", unit="", is_main=True),),
    differences=(2,),
    picture="timeline",
)
