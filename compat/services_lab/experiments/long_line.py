"""A client sends a line of 80 kB. What is it told?

asyncio's `readline` has a limit of 64 KiB, and raises ValueError beyond it. In a handler that does
not expect it, that is a traceback in the log and the end of the stream: the client learns nothing.
(It is not safe either to go on: the line is thrown away as far as it has come, and what follows of
it will be taken for the next.) AnyIO's `receive_until` asks for the limit, and so reminds of it.

Trio has bytes and no lines; framing is ours. The cap is one more thing to think of: without it, a
client that never sends an end of line can fill the server's memory, which asyncio would have
prevented.
"""

import asyncio
from functools import partial

import anyio
import anyio.to_thread
import trio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, ask, connect
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

LIMIT = 64 * 1024
LONG = b"x" * 80_000 + b"\n"
TOO_LONG = b"error: a line has at most 65536 bytes\n"


class Told(Outcome):
    """What the client learns."""

    TOLD = Verdict.GOOD, "it is told, and the others are served"
    HUNG_UP = Verdict.FAIR, "it is hung up on without a word; a traceback is logged"
    TAKEN = Verdict.BAD, "any line is taken, however long"


async def original(report: Report) -> None:
    """asyncio with `readline`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(b"%d\n" % len(line))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, HOST, 0) as server:
        await asyncio.to_thread(clients, report, server.sockets[0].getsockname()[1])


async def with_asyncio(report: Report) -> None:
    """asyncio with `readline` and what it raises."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(b"%d\n" % len(line))
                await writer.drain()
        except ValueError:
            writer.write(TOO_LONG)
            writer.write_eof()
            while await reader.read(LIMIT):
                pass  # closing with bytes unread would reset the connection, and the error with it
        writer.close()

    async with await asyncio.start_server(handle, HOST, 0, limit=LIMIT) as server:
        await asyncio.to_thread(clients, report, server.sockets[0].getsockname()[1])


async def with_anyio(report: Report) -> None:
    """AnyIO with `receive_until`."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            lines = BufferedByteReceiveStream(stream)
            try:
                while True:
                    line = await lines.receive_until(b"\n", LIMIT)
                    await stream.send(b"%d\n" % (len(line) + 1))
            except anyio.IncompleteRead:
                return
            except anyio.DelimiterNotFound:
                await stream.send(TOO_LONG)
                await stream.send_eof()
                async for _ in stream:
                    pass

    async def serve(*, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host=HOST) as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(handle)

    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve)
        await anyio.to_thread.run_sync(clients, report, port)
        tasks.cancel_scope.cancel()


async def with_trio(report: Report, *, limit: int | None = LIMIT) -> None:
    """Trio, with lines of our own."""

    async def handle(stream: trio.SocketStream) -> None:
        rest = b""
        async for data in stream:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if limit is None or len(line) < limit:
                    await stream.send_all(b"%d\n" % (len(line) + 1))
                    continue
                rest = line
                break
            if limit is not None and len(rest) >= limit:
                await stream.send_all(TOO_LONG)
                await stream.send_eof()
                async for _ in stream:
                    pass

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, host=HOST)
        [listener] = await nursery.start(serve, handle, 0)
        port = listener.socket.getsockname()[1]
        await trio.to_thread.run_sync(clients, report, port)
        nursery.cancel_scope.cancel()


async def without_limit(report: Report) -> None:
    """Trio, the cap forgotten."""
    await with_trio(report, limit=None)


def clients(report: Report, port: int) -> None:
    """Be a client that sends a long line, and another that does not."""
    with connect(port) as sock:
        report(before=ask(sock, b"short\n"))
        report.mark("a line of 80 kB")
        report(reply=ask(sock, LONG))
    with connect(port) as sock:
        report(after=ask(sock, b"short\n"))


async def run(trial: Trial) -> Observation:
    """Run the program, and see what the client was told."""
    ran = await trial.run_program()
    facts = ran.facts
    if facts.get("before") != "6" or facts.get("after") != "6":
        raise AssertionError("\n".join([f"short lines are not served: {facts}", *ran.stderr]))
    logged = [line for line in ran.stderr if line.startswith("ValueError")]
    outcomes = {TOO_LONG.decode().strip(): Told.TOLD, "": Told.HUNG_UP, str(len(LONG)): Told.TAKEN}
    return Observation(
        outcome=outcomes[str(facts["reply"])],
        evidence=(f"the client got {facts['reply'] or 'the end of its stream'}", *logged[:1]),
    )


EXPERIMENT = Experiment(
    name="long-line",
    family=Family.BEHAVIOUR,
    question="A client sends a line of 80 kB: what is it told?",
    why=(
        "Every protocol of lines needs a cap. asyncio has one, 64 KiB, which is met as a "
        "ValueError that few handlers expect; AnyIO asks for one; Trio leaves lines to you, cap "
        "included, and the column trio-uncapped has forgotten it."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={"trio-uncapped": (without_limit, "trio")},
    ),
    expected=expect(Told.TOLD, original=Told.HUNG_UP, trio_uncapped=Told.TAKEN),
    run=run,
    differences=(17,),
)
