"""A client asks for 64 MiB and does not read: where do they pile up?

The kernel takes a few MiB, and then says "wait". Somebody has to. (`trio.SocketStream` asks it to
say so earlier, by TCP_NOTSENT_LOWAT: what has not been sent is of no use in the kernel.)

- `StreamWriter.write` is no coroutine: what the kernel does not take goes into the transport's
  buffer, which has no bound. A handler that forgets `await writer.drain()` runs to its end and
  leaves 64 MiB in the server's memory for each such client. Nothing warns.
- With `drain` it waits, at 64 KiB. It is one line, and it is right to write it after each `write`.
- AnyIO's `send` and Trio's `send_all` are the only way to send. They return when the kernel has
  taken everything, so there is nothing to forget, and no buffer.

The client of a real service gets a deadline besides; see `write_deadline` in the settings.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread
import psutil
import trio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, connect
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

CHUNK = 64 * 1024
CHUNKS = 1024
"""64 MiB: more than the socket buffers of a client and a server take (12 MiB at the most here)."""

LOOK = 0.01
LOOKS = 30
"""The sender has stopped when it has sent nothing more between so many looks in a row."""


class Pile(Outcome):
    """Where the bytes are that nobody reads."""

    WAITS = Verdict.GOOD, "the sender waits"
    BUFFERED = Verdict.BAD, "the server's memory takes it all"


class Sent:
    """What a handler has sent, as far as it knows."""

    def __init__(self) -> None:
        self.chunks = 0
        self._before = resident()

    def chunk(self) -> bytes:
        """Return the next chunk: memory of its own, as the parts of a real reply are."""
        self.chunks += 1
        return b"x" * CHUNK

    async def wait_stopped(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Wait until the handler is through or waits."""
        looks, before = 0, 0
        while looks < LOOKS:
            await sleep(LOOK)
            looks = looks + 1 if before == self.chunks > 0 else 0
            before = self.chunks

    def tell(self, report: Report) -> None:
        """Report how much was sent, and what it costs."""
        report.mark("the sender waits, or is through")
        report(sent=self.chunks * CHUNK, memory=resident() - self._before)


def resident() -> int:
    """Return the bytes of memory that this process uses."""
    return int(psutil.Process().memory_info().rss)


async def with_asyncio(report: Report, *, drain: bool = True) -> None:
    """asyncio with streams, and `drain`."""
    sent = Sent()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        for _ in range(CHUNKS):
            writer.write(sent.chunk())
            if drain:
                await writer.drain()

    async with await asyncio.start_server(handle, HOST, 0) as server:
        with deaf_client(server.sockets[0].getsockname()[1]):
            await sent.wait_stopped(asyncio.sleep)
            sent.tell(report)


async def original(report: Report) -> None:
    """asyncio with streams, and `drain` forgotten."""
    await with_asyncio(report, drain=False)


async def with_anyio(report: Report) -> None:
    """AnyIO."""
    sent = Sent()

    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            for _ in range(CHUNKS):
                await stream.send(sent.chunk())

    async def serve(*, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host=HOST) as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(handle)

    async with anyio.create_task_group() as tasks:
        with deaf_client(await tasks.start(serve)):
            await sent.wait_stopped(anyio.sleep)
            sent.tell(report)
            tasks.cancel_scope.cancel()


async def with_trio(report: Report) -> None:
    """Trio."""
    sent = Sent()

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for _ in range(CHUNKS):
            await stream.send_all(sent.chunk())

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, host=HOST)
        [listener] = await nursery.start(serve, handle, 0)
        with deaf_client(listener.socket.getsockname()[1]):
            await sent.wait_stopped(trio.sleep)
            sent.tell(report)
            nursery.cancel_scope.cancel()


def deaf_client(port: int) -> socket.socket:
    """Return a connection that has asked for everything, and is not read."""
    sock = connect(port)
    sock.sendall(b"all of it, please\n")
    return sock


async def run(trial: Trial) -> Observation:
    """Run the program, and see how far the handler came while nobody read."""
    ran = await trial.run_program()
    if "sent" not in ran.facts:
        raise AssertionError("\n".join(ran.stderr))
    sent, memory = int(str(ran.facts["sent"])), int(str(ran.facts["memory"]))
    return Observation(
        outcome=Pile.BUFFERED if sent == CHUNK * CHUNKS else Pile.WAITS,
        figures={"memory": memory},
        evidence=(
            f"the handler had sent {sent / 2**20:.1f} MiB of {CHUNK * CHUNKS / 2**20:.0f}",
            f"the server's memory had grown by {memory / 2**20:.1f} MiB",
        ),
    )


EXPERIMENT = Experiment(
    name="backpressure",
    family=Family.BEHAVIOUR,
    question="A client asks for 64 MiB and does not read: does the server hold them for it?",
    why=(
        "A server that buffers for clients who do not read can be filled up by anybody. In asyncio "
        "a write never waits, and waiting is a second call that can be forgotten; with it, asyncio "
        "does well. In AnyIO and Trio sending is waiting."
    ),
    subjects=programs(original=original, asyncio=with_asyncio, anyio=with_anyio, trio=with_trio),
    expected=expect(Pile.WAITS, original=Pile.BUFFERED),
    run=run,
    figures=(Figure(name="memory", unit="B", is_main=True),),
    differences=(10,),
    picture="bars",
)
