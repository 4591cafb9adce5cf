"""A hundred datagrams wait in the socket: how many passes of the loop does it take to answer them?

A pass asks the kernel what is ready, and then runs whatever became runnable. What it costs (3 µs
and more) is shared by all that is done in it, so a UDP server is fast if it does much in one pass.

- asyncio's datagram transport calls `recvfrom` once a pass, whatever else has arrived. uvloop lets
  libuv read on, in C, a few dozen at a time.
- With Trio each `await` on a socket is a checkpoint, so `recvfrom` and `sendto` are two passes, and
  AnyIO keeps that rule on asyncio too. It is the price of fairness; for a DNS query it is the
  larger part of the cost.
- Or the loop is told to wait, and the rest is done by hand: once the socket is readable, receive
  until the kernel has nothing left, or until a batch is through. Both libraries allow that; the
  technique makes the difference and not the library. The DNS servers of this project do it.
"""

import asyncio
import socket
from typing import cast

import anyio
import anyio.abc
import anyio.lowlevel
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

DATAGRAMS = 100
"""So small a number fits into any socket's buffer."""

BATCH = 64
"""How many are answered before others have a turn."""

Address = tuple[str, int]


class Passes(Outcome):
    """How many passes of the loop a datagram takes."""

    SHARED = Verdict.GOOD, "many datagrams in a pass"
    ONE = Verdict.FAIR, "one pass for each datagram"
    TWO = Verdict.FAIR, "two passes for each datagram"


class Answered:
    """Counts the datagrams, and the passes of the loop, of which a sibling keeps count.

    Attributes:
        passes: How often the sibling has run.
        all: Whether the last datagram has been answered.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._count = 0
        self._before = 0
        self.passes = 0
        self.all = False

    def one(self) -> None:
        """Count a datagram; report when it was the last."""
        if self._count == 0:
            self._before = self.passes
        self._count += 1
        if self._count == DATAGRAMS:
            self.all = True
            self._report(passes=self.passes - self._before)


class Protocol(asyncio.DatagramProtocol):
    """The server as callbacks."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Send it back."""
        self._transport.sendto(data, addr)
        self._answered.one()


async def asyncio_passes(answered: Answered) -> None:
    """Count the passes of asyncio's loop until all is answered."""
    while not answered.all:
        answered.passes += 1
        await asyncio.sleep(0)


async def with_protocol(report: Report) -> None:
    """asyncio, of the book and of today: callbacks."""
    answered = Answered(report)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Protocol(answered), sock=filled())
    await asyncio_passes(answered)
    transport.close()


async def drained_asyncio(report: Report) -> None:
    """asyncio, told only to wait: `add_reader` and a loop of our own."""
    answered = Answered(report)
    loop = asyncio.get_running_loop()
    with filled() as sock:
        loop.add_reader(sock, answer_batch, sock, answered)
        await asyncio_passes(answered)
        loop.remove_reader(sock)


async def with_anyio(report: Report) -> None:
    """AnyIO: receive, send."""
    answered = Answered(report)

    async def serve() -> None:
        async with await anyio.abc.UDPSocket.from_socket(filled()) as udp:
            async for packet, (host, port) in udp:
                await udp.sendto(packet, host, port)
                answered.one()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        while not answered.all:
            answered.passes += 1
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def plain_trio(report: Report) -> None:
    """Trio as one writes it first: recvfrom, sendto."""
    answered = Answered(report)

    async def serve() -> None:
        with trio.socket.from_stdlib_socket(filled()) as udp:
            while True:
                packet, sender = await udp.recvfrom(65535)
                await udp.sendto(packet, sender)
                answered.one()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio_passes(answered)
        nursery.cancel_scope.cancel()


async def drained_trio(report: Report) -> None:
    """Trio, told only to wait."""
    answered = Answered(report)

    async def serve() -> None:
        with filled() as sock:
            while True:
                await trio.lowlevel.wait_readable(sock)
                answer_batch(sock, answered)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio_passes(answered)
        nursery.cancel_scope.cancel()


async def trio_passes(answered: Answered) -> None:
    """Count the passes of Trio's scheduler until all is answered."""
    while not answered.all:
        answered.passes += 1
        await trio.lowlevel.checkpoint()


def answer_batch(sock: socket.socket, answered: Answered) -> None:
    """Answer what there is, up to BATCH datagrams."""
    for _ in range(BATCH):
        try:
            packet, sender = sock.recvfrom(65535)
        except BlockingIOError:
            break
        sock.sendto(packet, sender)
        answered.one()


def filled() -> socket.socket:
    """Return a non-blocking UDP socket in which all datagrams wait already."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((HOST, 0))
        for _ in range(DATAGRAMS):
            client.sendto(b"a datagram", sock.getsockname())
    return sock


async def run(trial: Trial) -> Observation:
    """Run the program, and count the passes from the first datagram to the last."""
    ran = await trial.run_program()
    if ran.exit_status:
        raise AssertionError("\n".join(ran.stderr))
    each = int(str(ran.facts["passes"])) / DATAGRAMS
    outcome = Passes.SHARED if each < 0.5 else Passes.ONE if each < 1.5 else Passes.TWO
    return Observation(
        outcome=outcome,
        figures={"passes per datagram": each},
        evidence=(f"{ran.facts['passes']} passes from the first of {DATAGRAMS} to the last",),
    )


EXPERIMENT = Experiment(
    name="datagrams-per-pass",
    family=Family.BEHAVIOUR,
    question="How many passes of the event loop does a datagram cost?",
    why=(
        "This is why a UDP server in plain Trio is slower than one in asyncio, and why one that "
        "drains its socket is faster than both. It is a technique that asyncio allows as well "
        "(drained-asyncio), and that uvloop has inside."
    ),
    subjects=programs(
        original=with_protocol,
        asyncio=with_protocol,
        anyio=with_anyio,
        trio=drained_trio,
        others={
            "uvloop": (with_protocol, "uvloop"),
            "plain-trio": (plain_trio, "trio"),
            "drained-asyncio": (drained_asyncio, "asyncio"),
        },
    ),
    expected=expect(
        Passes.SHARED,
        original=Passes.ONE,
        asyncio=Passes.ONE,
        anyio_asyncio=Passes.TWO,
        anyio_trio=Passes.TWO,
        plain_trio=Passes.TWO,
    ),
    run=run,
    figures=(Figure(name="passes per datagram", unit="", is_main=True),),
    differences=(9,),
    picture="bars",
)
