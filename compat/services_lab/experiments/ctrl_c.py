"""Ctrl-C while tasks wait: is there clean-up, and how does the program end?

Since 3.11 `asyncio.run` answers the first SIGINT by cancelling the main task, and when that has
ended it cancels all other tasks, waits for them, and raises KeyboardInterrupt: every `finally`
runs, and Python then ends by the signal, so that a shell knows that it was interrupted.

Trio raises KeyboardInterrupt in the main task at its next checkpoint. The nursery cancels the
children, every `finally` runs as well; but what leaves is an exception group, which Python ends
with status 1 as any other error: a shell's loop around the program goes on with its next turn.
`except* KeyboardInterrupt` around `trio.run`, or `trio.open_signal_receiver`, as the servers of
this project do, is the remedy. Here asyncio has the better default; `ctrl_c_while_computing` has
the other side of it.
"""

import asyncio
import re
import signal

import anyio
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

WAITING = "two children wait: Ctrl-C"
SETTLE = 0.02
"""Seconds until both wait. Trio raises KeyboardInterrupt wherever the program is, say between
`__enter__` and its return, where there is nothing to clean up yet; that is not asked here."""

FOR_EVER = 3600.0


class Fate(Outcome):
    """How the program ended."""

    INTERRUPTED = Verdict.GOOD, "clean-up runs, and it ends by the signal"
    STATUS_1 = Verdict.FAIR, "clean-up runs, and it ends as by an error, with status 1"
    UNCLEAN = Verdict.BAD, "it ends without clean-up"


class Children:
    """Counts children that clean up."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.clean = 0

    def __enter__(self) -> None:
        """Begin something that has to be cleaned up."""

    def __exit__(self, *_: object) -> None:
        """Clean up."""
        self.clean += 1
        self.report(clean=self.clean)


async def original(report: Report) -> None:
    """Bare tasks."""
    children = Children(report)

    async def child() -> None:
        with children:
            await asyncio.sleep(FOR_EVER)

    try:
        both = asyncio.gather(child(), child())
        await asyncio.sleep(SETTLE)
        report.mark(WAITING)
        await both
    except BaseException as error:
        report(main_saw=type(error).__name__)
        raise


async def with_asyncio(report: Report) -> None:
    """A task group."""
    children = Children(report)

    async def child() -> None:
        with children:
            await asyncio.sleep(FOR_EVER)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child(), name="first child")
            tasks.create_task(child(), name="second child")
            await asyncio.sleep(SETTLE)
            report.mark(WAITING)
    except BaseException as error:
        report(main_saw=type(error).__name__)
        raise


async def with_anyio(report: Report) -> None:
    """A task group."""
    children = Children(report)

    async def child() -> None:
        with children:
            await anyio.sleep(FOR_EVER)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child, name="first child")
            tasks.start_soon(child, name="second child")
            await anyio.sleep(SETTLE)
            report.mark(WAITING)
    except BaseException as error:
        report(main_saw=type(error).__name__)
        raise


async def with_trio(report: Report) -> None:
    """A nursery."""
    children = Children(report)

    async def child() -> None:
        with children:
            await trio.sleep(FOR_EVER)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, name="first child")
            nursery.start_soon(child, name="second child")
            await trio.sleep(SETTLE)
            report.mark(WAITING)
    except BaseException as error:
        report(main_saw=type(error).__name__)
        raise


def judge(ran: Ran) -> Observation:
    """Say whether both children cleaned up, and how the process ended."""
    if WAITING not in ran.marks:
        raise AssertionError(f"the program ended before the signal: {ran}")
    clean = ran.facts.get("clean", 0)
    by_signal = ran.exit_status == -signal.SIGINT
    if clean == 2:
        if not by_signal and ran.exit_status != 1:
            raise AssertionError(f"neither by a signal nor by an error: {ran.exit_status}")
        outcome = Fate.INTERRUPTED if by_signal else Fate.STATUS_1
    else:
        outcome = Fate.UNCLEAN
    return Observation(
        outcome=outcome,
        evidence=(
            f"{clean} of 2 children cleaned up",
            f"the main task saw {ran.facts.get('main_saw')}",
            "ended by SIGINT" if by_signal else f"exit status {ran.exit_status}",
            *[line.strip(" |") for line in ran.stderr if re.search("Group:|^Keyboard", line)],
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, send SIGINT while its children wait, and see how it ends."""
    return judge(await trial.run_program(signal_at=(WAITING, signal.SIGINT), record=True))


EXPERIMENT = Experiment(
    name="ctrl-c",
    family=Family.BEHAVIOUR,
    question="Ctrl-C while tasks wait: do they clean up, and does the shell learn of it?",
    why=(
        "All of them cancel the tasks and run every finally. asyncio then ends by the signal, as "
        "a shell expects; what leaves Trio's nursery is an exception group, which ends Python with "
        "status 1 unless the program handles it. Here asyncio has the better default."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(
        Fate.STATUS_1,
        original=Fate.INTERRUPTED,
        asyncio=Fate.INTERRUPTED,
        anyio_asyncio=Fate.INTERRUPTED,
    ),
    run=run,
    differences=(18,),
    picture="timeline",
)
