"""A thread under a timeout: left running, waited for, or told to stop.

Nothing can end a thread from outside. `asyncio.timeout` ends the *await*: the caller goes on at
the deadline, the thread runs on and holds its place in the pool, and the program cannot end before
it does (`asyncio.run` joins its executor). Whoever wants it to stop passes an event by hand, sets
it on every way out, and waits for the thread in a task of its own, behind a shield (column
`asyncio`).

Trio offers three ways, and one has to say which is meant. By default `trio.to_thread.run_sync`
waits: the deadline is late, but nothing is left running. With `abandon_on_cancel=True` it is as in
asyncio: the thread runs on and keeps its place, a token of the limiter. And a thread that calls
`trio.from_thread.check_cancelled()` now and then (since 0.23) ends with its caller, in time. AnyIO
has all three, on asyncio as well.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import anyio
import anyio.from_thread
import anyio.to_thread
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

DEADLINE = 0.05
TICK = 0.01
TICKS = 100
FEW_TICKS = 20
"""More than the deadline has, for a thread that is waited for."""

PATIENCE = 10.0

ENDED = "the thread has ended"


class Fate(Outcome):
    """What became of the thread when the caller's time was over."""

    STOPPED = Verdict.GOOD, "it stops in time, before the caller goes on"
    WAITED_FOR = Verdict.FAIR, "the caller waits for it, and is late"
    TOLD = Verdict.FAIR, "it stops in time, but the caller goes on before that"
    RUNS_ON = Verdict.BAD, "the caller goes on, and so does it"


@dataclass(slots=True)
class Work:
    """What runs in a thread: ticks, until it is told to stop."""

    as_thread: AbstractContextManager[None]
    limit: int = TICKS
    ticks: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Tick; `check` may raise to end it."""
        try:
            with self.as_thread:
                while self.ticks < self.limit and not self.stop.wait(TICK):
                    self.ticks += 1
                    check()
        finally:
            self.ended.set()

    def tell(self, report: Report) -> None:
        """Report how things are when the caller's time is over."""
        report(running=not self.ended.is_set(), ticks=self.ticks)
        report.mark("the caller goes on")

    def tell_end(self, report: Report) -> None:
        """Wait for the end, and report it. Blocks."""
        if not self.ended.wait(PATIENCE):
            raise RuntimeError("the thread does not end")
        report(ticks_at_end=self.ticks, all_ticks=self.limit)


async def original(report: Report) -> None:
    """`wait_for` and the loop's executor."""
    work = Work(report.thread("thread"))
    try:
        await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, work.run), DEADLINE)
    except TimeoutError:
        pass
    work.tell(report)
    await asyncio.to_thread(work.tell_end, report)
    report.mark(ENDED)


async def with_asyncio(report: Report) -> None:
    """`timeout` and `to_thread`, with an event and a shield by hand."""
    work = Work(report.thread("thread"))
    thread = asyncio.create_task(asyncio.to_thread(work.run), name="waits for the thread")
    try:
        async with asyncio.timeout(DEADLINE):
            await asyncio.shield(thread)
    except TimeoutError:
        pass
    finally:
        work.stop.set()
        await thread
    work.tell(report)
    await asyncio.to_thread(work.tell_end, report)
    report.mark(ENDED)


async def with_anyio(report: Report) -> None:
    """A thread that asks whether it is cancelled."""
    work = Work(report.thread("thread"))
    with anyio.move_on_after(DEADLINE):
        await anyio.to_thread.run_sync(work.run, anyio.from_thread.check_cancelled)
    work.tell(report)
    await anyio.to_thread.run_sync(work.tell_end, report)
    report.mark(ENDED)


async def with_trio(report: Report) -> None:
    """A thread that asks whether it is cancelled."""
    work = Work(report.thread("thread"))
    with trio.move_on_after(DEADLINE):
        await trio.to_thread.run_sync(work.run, trio.from_thread.check_cancelled)
    work.tell(report)
    await trio.to_thread.run_sync(work.tell_end, report)
    report.mark(ENDED)


async def with_trio_waiting(report: Report) -> None:
    """A thread that asks nothing: it is waited for."""
    work = Work(report.thread("thread"), limit=FEW_TICKS)
    with trio.move_on_after(DEADLINE):
        await trio.to_thread.run_sync(work.run)
    work.tell(report)
    await trio.to_thread.run_sync(work.tell_end, report)
    report.mark(ENDED)


async def with_trio_abandoning(report: Report) -> None:
    """A thread that is abandoned: its token is still taken."""
    work = Work(report.thread("thread"))
    with trio.move_on_after(DEADLINE):
        await trio.to_thread.run_sync(work.run, abandon_on_cancel=True)
    work.tell(report)
    report(tokens=trio.to_thread.current_default_thread_limiter().borrowed_tokens)
    await trio.to_thread.run_sync(work.tell_end, report)
    report.mark(ENDED)


def judge(ran: Ran) -> Observation:
    """Say whether the thread ran when the caller went on, and whether it ran to its own end."""
    facts = ran.facts
    to_its_end = facts["ticks_at_end"] == facts["all_ticks"]
    if facts["running"]:
        outcome = Fate.RUNS_ON if to_its_end else Fate.TOLD
    else:
        outcome = Fate.WAITED_FOR if to_its_end else Fate.STOPPED
    evidence = [
        f"it had done {facts['ticks']} of {facts['all_ticks']} ticks when the caller went on, "
        f"and {facts['ticks_at_end']} at the end",
    ]
    if "tokens" in facts:
        evidence.append(f"tokens that the limiter counts as taken: {facts['tokens']}")
    return Observation(outcome=outcome, evidence=tuple(evidence), events=ran.events)


async def run(trial: Trial) -> Observation:
    """Run the program, and see what its thread did at the deadline and after."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="thread-under-timeout",
    family=Family.BEHAVIOUR,
    question="The time of whoever waits for a thread is over: what becomes of the thread?",
    why=(
        "A thread cannot be ended from outside. asyncio lets the caller go on and forgets the "
        "thread; to tell it and to wait for it takes an event and a shield by hand (column "
        "asyncio). Trio and AnyIO wait by default, abandon it if asked (column trio-abandoning), "
        "and give the thread a way to ask whether it is cancelled, so that it ends in time. Look "
        "at the ticks that it did after the caller had gone on."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={
            "trio-waiting": (with_trio_waiting, "trio"),
            "trio-abandoning": (with_trio_abandoning, "trio"),
        },
    ),
    expected=expect(
        Fate.STOPPED,
        original=Fate.RUNS_ON,
        trio_waiting=Fate.WAITED_FOR,
        trio_abandoning=Fate.RUNS_ON,
    ),
    run=run,
    differences=(11,),
    picture="timeline",
)
