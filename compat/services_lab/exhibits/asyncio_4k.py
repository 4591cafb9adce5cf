"""DNS over UDP on asyncio as it is, but with receive buffers of 4 KiB instead of 256 KiB.

asyncio's datagram transport calls `recvfrom(256 * 1024)`, since a datagram may be large. CPython
allocates that much and then shrinks it to what came. To glibc's allocator it is a large block,
which it maps, remaps and unmaps: three system calls for each datagram, and page faults, which cost
more than all the rest of a query: 27 µs with them, 8 without. (The calls were seen with strace.)

glibc gives that up once a program has freed a larger block, so whether one pays depends on what it
did before: the original does on Python 3.11, 3.12 and 3.13, and `asyncio_services` on 3.11 and
3.12, but not on 3.13. There is no documented way to ask for less; the transport has an attribute.
"""

import asyncio
import socket
from typing import Any

from asyncio_services.dns_server import MAX_QUERY_BYTES, DnsProtocol, Respond, UdpStatistics


async def serve_dns_udp(sock: socket.socket, respond: Respond) -> None:
    """Answer the queries that arrive on `sock`, for ever.

    Raises:
        OSError: The socket failed.
    """
    transport: Any
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DnsProtocol(respond, UdpStatistics()), sock=sock.dup()
    )
    transport.max_size = MAX_QUERY_BYTES
    try:
        await protocol.failure
    finally:
        transport.abort()
