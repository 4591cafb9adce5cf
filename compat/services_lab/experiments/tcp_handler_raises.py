"""A TCP handler raises: what becomes of its client, of the others, and of the server.

asyncio's servers come with a barrier: each connection is a task, or a protocol, of its own that
nobody awaits. What it raises goes to the loop's exception handler, which logs it, and the
connection is closed. (`start_server` did not close it before 3.11.7 and 3.12.1: the client was left
hanging, CPython 110894.) So a bug in one connection is a line in the log and nothing more.

`trio.serve_tcp` and AnyIO's `Listener.serve` have none: a handler is a task of the server's
nursery, and an exception that it does not handle is the server's. The siblings are cancelled, the
listener is closed, the exception leaves as a group. That cannot be overlooked; it also lets one
client end everybody's service. The barrier that prevents it is four lines of your own; column
`trio-barrier` has them, and `trio_services.connections` has them for real.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread
import trio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, SILENCE, ask, ask_newly, ask_often, connect
from services_lab.subjects import expect, programs
from services_lab.trial import Trial


class Fate(Outcome):
    """Who is hit by a handler that raises."""

    CONTAINED = Verdict.GOOD, "only its own connection ends"
    HANGS = Verdict.BAD, "its client is left hanging"
    SERVER_ENDS = Verdict.BAD, "the whole server ends"


def share(line: bytes | bytearray) -> bytes:
    """Return what each of `line` gets of 100. For 0 this raises: the bug."""
    return b"%d\n" % (100 // int(line))


class SharingProtocol(asyncio.Protocol):
    """The server as a protocol: `data_received` is called by the loop, and raises into it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Reply to a line."""
        self.transport.write(share(data))


async def original(report: Report) -> None:
    """asyncio with a protocol."""
    server = await asyncio.get_running_loop().create_server(SharingProtocol, HOST, 0)
    async with server:
        await asyncio.to_thread(clients, report, server.sockets[0].getsockname()[1])


async def asyncio_handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    while line := await reader.readline():
        writer.write(share(line))
        await writer.drain()
    writer.close()


async def with_asyncio(report: Report) -> None:
    """asyncio with streams."""
    server = await asyncio.start_server(asyncio_handler, HOST, 0)
    async with server:
        await asyncio.to_thread(clients, report, server.sockets[0].getsockname()[1])


async def anyio_handler(stream: SocketStream) -> None:
    """Serve one connection."""
    async with stream:
        async for line in stream:
            await stream.send(share(line))


async def anyio_server(*, task_status: TaskStatus[int]) -> None:
    """Serve for ever; started with the port. Handlers are tasks of the listener's task group."""
    async with await anyio.create_tcp_listener(local_host=HOST) as listener:
        task_status.started(listener.extra(SocketAttribute.local_port))
        await listener.serve(anyio_handler)


async def with_anyio(report: Report) -> None:
    """AnyIO."""
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(anyio_server)
        await anyio.to_thread.run_sync(clients, report, port)
        tasks.cancel_scope.cancel()


async def trio_handler(stream: trio.SocketStream) -> None:
    """Serve one connection."""
    async for line in stream:
        await stream.send_all(share(line))


async def with_trio(report: Report) -> None:
    """Trio: handlers are tasks of the server's nursery."""
    await serve_with_trio(report, trio_handler)


async def contained_handler(stream: trio.SocketStream) -> None:
    """Serve one connection; the barrier keeps what it raises from its siblings."""
    try:
        await trio_handler(stream)
    except Exception:
        logging.getLogger(__name__).exception("a connection has failed")


async def with_barrier(report: Report) -> None:
    """Trio, with a barrier for each connection."""
    await serve_with_trio(report, contained_handler)


async def serve_with_trio(
    report: Report, handler: Callable[[trio.SocketStream], Awaitable[None]]
) -> None:
    """Serve until the clients are through."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, host=HOST)
        [listener] = await nursery.start(serve, handler, 0)
        port = listener.socket.getsockname()[1]
        await trio.to_thread.run_sync(clients, report, port)
        nursery.cancel_scope.cancel()


def clients(report: Report, port: int) -> None:
    """Be three clients: a bystander, the one that meets the bug, and one that comes later."""
    with connect(port) as bystander:
        report(before=ask(bystander, b"4\n"))
        with connect(port) as culprit:
            ask(culprit, b"5\n")
            report.mark("a handler raises")
            report(culprit=ask(culprit, b"0\n"))
        report(bystander=ask_often(bystander, b"5\n"))
    report(newcomer=ask_newly(port, b"2\n"))


async def run(trial: Trial) -> Observation:
    """Run the program, and see who was served after the handler had raised."""
    ran = await trial.run_program(record=True)
    facts = ran.facts
    if facts["before"] != "25":
        raise AssertionError(f"it did not serve anybody: {facts}")
    if facts["bystander"] == "20" and facts["newcomer"] == "50":
        outcome = Fate.HANGS if facts["culprit"] == SILENCE else Fate.CONTAINED
    elif not facts["bystander"] and not facts["newcomer"] and ran.exit_status:
        outcome = Fate.SERVER_ENDS
    else:
        raise AssertionError(f"neither contained nor ended: {facts}")
    evidence = [
        f"the client that met the bug got {facts['culprit'] or 'the end of its stream'}",
        f"the client beside it got {facts['bystander'] or 'the end of its stream'}",
        f"a client that came later got {facts['newcomer'] or 'refused'}",
        f"exit status {ran.exit_status}",
    ]
    evidence += [line.strip() for line in ran.stderr if "ZeroDivisionError" in line][:1]
    return Observation(outcome=outcome, evidence=tuple(evidence), events=ran.events)


EXPERIMENT = Experiment(
    name="tcp-handler-raises",
    family=Family.BEHAVIOUR,
    question="One connection's handler raises: who else is hit?",
    why=(
        "asyncio's servers put a barrier around each connection, log what it raises and go on; a "
        "bug can go unnoticed for long. Trio and AnyIO treat a handler as a part of the server: "
        "the bug ends everything, which cannot go unnoticed, and which a stranger may be able to "
        "bring about. Here asyncio has the better default for a service; the column trio-barrier "
        "shows the four lines that Trio and AnyIO leave to you."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={"trio-barrier": (with_barrier, "trio")},
    ),
    expected=expect(
        Fate.SERVER_ENDS,
        original=Fate.CONTAINED,
        asyncio=Fate.CONTAINED,
        trio_barrier=Fate.CONTAINED,
    ),
    run=run,
    differences=(3,),
    picture="timeline",
)
