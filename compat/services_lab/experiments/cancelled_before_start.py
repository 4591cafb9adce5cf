"""Cancelled before its first step: does a task close what was given to it?

A server accepts a connection, hands it to a new task, and in the same breath has to stop. The task
is to close what it is given, in a `with` block, and so it does if it ever gets there. asyncio
cancels a task that has not begun by throwing CancelledError into a coroutine that has not begun:
no line of it runs, and the connection stays open. `TaskGroup` is no better, since it cancels its
tasks by the same means; nobody is told (Python 3.11, 3.12 and 3.13). Python 3.12 has a cure for
those who ask for it: with `asyncio.eager_task_factory` a task begins as soon as it is made, and
what runs in the loop changes its order (column `asyncio-eager`).

In Trio every task runs until its first checkpoint, however early it is cancelled: only there can
Cancelled be raised. AnyIO promises the same, and keeps it on asyncio by waiting with the
cancellation until the task has begun.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable

import anyio
import trio

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import Program, expect, programs
from services_lab.trial import Trial


class Fate(Outcome):
    """What became of a connection whose task was cancelled at once."""

    CLOSED = Verdict.GOOD, "the task begins, and closes what it was given"
    LEAKED = Verdict.BAD, "the task never begins, and what it was given stays open"


async def handle(
    report: Report, connection: socket.socket, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Own a connection, and close it whatever happens."""
    with connection:
        report(began=True)
        await sleep(10)


async def original(report: Report) -> None:
    """A bare task, cancelled by its handle."""
    client, connection = socket.socketpair()
    with client:
        task = asyncio.create_task(handle(report, connection, asyncio.sleep), name="handler")
        stop(report)
        task.cancel()
        await asyncio.wait([task])
        look_at(report, connection)


async def with_asyncio(report: Report) -> None:
    """A task group has no `cancel`: an exception in its block ends it."""
    client, connection = socket.socketpair()
    with client:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(handle(report, connection, asyncio.sleep), name="handler")
                stop(report)
                raise Stopped
        except* Stopped:
            pass
        look_at(report, connection)


EAGER: dict[str, tuple[Program, str]] = {}

if sys.version_info >= (3, 12):

    async def with_asyncio_eager(report: Report) -> None:
        """A task group whose tasks begin as they are made."""
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await with_asyncio(report)

    EAGER["asyncio-eager"] = with_asyncio_eager, "asyncio"


class Stopped(Exception):
    """What ends the task group."""


async def with_anyio(report: Report) -> None:
    """A task group and its scope."""
    client, connection = socket.socketpair()
    with client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(handle, report, connection, anyio.sleep, name="handler")
            stop(report)
            tasks.cancel_scope.cancel()
        look_at(report, connection)


async def with_trio(report: Report) -> None:
    """A nursery and its scope."""
    client, connection = socket.socketpair()
    with client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle, report, connection, trio.sleep, name="handler")
            stop(report)
            nursery.cancel_scope.cancel()
        look_at(report, connection)


def stop(report: Report) -> None:
    """Say that the server has to stop."""
    report.mark("cancelled")


def look_at(report: Report, connection: socket.socket) -> None:
    """Tell whether the handler has closed its connection, and close it if not."""
    report(closed=connection.fileno() == -1)
    connection.close()


def judge(ran: Ran) -> Observation:
    """Say whether the connection was closed by the task that owned it."""
    began, closed = ran.facts.get("began"), ran.facts["closed"]
    return Observation(
        outcome=Fate.CLOSED if closed else Fate.LEAKED,
        evidence=(
            "the handler ran its first lines" if began else "not a line of the handler ran",
            "its connection was closed" if closed else "its connection was open at the end",
            f"lines on standard error: {len(ran.stderr)}",
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and look at the connection that the task was given.

    A program that makes its tasks in another way takes the recorder's place.
    """
    return judge(await trial.run_program(record=trial.subject.column not in EAGER))


EXPERIMENT = Experiment(
    name="cancelled-before-start",
    family=Family.BEHAVIOUR,
    question="A task is cancelled before its first step: does it still close what it was given?",
    why=(
        "Handing a connection to a new task is safe only if the task begins. asyncio cancels tasks "
        "that have not begun without running a line of them, in task groups as well, so what they "
        "were given leaks when a server stops, or a sibling fails, at the wrong moment. Trio and "
        "AnyIO let every task run up to its first checkpoint. Since Python 3.12 asyncio can be "
        "told to begin each task as it is made (asyncio-eager), which cures this."
    ),
    subjects=programs(
        original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio, others=EAGER
    ),
    expected=expect(
        Fate.CLOSED,
        original=Fate.LEAKED,
        asyncio=Fate.LEAKED,
        **dict.fromkeys(EAGER, Fate.CLOSED),
    ),
    run=run,
    differences=(5,),
    picture="timeline",
)
