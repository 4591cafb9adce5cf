"""A UDP server meets a packet that it does not understand, and raises: does it go on?

`datagram_received` is a callback: asyncio logs what it raises ("Exception in callback") and calls
it again for the next packet. A server that is a loop, as with AnyIO and Trio, has no such caller:
an exception ends the loop, the task and its nursery. One packet from anybody is enough, so such a
loop needs a barrier: around what is done for one packet, never around the loop.
"""

import asyncio
import logging
import socket
from typing import cast

import anyio
import anyio.to_thread
import trio
from anyio.abc import SocketAttribute, TaskStatus

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, ask_datagram
from services_lab.subjects import expect, programs
from services_lab.trial import Trial


class Fate(Outcome):
    """What one bad packet does."""

    GOES_ON = Verdict.GOOD, "it is logged; the next packet is answered"
    SERVER_ENDS = Verdict.BAD, "one packet ends the server"


def reply_to(packet: bytes) -> bytes:
    """Return what each of a number gets of 100. For 0 this raises: the bug."""
    return b"%d\n" % (100 // int(packet))


class Protocol(asyncio.DatagramProtocol):
    """The server as callbacks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Reply to a packet; what it raises, the loop logs."""
        self.transport.sendto(reply_to(data), addr)


async def with_protocol(report: Report) -> None:
    """asyncio, of the book and of today: callbacks."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=(HOST, 0))
    await asyncio.to_thread(clients, report, transport.get_extra_info("sockname")[1])
    transport.close()


async def anyio_server(*, task_status: TaskStatus[int]) -> None:
    """Answer for ever; started with the port."""
    async with await anyio.create_udp_socket(local_host=HOST, family=socket.AF_INET) as udp:
        task_status.started(udp.extra(SocketAttribute.local_port))
        async for packet, (host, port) in udp:
            await udp.sendto(reply_to(packet), host, port)


async def with_anyio(report: Report) -> None:
    """AnyIO: a loop."""
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(anyio_server)
        await anyio.to_thread.run_sync(clients, report, port)
        tasks.cancel_scope.cancel()


async def trio_server(barrier: bool, *, task_status: trio.TaskStatus[int]) -> None:
    """Answer for ever; started with the port."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        await udp.bind((HOST, 0))
        task_status.started(udp.getsockname()[1])
        while True:
            packet, sender = await udp.recvfrom(65535)
            try:
                reply = reply_to(packet)
            except Exception:
                if not barrier:
                    raise
                logging.getLogger(__name__).exception("no reply to %r", packet)
                continue
            await udp.sendto(reply, sender)


async def with_trio(report: Report, *, barrier: bool = False) -> None:
    """Trio: a loop."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(trio_server, barrier)
        await trio.to_thread.run_sync(clients, report, port)
        nursery.cancel_scope.cancel()


async def with_barrier(report: Report) -> None:
    """Trio: a loop with a barrier around each packet."""
    await with_trio(report, barrier=True)


def clients(report: Report, port: int) -> None:
    """Ask, send the packet that meets the bug, and ask again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, port))
        report(before=ask_datagram(sock, b"4"))
        report.mark("a bad packet")
        sock.send(b"0")
        report(after=ask_datagram(sock, b"5"))


async def run(trial: Trial) -> Observation:
    """Run the program, and see whether it answered after the packet that made it raise."""
    ran = await trial.run_program(record=True)
    facts = ran.facts
    if facts["before"] == "25" and facts["after"] == "20" and ran.exit_status == 0:
        outcome = Fate.GOES_ON
    elif facts["before"] == "25" and not facts["after"] and ran.exit_status:
        outcome = Fate.SERVER_ENDS
    else:
        raise AssertionError(f"neither went on nor ended: {facts}, status {ran.exit_status}")
    evidence = [
        f"the next packet got {facts['after'] or 'no reply: the port is closed'}",
        f"exit status {ran.exit_status}",
        *(
            line.strip()
            for line in ran.stderr
            if "Exception in callback" in line or "no reply" in line
        ),
        *[line.strip(" |") for line in ran.stderr if "ZeroDivisionError:" in line][:1],
    ]
    return Observation(outcome=outcome, evidence=tuple(evidence), events=ran.events)


EXPERIMENT = Experiment(
    name="datagram-received-raises",
    family=Family.BEHAVIOUR,
    question="A packet makes the UDP server raise: is the next packet answered?",
    why=(
        "Anybody can send a packet that a parser was not written for. asyncio's callbacks have the "
        "loop as a barrier: the traceback is logged, once for each packet, and the server goes on. "
        "A loop in AnyIO or Trio ends with its first exception, and takes its siblings along, "
        "unless a barrier stands around each packet: the column trio-barrier. The DNS servers of "
        "this project have one, and count what it catches; malformed-packet shows them."
    ),
    subjects=programs(
        original=with_protocol,
        asyncio=with_protocol,
        anyio=with_anyio,
        trio=with_trio,
        others={"trio-barrier": (with_barrier, "trio")},
    ),
    expected=expect(
        Fate.SERVER_ENDS,
        original=Fate.GOES_ON,
        asyncio=Fate.GOES_ON,
        trio_barrier=Fate.GOES_ON,
    ),
    run=run,
    differences=(4,),
    picture="timeline",
)
