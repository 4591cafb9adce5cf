"""The book's DNS and sort servers on asyncio, bare: what the benchmarks compare with.

    python benchmarks/asyncio_originals.py dns|sort [--port N] [--uvloop]

Exhibits, not hardened: no limits, every question answered with an A record. `sort` uses gnome
sort in a `ProcessPoolExecutor`; `sort-builtin` uses `sorted` there. Prints the port when ready.
"""

import argparse
import asyncio
import json
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Parse a query by hand, look its name up, send the reply."""
        labels = []
        at = 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length])
            at += length + 1
        question = data[12 : at + 5]
        address = NAMES.get(b".".join(labels).lower(), DEFAULT_ADDRESS)
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        answer = struct.pack("!HHHIH", 0xC00C, 1, 1, TTL, 4) + socket.inet_aton(address)
        self.transport.sendto(header + question + answer, addr)


def gnome_sort(values: list[float]) -> list[float]:
    """Swap backwards until in order, then walk on; the square of the length."""
    at = 0
    while at < len(values):
        if at == 0 or values[at] >= values[at - 1]:
            at += 1
        else:
            values[at], values[at - 1] = values[at - 1], values[at]
            at -= 1
    return values


async def handle_sort(
    pool: ProcessPoolExecutor,
    sort: Callable[[list[float]], list[float]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Read one list, sort it in the pool, reply, close."""
    (length,) = struct.unpack("!Q", await reader.readexactly(8))
    values = json.loads(await reader.readexactly(length))
    loop = asyncio.get_running_loop()
    values = await loop.run_in_executor(pool, sort, values)
    writer.write(json.dumps(values).encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main(service: str, port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    if service == "dns":
        transport, _ = await loop.create_datagram_endpoint(
            DnsProtocol, local_addr=("127.0.0.1", port)
        )
        port = transport.get_extra_info("sockname")[1]
    else:
        # The book made the pool the loop's default executor, which Python 3.11 forbids.
        sort = gnome_sort if service == "sort" else sorted
        handle = partial(handle_sort, ProcessPoolExecutor(), sort)
        server = await asyncio.start_server(handle, "127.0.0.1", port)
        port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("service", choices=["dns", "sort", "sort-builtin"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        uvloop.run(main(options.service, options.port))
    else:
        asyncio.run(main(options.service, options.port))
