"""A hundred broken packets are sent to the DNS server: what do they cost, and what is said?

In the original a packet that ends within its name is an IndexError in a callback. The server goes
on, which is asyncio's barrier; the sender gets no reply and waits for its timeout; and each packet,
of 16 bytes, is a traceback in the log. Whoever sends a million of them fills the disk.

In the other servers a broken packet is no exception but a value: the parser says whose fault it is,
and the reply is FORMERR, as RFC 1035 asks for, or nothing if not even that can be read. No log
line.
"""

import socket
import struct

import trio

from services_lab.clients import ask_dns
from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.server import PATIENCE
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

COLUMNS = ("original", "original-uvloop", "asyncio", "anyio-asyncio", "anyio-trio", "trio")

PACKETS = 100

BROKEN = struct.pack("!6H", 3, 0, 1, 0, 0, 0) + b"\x20abc"
"""A query whose only label is longer than the packet."""


class Fate(Outcome):
    """What a broken packet leads to."""

    REFUSED = Verdict.GOOD, "the sender is told; the log is quiet"
    TRACEBACK = Verdict.BAD, "no reply, and a traceback in the log for each"


async def run(trial: Trial) -> Observation:
    """Send broken packets and then a good one; count replies, and bytes of the log."""
    async with trial.open_server() as server:
        if await ask_dns(server.dns) is None:
            raise AssertionError("no reply to a good query")
        before = server.log.stat().st_size
        replies = 0
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.connect((server.dns.host, server.dns.port))
            for _ in range(PACKETS):
                await sock.send(BROKEN)
            goes_on = await ask_dns(server.dns) is not None
            with trio.move_on_after(PATIENCE if goes_on else 0):
                await sock.send(good := good_query())
                while (reply := await sock.recv(65535))[:2] != good[:2]:
                    replies += reply[:2] == BROKEN[:2]
        logged = server.log.stat().st_size - before
        tracebacks = sum(line.startswith("Traceback") for line in server.lines())
        last = [line for line in server.lines() if "Error" in line][-1:]
    if not goes_on:
        raise AssertionError("the server answers nobody any more")
    if replies == PACKETS and not logged:
        outcome = Fate.REFUSED
    elif not replies and tracebacks == PACKETS:
        outcome = Fate.TRACEBACK
    else:
        raise AssertionError(f"{replies} replies, {tracebacks} tracebacks, {logged} bytes logged")
    return Observation(
        outcome=outcome,
        figures={"log per packet": logged / PACKETS},
        evidence=(
            f"{PACKETS} packets of {len(BROKEN)} bytes: {replies} replies",
            f"{tracebacks} tracebacks, {logged} bytes of log",
            *last,
        ),
    )


def good_query() -> bytes:
    """Return a query whose reply shows that all before it on its socket has been dealt with."""
    return struct.pack("!6H", 0xFE0C, 0x0100, 1, 0, 0, 0) + b"\5alpha\7example\0\0\1\0\1"


EXPERIMENT = Experiment(
    name="malformed-packet",
    family=Family.BEHAVIOUR,
    question="Broken packets arrive at the DNS server: who is told, and what does it cost?",
    why=(
        "Anybody can send anything to a UDP port. asyncio's callback keeps the server alive, at "
        "the price of a traceback for each packet; a parser that returns a value for broken input "
        "needs no barrier, and can say what is wrong."
    ),
    subjects=servers("dns", COLUMNS),
    expected=expect(Fate.REFUSED, original=Fate.TRACEBACK, original_uvloop=Fate.TRACEBACK),
    run=run,
    figures=(Figure(name="log per packet", unit="B", is_main=True),),
    differences=(4,),
    picture="bars",
)
