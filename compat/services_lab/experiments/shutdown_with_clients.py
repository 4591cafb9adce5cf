"""A server is to end while clients are connected. What does waiting for its end wait for?

One client has asked, and its reply takes a little longer. Another is connected and silent, and will
never leave by itself. What one would like: nobody new gets in, the first client gets its reply, the
second is given some time and no more.

- `Server.wait_closed` returned at once up to Python 3.11, whoever was connected (CPython 104344):
  the program ends, and the handlers are cancelled in the middle of what they do. Since 3.12 it
  waits for every connection, and so for the silent client: for ever. 3.13 added `close_clients` and
  `abort_clients`, which close the connections of both.
- With a task group *around* the server, in which connections are tasks, waiting is leaving the
  group, and the grace period is a timeout around that. asyncio can do it on every version: a plain
  callback for `start_server`, and a TaskGroup of one's own.
- In Trio that is what nesting nurseries means: the inner one accepts and goes first, the outer one
  holds the connections and has a deadline. See `trio_services.app`.
"""

import asyncio
import math
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import trio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from services_lab.experiment import PYTHON, Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, ask, connect
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

GRACE = 0.3
"""Seconds that clients have when the server is to end."""

OPERATOR_PATIENCE = 0.6
"""Seconds after which whoever asked it to end gives up, where nothing else ends it."""

PASSES = 10
"""Passes of the loop that the reply takes from the moment at which the server is to end."""


class End(Outcome):
    """How the server ends."""

    DRAINED = Verdict.GOOD, "the reply is sent, the silent client has its grace"
    CUT_OFF = Verdict.BAD, "it ends at once, and the reply is lost"
    WAITS = Verdict.BAD, "it waits for the silent client, for ever"


async def original(report: Report) -> None:
    """asyncio with `close` and `wait_closed`."""
    asked, ending = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                asked.set()
                await ending.wait()
                for _ in range(PASSES):
                    await asyncio.sleep(0)
                writer.write(line)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(handle, HOST, 0)
    talking = clients_in_thread(report, server.sockets[0].getsockname()[1])
    await asked.wait()
    ending.set()
    server.close()
    report.mark("it is to end")
    try:
        await asyncio.wait_for(server.wait_closed(), OPERATOR_PATIENCE)
    except TimeoutError:
        report(gave_up=True)
    report.mark("it has ended")
    del talking  # nobody waits for it, nor for the handlers: they are cancelled now


def clients_in_thread(report: Report, port: int) -> "asyncio.Future[None]":
    """Start the clients."""
    return asyncio.get_running_loop().run_in_executor(None, clients, report, port)


async def with_asyncio(report: Report) -> None:
    """asyncio with a TaskGroup around the server, and a timeout around that."""
    asked, ending = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                asked.set()
                await ending.wait()
                for _ in range(PASSES):
                    await asyncio.sleep(0)
                writer.write(line)
                await writer.drain()
        finally:
            writer.close()

    talking = None
    try:
        async with asyncio.timeout(None) as grace, asyncio.TaskGroup() as in_flight:

            def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                in_flight.create_task(handle(reader, writer), name="connection")

            server = await asyncio.start_server(admit, HOST, 0)
            talking = clients_in_thread(report, server.sockets[0].getsockname()[1])
            await asked.wait()
            ending.set()
            server.close()
            report.mark("it is to end")
            grace.reschedule(asyncio.get_running_loop().time() + GRACE)
    except TimeoutError:
        report(grace_is_over=True)
    report.mark("it has ended")
    if talking:
        await talking


async def with_anyio(report: Report) -> None:
    """AnyIO with nested task groups."""
    asked, ending = anyio.Event(), anyio.Event()

    async def handle(stream: SocketStream) -> None:
        async with stream:
            async for line in stream:
                asked.set()
                await ending.wait()
                for _ in range(PASSES):
                    await anyio.lowlevel.checkpoint()
                await stream.send(line)

    async def serve(connections: anyio.abc.TaskGroup, *, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host=HOST) as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(handle, connections)

    async with anyio.create_task_group() as outside:
        with anyio.move_on_after(math.inf) as grace:
            async with anyio.create_task_group() as in_flight:
                async with anyio.create_task_group() as accepting:
                    port = await accepting.start(serve, in_flight)
                    outside.start_soon(anyio.to_thread.run_sync, clients, report, port)
                    await asked.wait()
                    ending.set()
                    accepting.cancel_scope.cancel()
                report.mark("it is to end")
                grace.deadline = anyio.current_time() + GRACE
        report(grace_is_over=grace.cancelled_caught)
        report.mark("it has ended")


async def with_trio(report: Report) -> None:
    """Trio with nested nurseries."""
    asked, ending = trio.Event(), trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        async for line in stream:
            asked.set()
            await ending.wait()
            for _ in range(PASSES):
                await trio.lowlevel.checkpoint()
            await stream.send_all(line)

    async with trio.open_nursery() as outside:
        with trio.CancelScope() as grace:
            async with trio.open_nursery() as in_flight:
                async with trio.open_nursery() as accepting:
                    serve = partial(trio.serve_tcp, host=HOST, handler_nursery=in_flight)
                    [listener] = await accepting.start(serve, handle, 0)
                    port = listener.socket.getsockname()[1]
                    outside.start_soon(trio.to_thread.run_sync, clients, report, port)
                    await asked.wait()
                    ending.set()
                    accepting.cancel_scope.cancel()
                report.mark("it is to end")
                grace.deadline = trio.current_time() + GRACE
        report(grace_is_over=grace.cancelled_caught)
        report.mark("it has ended")


def clients(report: Report, port: int) -> None:
    """Be two clients, of which one asks and one is silent until the server hangs up."""
    with connect(port) as silent, connect(port) as busy:
        report(reply=ask(busy, b"well?\n"))
        try:
            silent.recv(1)
        except OSError:
            pass  # a reset is an end as well


async def run(trial: Trial) -> Observation:
    """Run the program, and see what became of both clients."""
    ran = await trial.run_program(record=True)
    facts = ran.facts
    if "it has ended" not in ran.marks or "reply" not in facts:
        raise AssertionError("\n".join(ran.stderr))
    if facts.get("gave_up"):
        outcome = End.WAITS
    elif facts["reply"] != "well?":
        outcome = End.CUT_OFF
    elif facts.get("grace_is_over"):
        outcome = End.DRAINED
    else:
        raise AssertionError(f"it ended, and neither was waited for: {facts}")
    took = ran.marks["it has ended"] - ran.marks["it is to end"]
    return Observation(
        outcome=outcome,
        evidence=(
            f"the client that had asked got {facts['reply'] or 'the end of its stream'}",
            f"given up after {took:.2f} s" if facts.get("gave_up") else f"ended after {took:.2f} s",
        ),
        events=ran.events,
    )


EXPERIMENT = Experiment(
    name="shutdown-with-clients",
    family=Family.BEHAVIOUR,
    question="A server is to end while clients are connected: what does it wait for?",
    why=(
        "Up to Python 3.11 wait_closed() waited for nobody, since 3.12 it waits for everybody, "
        "and no version has a grace period. Nested task groups say what is meant: this goes "
        "first, that gets so many seconds. asyncio's TaskGroup can say it too."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(End.DRAINED, original=End.WAITS if PYTHON >= (3, 12) else End.CUT_OFF),
    run=run,
    differences=(14,),
    picture="timeline",
)
