"""Who cancelled me, and why? What a task that is cancelled can log.

Three causes: a sibling failed, a deadline passed, somebody cancelled on purpose and had a reason.

asyncio's `Task.cancel(msg)` carries a message to the CancelledError of the task that awaits; but
`TaskGroup` and `timeout` give none, so for the two most frequent causes the exception is empty.
AnyIO (4.11 and later) tells of the scope, of the deadline and of the reason, not which sibling
failed. Trio's Cancelled has `source`, `reason` and `source_task` since 0.31: it names the task
that failed and what it raised.
"""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

SETTLE = 0.02
FOR_EVER = 3600.0

FAILURE = "the disk is full"
REASON = "the client left"

TELLING = {"sibling": FAILURE, "deadline": "deadline", "request": REASON}
"""What the exception has to say for each cause, so that a log of it tells the cause."""

Sleep = Callable[[float], Awaitable[None]]


class Fate(Outcome):
    """What a task learns of its cancellation."""

    ALL = Verdict.GOOD, "the exception tells every cause"
    SOME = Verdict.FAIR, "the exception tells some of the causes"
    NONE = Verdict.BAD, "the exception tells no cause"


async def wait(report: Report, cause: str, sleep: Sleep) -> None:
    """Wait until cancelled, and tell what the exception says."""
    try:
        await sleep(FOR_EVER)
    except BaseException as error:
        report(**{cause: str(error)})
        raise


async def fail(report: Report, sleep: Sleep) -> None:
    """Fail."""
    await sleep(SETTLE)
    report.mark("a sibling fails")
    raise OSError(FAILURE)


async def with_asyncio(report: Report) -> None:
    """A task group, a timeout, `cancel`."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait(report, "sibling", asyncio.sleep), name="waits for a sibling")
            tasks.create_task(fail(report, asyncio.sleep), name="writer")
    except* OSError:
        pass
    try:
        async with asyncio.timeout(SETTLE):
            await wait(report, "deadline", asyncio.sleep)
    except TimeoutError:
        report.mark("a deadline passed")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(wait(report, "request", asyncio.sleep), name="waits for a request")
        await asyncio.sleep(SETTLE)
        report.mark("cancelled on purpose")
        task.cancel(REASON)


async def with_anyio(report: Report) -> None:
    """A task group, a scope with a deadline, `cancel`."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, report, "sibling", anyio.sleep, name="waits for a sibling")
            tasks.start_soon(fail, report, anyio.sleep, name="writer")
    except* OSError:
        pass
    with anyio.move_on_after(SETTLE):
        await wait(report, "deadline", anyio.sleep)
    report.mark("a deadline passed")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, report, "request", anyio.sleep, name="waits for a request")
        await anyio.sleep(SETTLE)
        report.mark("cancelled on purpose")
        tasks.cancel_scope.cancel(reason=REASON)


async def with_trio(report: Report) -> None:
    """A nursery, a scope with a deadline, `cancel`."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, report, "sibling", trio.sleep, name="waits for a sibling")
            nursery.start_soon(fail, report, trio.sleep, name="writer")
    except* OSError:
        pass
    with trio.move_on_after(SETTLE):
        await wait(report, "deadline", trio.sleep)
    report.mark("a deadline passed")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, report, "request", trio.sleep, name="waits for a request")
        await trio.sleep(SETTLE)
        report.mark("cancelled on purpose")
        nursery.cancel_scope.cancel(reason=REASON)


def judge(ran: Ran) -> Observation:
    """Count the causes that the exceptions tell."""
    said = {cause: str(ran.facts[cause]) for cause in TELLING}
    told = sum(telling in said[cause] for cause, telling in TELLING.items())
    outcome = {len(TELLING): Fate.ALL, 0: Fate.NONE}.get(told, Fate.SOME)
    return Observation(
        outcome=outcome,
        figures={"causes told, of 3": told},
        evidence=tuple(f"{cause}: {text or '(nothing)'}" for cause, text in said.items()),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and read its exceptions."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="who-cancelled-me",
    family=Family.BEHAVIOUR,
    question="A task is cancelled: does its exception tell who did it, and why?",
    why=(
        "A log line that says CancelledError and no more is where many evenings go. Look at what "
        "the exception says when a sibling failed, when a deadline passed, and when somebody "
        "cancelled on purpose."
    ),
    subjects=programs(asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(Fate.ALL, asyncio=Fate.SOME, anyio_asyncio=Fate.SOME),
    run=run,
    figures=(Figure(name="causes told, of 3", unit="", lower_is_better=False, is_main=True),),
    differences=(25,),
)
