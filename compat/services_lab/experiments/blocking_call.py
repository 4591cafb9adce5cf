"""One task blocks the loop; its siblings wait, whatever the library. Who says which task it was?

Cooperative multitasking has no preemption: until the task that runs gets to a checkpoint, no other
does, on asyncio and Trio alike. So a `time.sleep`, a large `json.loads`, a DNS lookup by `socket`
costs every client its length. The cure is the same everywhere too, a thread or a process.

What differs is being told. Plain asyncio says nothing; in debug mode, which is meant for
development since it makes every callback slower, it logs after the fact which handle took longer
than `slow_callback_duration` (0.1 s). Trio itself says nothing either. `trio_services.status` has a
watchdog, a thread that looks while the loop stands still, so it can show the line that blocks.

Here a heartbeat is due every 5 ms beside a task that calls `time.sleep`, first on the loop and then
in a thread; the heartbeat's worst delay is what a client would have felt.
"""

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.measuring import numbers_of
from services_lab.subjects import expect, programs
from trio_services.status.watchdog import watch_steps

if TYPE_CHECKING:
    from services_lab.ran import Ran
    from services_lab.trial import Trial

BLOCKED = 0.3
"""Seconds for which the loop is blocked: three times what the watchdogs let pass."""

BEAT = 0.005


class Stall(Outcome):
    """What the siblings feel, and what is said."""

    UNSEEN = Verdict.BAD, "siblings wait; nobody says why"
    NAMED = Verdict.FAIR, "siblings wait; the task is named afterwards"
    SHOWN = Verdict.FAIR, "siblings wait; the line that blocks is told"
    NO_STALL = Verdict.GOOD, "siblings do not wait"


class Heart:
    """Notes how late each beat is."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._due = time.monotonic() + BEAT

    def beat(self) -> None:
        """Note a beat; the next is due in BEAT seconds."""
        now = time.monotonic()
        self.worst = max(self.worst, now - self._due)
        self._due = now + BEAT

    def take_worst(self) -> float:
        """Return the worst delay so far, in seconds, and forget it."""
        worst, self.worst = self.worst, 0.0
        return worst


async def on_asyncio(report: Report) -> None:
    """As the book had it: nothing watches."""
    loop = asyncio.get_running_loop()
    heart = Heart()

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT)
            heart.beat()

    async def parse_something_large() -> None:
        time.sleep(BLOCKED)  # noqa: ASYNC251 - the fault that is shown

    beating = asyncio.create_task(beat())
    await asyncio.sleep(10 * BEAT)
    report.mark("the loop is blocked")
    await asyncio.create_task(parse_something_large())
    await asyncio.sleep(10 * BEAT)
    report(blocked=heart.take_worst())
    report.mark("the same in a thread")
    await loop.run_in_executor(None, time.sleep, BLOCKED)
    await asyncio.sleep(10 * BEAT)
    report(threaded=heart.take_worst())
    beating.cancel()


async def on_asyncio_in_debug_mode(report: Report) -> None:
    """Today's asyncio, run in debug mode."""
    heart = Heart()

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT)
            heart.beat()

    async def parse_something_large() -> None:
        time.sleep(BLOCKED)  # noqa: ASYNC251 - the fault that is shown

    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat())
        await asyncio.sleep(10 * BEAT)
        report.mark("the loop is blocked")
        await tasks.create_task(parse_something_large())
        await asyncio.sleep(10 * BEAT)
        report(blocked=heart.take_worst())
        report.mark("the same in a thread")
        await asyncio.to_thread(time.sleep, BLOCKED)
        await asyncio.sleep(10 * BEAT)
        report(threaded=heart.take_worst())
        beating.cancel()


async def on_anyio(report: Report) -> None:
    """AnyIO, with the watchdog of what is underneath."""
    heart = Heart()

    async def beat() -> None:
        while True:
            await anyio.sleep(BEAT)
            heart.beat()

    async def parse_something_large() -> None:
        time.sleep(BLOCKED)  # noqa: ASYNC251 - the fault that is shown

    async with anyio.create_task_group() as tasks:
        if trio.lowlevel.in_trio_run():
            tasks.start_soon(watch_steps)
        tasks.start_soon(beat)
        await anyio.sleep(10 * BEAT)
        report.mark("the loop is blocked")
        async with anyio.create_task_group() as parsing:
            parsing.start_soon(parse_something_large)
        await anyio.sleep(10 * BEAT)
        report(blocked=heart.take_worst())
        report.mark("the same in a thread")
        await anyio.to_thread.run_sync(time.sleep, BLOCKED)
        await anyio.sleep(10 * BEAT)
        report(threaded=heart.take_worst())
        tasks.cancel_scope.cancel()


async def on_plain_trio(report: Report) -> None:
    """Trio by itself: nothing watches."""
    heart = Heart()

    async def beat() -> None:
        while True:
            await trio.sleep(BEAT)
            heart.beat()

    async def parse_something_large() -> None:
        time.sleep(BLOCKED)  # noqa: ASYNC251 - the fault that is shown

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await trio.sleep(10 * BEAT)
        report.mark("the loop is blocked")
        async with trio.open_nursery() as parsing:
            parsing.start_soon(parse_something_large)
        await trio.sleep(10 * BEAT)
        report(blocked=heart.take_worst())
        report.mark("the same in a thread")
        await trio.to_thread.run_sync(time.sleep, BLOCKED)
        await trio.sleep(10 * BEAT)
        report(threaded=heart.take_worst())
        nursery.cancel_scope.cancel()


async def on_trio(report: Report) -> None:
    """The same with the watchdog of trio-services as a sibling."""
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_steps)
        await on_plain_trio(report)
        nursery.cancel_scope.cancel()


def judge(ran: "Ran") -> Observation:
    """Compare the two delays, and look for the culprit in what was said."""
    facts = numbers_of(ran)
    blocked, threaded = facts["blocked"], facts["threaded"]
    said = [line for line in ran.stderr if line.strip()]
    outcome = Stall.UNSEEN
    if blocked < BLOCKED / 2:
        outcome = Stall.NO_STALL
    elif any(re.match(rf"\s+at .*{Path(__file__).name}:\d+", line) for line in said):
        outcome = Stall.SHOWN
    elif any("parse_something_large" in line for line in said):
        outcome = Stall.NAMED
    return Observation(
        outcome=outcome,
        figures={"delay by a call on the loop": blocked, "delay by one in a thread": threaded},
        evidence=tuple(said or ["nothing was logged"]),
        events=ran.events,
    )


async def run(trial: "Trial") -> Observation:
    """Run the program; all but the original with what each library has to tell of such calls."""
    debug = {"PYTHONASYNCIODEBUG": "1"} if trial.subject.column != "original" else {}
    return judge(await trial.run_program(env=debug, record=True))


EXPERIMENT = Experiment(
    name="blocking-call",
    family=Family.CLAIM,
    question="One task blocks the loop: how long do its siblings wait, and who says which it was?",
    why=(
        "No library can help the siblings: whoever is late to its next checkpoint makes everybody "
        "late, by as much. A thread is the cure everywhere. What differs is whether anybody is "
        "told: asyncio only in debug mode, afterwards, with the task's name; Trio by itself not at "
        "all, and with the watchdog of trio-services while it happens, with the line."
    ),
    subjects=programs(
        original=on_asyncio,
        asyncio=on_asyncio_in_debug_mode,
        anyio=on_anyio,
        trio=on_trio,
        others={"plain-trio": (on_plain_trio, "trio")},
    ),
    expected=expect(
        original=Stall.UNSEEN,
        asyncio=Stall.NAMED,
        anyio_asyncio=Stall.NAMED,
        anyio_trio=Stall.SHOWN,
        trio=Stall.SHOWN,
        plain_trio=Stall.UNSEEN,
    ),
    run=run,
    figures=(
        Figure(name="delay by a call on the loop", unit="s", is_main=True),
        Figure(name="delay by one in a thread", unit="s"),
    ),
    picture="timeline",
)
