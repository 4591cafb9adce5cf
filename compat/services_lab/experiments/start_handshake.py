"""Starting a service: is it listening yet, and who hears if it cannot start?

A service has to load and bind before it is of use, and both take time and may fail. A bare task
tells neither: whoever started it goes on at once, is refused, and learns of a failure when the task
is collected. In asyncio one passes a future by hand, as `asyncio_services.app.start` does. That
tells when it is ready; a failure is the task group's, and ends everything in it, also where the
caller had something else to try.

`nursery.start` waits until the service calls `task_status.started()`, hands over what that is given
(a port, say), and raises what the service raises before that: at the call, where it can be handled.
AnyIO's `TaskGroup.start` is the same, on asyncio as well.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import trio
from anyio.abc import TaskStatus

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

LOADING = 0.05
SETTLE = 0.1
"""Seconds for a failure to be heard of by itself: more than LOADING."""

ZONES, MISSING = "zones", "no such file"
"""What is loaded; the other is not there."""

Sleep = Callable[[float], Awaitable[None]]


class Fate(Outcome):
    """What whoever starts a service learns of it."""

    AT_THE_CALL = Verdict.GOOD, "the caller waits until it listens; a failure is raised at the call"
    ENDS_GROUP = Verdict.FAIR, "the caller waits until it listens; a failure ends all its siblings"
    NOT_WAITED = Verdict.BAD, "the caller goes on too early; a failure is not noticed"


async def load(report: Report, zones: str, sleep: Sleep) -> None:
    """Load zones, which takes a while; or fail.

    Raises:
        FileNotFoundError: As it says.
    """
    await sleep(LOADING)
    if zones == MISSING:
        report.mark("a service cannot start")
        raise FileNotFoundError(zones)


async def original(report: Report) -> None:
    """Bare tasks: start, and hope."""

    async def serve(listener: socket.socket, zones: str) -> None:
        await load(report, zones, asyncio.sleep)
        listener.listen()
        await asyncio.Event().wait()

    with bound() as listener:
        service = asyncio.create_task(serve(listener, ZONES), name="service")
        try_to_reach(report, listener)
        service.cancel()
    with bound() as listener:
        try:
            service = asyncio.create_task(serve(listener, MISSING), name="failing service")
        except FileNotFoundError:
            report(failure="raised at the call")
        await asyncio.sleep(SETTLE)


async def with_asyncio(report: Report) -> None:
    """A task group, and a future by hand."""

    async def serve(listener: socket.socket, zones: str, ready: "asyncio.Future[None]") -> None:
        await load(report, zones, asyncio.sleep)
        listener.listen()
        ready.set_result(None)
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    with bound() as listener:
        async with asyncio.TaskGroup() as tasks:
            ready = loop.create_future()
            service = tasks.create_task(serve(listener, ZONES, ready), name="service")
            await ready
            try_to_reach(report, listener)
            service.cancel()
    with bound() as listener:
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    ready = loop.create_future()
                    tasks.create_task(serve(listener, MISSING, ready), name="failing service")
                    await ready
                except FileNotFoundError:
                    report(failure="raised at the call")
        except* FileNotFoundError:
            report(failure="raised by the group, after everything in it was cancelled")


async def with_anyio(report: Report) -> None:
    """A task group's `start`."""

    async def serve(listener: socket.socket, zones: str, *, task_status: TaskStatus[None]) -> None:
        await load(report, zones, anyio.sleep)
        listener.listen()
        task_status.started()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        with bound() as listener:
            await tasks.start(serve, listener, ZONES, name="service")
            try_to_reach(report, listener)
        with bound() as listener:
            try:
                await tasks.start(serve, listener, MISSING, name="failing service")
            except FileNotFoundError:
                report(failure="raised at the call")
        tasks.cancel_scope.cancel()


async def with_trio(report: Report) -> None:
    """A nursery's `start`."""

    async def serve(
        listener: socket.socket, zones: str, *, task_status: trio.TaskStatus[None]
    ) -> None:
        await load(report, zones, trio.sleep)
        listener.listen()
        task_status.started()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with bound() as listener:
            await nursery.start(serve, listener, ZONES, name="service")
            try_to_reach(report, listener)
        with bound() as listener:
            try:
                await nursery.start(serve, listener, MISSING, name="failing service")
            except FileNotFoundError:
                report(failure="raised at the call")
        nursery.cancel_scope.cancel()


@contextmanager
def bound() -> Iterator[socket.socket]:
    """Have an address that is ours: bound, and not listening yet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def try_to_reach(report: Report, listener: socket.socket) -> None:
    """Be the first client."""
    report.mark("a client comes")
    try:
        socket.create_connection(listener.getsockname()).close()
        report(reached=True)
    except ConnectionRefusedError:
        report(reached=False)


def judge(ran: Ran) -> Observation:
    """Say whether the caller waited, and where it learnt that a service could not start."""
    reached, failure = bool(ran.facts["reached"]), ran.facts.get("failure", "not noticed")
    match reached, failure:
        case True, "raised at the call":
            outcome = Fate.AT_THE_CALL
        case True, str() if "group" in str(failure):
            outcome = Fate.ENDS_GROUP
        case False, "not noticed":
            outcome = Fate.NOT_WAITED
        case _:
            raise AssertionError(f"none of the outcomes: {ran.facts}")
    return Observation(
        outcome=outcome,
        evidence=(
            "the first client was " + ("served" if reached else "refused"),
            f"a service that could not start was {failure}",
            *[line for line in ran.stderr if "never retrieved" in line],
        ),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see what it learns of two services that it starts."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="start-handshake",
    family=Family.BEHAVIOUR,
    question="A program starts a service: how does it learn that it listens, or cannot?",
    why=(
        "Whoever starts a service needs to know when it is ready, and to be the one who hears when "
        "it cannot start. nursery.start is both in one line. In asyncio a future passed by hand is "
        "the first; the second ends the whole group, unless each service is written for it."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(Fate.AT_THE_CALL, original=Fate.NOT_WAITED, asyncio=Fate.ENDS_GROUP),
    run=run,
    differences=(20,),
    picture="timeline",
)
