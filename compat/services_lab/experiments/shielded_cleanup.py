"""Clean-up that takes time and must finish, while everybody wants to end.

A task is cancelled, and saves something on its way out. While it saves it is cancelled again: a
second Ctrl-C, a deadline further out, a group that fails. `asyncio.shield` keeps the second
cancellation from the saving, but not from whoever awaits it: the task ends, what saves is nobody's
any more, and the end of the program cuts it off half-way. What holds is a loop by hand that waits
again until it is done (column `asyncio`).

Trio goes about it the other way round. Cancellation stays, so clean-up that awaits gets nowhere
*without* a shield, which surprises people who come from asyncio (column `trio-unshielded`); within
`move_on_after(…, shield=True)` it finishes, or is ended by that deadline and not by another. AnyIO
has the same on asyncio.
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

SETTLE = 0.03
"""Seconds until the next cancellation: fewer than saving takes."""

STEPS = 10
PAUSE = 0.02
FOR_EVER = 3600.0
GRACE = 30.0

CANCELLED, AGAIN = "cancelled", "cancelled again"

Sleep = Callable[[float], Awaitable[None]]


class Fate(Outcome):
    """What became of the clean-up."""

    FINISHED = Verdict.GOOD, "clean-up is finished before the task ends"
    CUT_OFF = Verdict.BAD, "clean-up is cut off half-way"
    NOT_BEGUN = Verdict.BAD, "clean-up ends at its first await"


async def save(report: Report, sleep: Sleep) -> None:
    """Save something in steps: half of them are worse than none."""
    for step in range(STEPS):
        report(saved=step)
        await sleep(PAUSE)
    report(saved=STEPS)


async def original(report: Report) -> None:
    """`shield`."""

    async def handle() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            await asyncio.shield(save(report, asyncio.sleep))

    await cancel_twice(report, handle)


async def with_asyncio(report: Report) -> None:
    """`shield`, and a loop by hand around it."""

    async def handle() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            saving = asyncio.create_task(save(report, asyncio.sleep), name="saving")
            while not saving.done():
                try:
                    await asyncio.shield(saving)
                except asyncio.CancelledError:
                    pass  # asked once more; the first time is raised when this is done

    await cancel_twice(report, handle)


async def cancel_twice(report: Report, handle: Callable[[], Awaitable[None]]) -> None:
    """Cancel `handle`, and again while it cleans up."""

    async def handler() -> None:
        await handle()

    task = asyncio.create_task(handler(), name="handler")
    await asyncio.sleep(SETTLE)
    report.mark(CANCELLED)
    task.cancel()
    await asyncio.sleep(SETTLE)
    report.mark(AGAIN)
    task.cancel()
    await asyncio.wait([task])


async def with_anyio(report: Report) -> None:
    """A shielded scope with a deadline of its own."""

    async def handle() -> None:
        try:
            await anyio.sleep(FOR_EVER)
        finally:
            with anyio.move_on_after(GRACE, shield=True):
                await save(report, anyio.sleep)

    async with anyio.create_task_group() as outer:
        async with anyio.create_task_group() as inner:
            inner.start_soon(handle, name="handler")
            await anyio.sleep(SETTLE)
            report.mark(CANCELLED)
            inner.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(SETTLE)
            report.mark(AGAIN)
            outer.cancel_scope.cancel()


async def with_trio(report: Report) -> None:
    """A shielded scope with a deadline of its own."""

    async def handle() -> None:
        try:
            await trio.sleep(FOR_EVER)
        finally:
            with trio.move_on_after(GRACE, shield=True):
                await save(report, trio.sleep)

    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as inner:
            inner.start_soon(handle, name="handler")
            await trio.sleep(SETTLE)
            report.mark(CANCELLED)
            inner.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(SETTLE)
            report.mark(AGAIN)
            outer.cancel_scope.cancel()


async def with_trio_unshielded(report: Report) -> None:
    """Clean-up as in asyncio, without a shield: the mistake."""

    async def handle() -> None:
        try:
            await trio.sleep(FOR_EVER)
        finally:
            await save(report, trio.sleep)  # the mistake

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle, name="handler")
        await trio.sleep(SETTLE)
        report.mark(CANCELLED)
        nursery.cancel_scope.cancel()


def judge(ran: Ran) -> Observation:
    """Say how far the saving came."""
    if ran.exit_status != 0 or CANCELLED not in ran.marks:
        raise AssertionError(f"nobody was cancelled: {ran}")
    saved = ran.facts["saved"]
    outcome = {STEPS: Fate.FINISHED, 0: Fate.NOT_BEGUN}.get(int(str(saved)), Fate.CUT_OFF)
    return Observation(
        outcome=outcome,
        evidence=(f"{saved} of {STEPS} steps were saved",),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see how much was saved."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="shielded-cleanup",
    family=Family.BEHAVIOUR,
    question="A task saves on its way out and is cancelled again: is everything saved?",
    why=(
        "asyncio.shield protects the inner task and lets go of it: the end of the program cuts it "
        "off. It takes a loop by hand to wait for it, and another limit to make that end. A "
        "shielded scope does both in one line; without one, clean-up in Trio gets nowhere "
        "(trio-unshielded), where asyncio's would, if nobody cancelled twice."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={"trio-unshielded": (with_trio_unshielded, "trio")},
    ),
    expected=expect(Fate.FINISHED, original=Fate.CUT_OFF, trio_unshielded=Fate.NOT_BEGUN),
    run=run,
    differences=(21,),
    picture="timeline",
)
