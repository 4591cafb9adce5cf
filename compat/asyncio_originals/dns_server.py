"""A UDP DNS server: a `DatagramProtocol`, a dictionary, and one A record for every question."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

NAMES = {
    b"alpha.example": "192.0.2.10",
    b"beta.example": "192.0.2.20",
    b"gamma.example": "192.0.2.30",
}
DEFAULT_ADDRESS = "127.0.0.1"
TTL = 60


class DnsProtocol(asyncio.DatagramProtocol):
    """Answers every question with one A record."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport that replies are sent on."""
        # A cast: asyncio's own datagram transport is no instance of the class that documents it.
        self.transport = cast(asyncio.DatagramTransport, transport)

    # Flaw: called for one datagram in each pass of the loop (9).
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Parse a query by hand, look its name up, send the reply."""
        # Flaw: a reply is answered like a query, so two such servers can be set on each other.
        labels = []
        at = 12
        # Flaw: raises IndexError for a packet that ends within its name, and goes on (4).
        while length := data[at]:
            # Flaw: a compression pointer is taken for the length of a label.
            labels.append(data[at + 1 : at + 1 + length])
            at += length + 1
        question = data[12 : at + 5]
        address = NAMES.get(b".".join(labels).lower(), DEFAULT_ADDRESS)
        # Flaw: claims recursion; ignores opcode, EDNS and all questions but the first.
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        # Flaw: whatever type or class was asked for, the answer is of type A and class IN.
        answer = struct.pack("!HHHIH", 0xC00C, 1, 1, TTL, 4) + socket.inet_aton(address)
        # Flaw: what the kernel does not take at once waits in a buffer without a bound.
        self.transport.sendto(header + question + answer, addr)


async def serve(host: str, port: int, ready: Callable[[str, int], None]) -> None:
    """Serve on `host` and `port` until cancelled; call `ready` with both once it listens."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        DnsProtocol, local_addr=(host, port)
    )
    try:
        ready(*transport.get_extra_info("sockname")[:2])
        await asyncio.Event().wait()
    finally:
        transport.close()
