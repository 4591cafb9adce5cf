"""One client sends 3000 lines at once: does anybody else have a turn before they are served?

`await` does not mean "let the others run". asyncio's `readline` and `drain` wait only if there is
something to wait for: a line that is in the buffer is returned at once, a write below the
high-water mark is not waited for. So a handler that finds 3000 lines in its buffer serves them all
before any sibling runs, timers included. `await asyncio.sleep(0)` now and then is the cure (column
`asyncio-yielding`): one has to know it.

With Trio, whatever may block is a checkpoint whether or not it blocks, and lets the others run;
AnyIO keeps that rule on asyncio too. It costs a pass of the scheduler each time, which is why
`trio_services.eager_io` passes it only every sixteenth time.
"""

import asyncio
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import trio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, connect, read_line
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

LINES = 3000
LINE = b"1234\n"
"""So short that one system call sends them all, and the server has them before it begins."""

STARVED_BELOW = LINES / 30
"""Turns of a sibling: the lines may arrive in a few pieces, each of which is a turn."""


class Turns(Outcome):
    """How often a sibling runs while the lines are served."""

    EVERY_LINE = Verdict.GOOD, "the others run after each line"
    STARVED = Verdict.BAD, "nobody else runs until the last line"


class Served:
    """Counts the lines, and what a sibling does meanwhile.

    Attributes:
        ticks: How often the sibling has run.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lines = 0
        self._before = 0
        self.ticks = 0

    def line(self) -> None:
        """Count a line; report when it was the last."""
        if self._lines == 0:
            self._before = self.ticks
            self._report.mark("the first of 3000 lines")
        self._lines += 1
        if self._lines == LINES:
            self._report.mark("the last")
            self._report(ticks=self.ticks - self._before)


class Protocol(asyncio.Protocol):
    """The server as a protocol: all lines of one read are served in one callback."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Echo the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._transport.write(line + b"\n")
            self._served.line()


async def asyncio_beat(served: Served) -> None:
    """Be a sibling that runs whenever it may."""
    while True:
        served.ticks += 1
        await asyncio.sleep(0)


async def original(report: Report) -> None:
    """asyncio with a protocol."""
    served = Served(report)
    beating = asyncio.create_task(asyncio_beat(served))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Protocol, served), HOST, 0)
    async with server:
        await asyncio.to_thread(client, server.sockets[0].getsockname()[1])
    beating.cancel()


async def with_asyncio(report: Report, *, yields: bool = False) -> None:
    """asyncio with streams."""
    served = Served(report)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
            if yields:
                await asyncio.sleep(0)
            served.line()
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(asyncio_beat(served))
        async with await asyncio.start_server(handle, HOST, 0) as server:
            await asyncio.to_thread(client, server.sockets[0].getsockname()[1])
        beating.cancel()


async def with_asyncio_yielding(report: Report) -> None:
    """asyncio with streams, and a line that lets the others run."""
    await with_asyncio(report, yields=True)


async def anyio_beat(served: Served) -> None:
    """Be a sibling that runs whenever it may."""
    while True:
        served.ticks += 1
        await anyio.lowlevel.checkpoint()


async def with_anyio(report: Report) -> None:
    """AnyIO with its buffered stream."""
    served = Served(report)

    async def handle(stream: SocketStream) -> None:
        async with stream:
            lines = BufferedByteReceiveStream(stream)
            while True:
                try:
                    line = await lines.receive_until(b"\n", 65536)
                except anyio.IncompleteRead:
                    return
                await stream.send(line + b"\n")
                served.line()

    async def serve(*, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host=HOST) as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(handle)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio_beat, served)
        port = await tasks.start(serve)
        await anyio.to_thread.run_sync(client, port)
        tasks.cancel_scope.cancel()


async def trio_beat(served: Served) -> None:
    """Be a sibling that runs whenever it may."""
    while True:
        served.ticks += 1
        await trio.lowlevel.checkpoint()


async def with_trio(report: Report) -> None:
    """Trio; cutting the stream into lines is ours."""
    served = Served(report)

    async def handle(stream: trio.SocketStream) -> None:
        rest = b""
        async for data in stream:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                await stream.send_all(line + b"\n")
                served.line()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio_beat, served)
        serve = partial(trio.serve_tcp, host=HOST)
        [listener] = await nursery.start(serve, handle, 0)
        await trio.to_thread.run_sync(client, listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


def client(port: int) -> None:
    """Send all lines at once, and wait for the last reply."""
    with connect(port) as sock:
        sock.sendall(LINE * LINES)
        left = len(LINE) * LINES - len(LINE)
        while left:
            left -= len(sock.recv(min(left, 65536)))
        read_line(sock)


async def run(trial: Trial) -> Observation:
    """Run the program, and see how often the sibling ran between the first line and the last."""
    ran = await trial.run_program()
    if ran.exit_status:
        raise AssertionError("\n".join(ran.stderr))
    ticks = int(str(ran.facts["ticks"]))
    if ticks < STARVED_BELOW:
        outcome = Turns.STARVED
    elif ticks > LINES / 2:
        outcome = Turns.EVERY_LINE
    else:
        raise AssertionError(f"neither starved nor served: {ticks} turns for {LINES} lines")
    return Observation(
        outcome=outcome,
        figures={"turns": ticks},
        evidence=(f"a sibling ran {ticks} times between the first line and the last of {LINES}",),
    )


EXPERIMENT = Experiment(
    name="pipelining-fairness",
    family=Family.BEHAVIOUR,
    question="One client sends 3000 lines at once: do others have a turn before all are served?",
    why=(
        "In asyncio an await that has nothing to wait for does not give way. A client that always "
        "has more to say keeps the loop to itself: no accept, no timer, no deadline meanwhile. In "
        "Trio, and in AnyIO on any loop, each operation is a checkpoint. It has its price: "
        "datagrams-per-pass. asyncio's cure is to know it, and to write await asyncio.sleep(0) now "
        "and then (asyncio-yielding)."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={"asyncio-yielding": (with_asyncio_yielding, "asyncio")},
    ),
    expected=expect(
        Turns.EVERY_LINE,
        original=Turns.STARVED,
        asyncio=Turns.STARVED,
        asyncio_yielding=Turns.EVERY_LINE,
    ),
    run=run,
    figures=(Figure(name="turns", unit="", lower_is_better=False, is_main=True),),
    differences=(8,),
    picture="bars",
)
