"""Fire and forget: a task that nobody kept is collected while it waits.

asyncio's loop holds its tasks weakly (`asyncio.all_tasks` reads a `WeakSet`). What keeps a waiting
task alive is what will wake it: a timer, a watched socket, a future that somebody holds. A task
that waits for something which only it holds is garbage as soon as it waits, and the collector may
take it at any moment: "Task was destroyed but it is pending!". The documentation of `create_task`
says so ("Save a reference to the result of this function"); CPython's issue 91887 asks for strong
references. Python 3.11, 3.12 and 3.13 are alike.

Here the listener registers its event in a `WeakSet`, as publishers do that must not keep their
subscribers alive. A task group, like a nursery, holds its tasks until they are done, so today's
asyncio does as well as Trio.
"""

import asyncio
import gc
from weakref import WeakSet

import anyio
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

SETTLE = 0.01
"""Seconds in which a task that is ready has its turn: any will do."""

DESTROYED = "Task was destroyed but it is pending!"


class Fate(Outcome):
    """What became of a task that nobody kept."""

    OWNED = Verdict.GOOD, "it lives until it is done"
    COLLECTED = Verdict.BAD, "the garbage collector takes it while it waits"
    LOST = Verdict.BAD, "it never went on, and nothing is said"


async def original(report: Report) -> None:
    """A bare task: started, and forgotten."""
    subscribers = WeakSet[asyncio.Event]()

    async def listen() -> None:
        news = asyncio.Event()
        subscribers.add(news)
        await news.wait()
        report(heard=True)

    asyncio.create_task(listen(), name="listener")  # noqa: RUF006 - the flaw
    await asyncio.sleep(SETTLE)
    collect_garbage(report)
    for news in subscribers:
        news.set()
    await asyncio.sleep(SETTLE)


async def with_asyncio(report: Report) -> None:
    """A task group holds its tasks, and waits for them."""
    subscribers = WeakSet[asyncio.Event]()

    async def listen() -> None:
        news = asyncio.Event()
        subscribers.add(news)
        await news.wait()
        report(heard=True)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(), name="listener")
        await asyncio.sleep(SETTLE)
        collect_garbage(report)
        for news in subscribers:
            news.set()


async def with_anyio(report: Report) -> None:
    """A task group holds its tasks, and waits for them."""
    subscribers = WeakSet[anyio.Event]()

    async def listen() -> None:
        news = anyio.Event()
        subscribers.add(news)
        await news.wait()
        report(heard=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, name="listener")
        await anyio.sleep(SETTLE)
        collect_garbage(report)
        for news in subscribers:
            news.set()


async def with_trio(report: Report) -> None:
    """A task has no other way to begin than in a nursery, which holds it."""
    subscribers = WeakSet[trio.Event]()

    async def listen() -> None:
        news = trio.Event()
        subscribers.add(news)
        await news.wait()
        report(heard=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, name="listener")
        await trio.sleep(SETTLE)
        collect_garbage(report)
        for news in subscribers:
            news.set()


def collect_garbage(report: Report) -> None:
    """Do now what Python does when it pleases."""
    report.mark("garbage is collected")
    gc.collect()


def judge(ran: Ran) -> Observation:
    """Say whether the listener heard the news; if not, whether anybody was told."""
    destroyed = [line for line in ran.stderr if DESTROYED in line]
    if ran.exit_status != 0:
        raise AssertionError(f"the program failed: {ran}")
    heard = ran.facts.get("heard")
    missed = Fate.COLLECTED if destroyed else Fate.LOST
    return Observation(
        outcome=Fate.OWNED if heard else missed,
        evidence=(
            "the listener heard the news" if heard else "nobody heard the news",
            *(destroyed or ("standard error says nothing",)),
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see whether its task lived to hear the news."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="fire-and-forget",
    family=Family.BEHAVIOUR,
    question="A task is started and nobody keeps it: does it live until it is done?",
    why=(
        "asyncio's loop holds tasks weakly. One that waits for something that only it holds can be "
        "collected at any moment; most of the time it is not, so tests pass. A task group or a "
        "nursery owns its tasks. Look at where the listener's lane ends."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(Fate.OWNED, original=Fate.COLLECTED),
    run=run,
    differences=(1,),
    picture="timeline",
)
