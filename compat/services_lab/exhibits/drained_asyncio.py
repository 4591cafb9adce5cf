"""DNS over UDP on asyncio with the technique of `trio_services`: wait once, then drain the socket.

`loop.add_reader` calls back when the socket is readable; a batch of datagrams is taken and answered
before the loop goes on. No transport, no protocol, and a pass of the loop for a batch instead of
for a datagram. It works on uvloop too, whose own transport already drains.
"""

import asyncio
import socket

from asyncio_services.dns_server import MAX_QUERY_BYTES, Respond

UDP_BATCH = 64
"""Datagrams before the loop runs its other callbacks, as in `trio_services`."""


async def serve_dns_udp(sock: socket.socket, respond: Respond) -> None:
    """Answer the queries that arrive on `sock`, for ever.

    Raises:
        OSError: The socket failed, or a reply could not be sent.
    """
    loop = asyncio.get_running_loop()
    failure: asyncio.Future[None] = loop.create_future()

    def drain() -> None:
        try:
            for _ in range(UDP_BATCH):
                packet, peer = sock.recvfrom(MAX_QUERY_BYTES)
                if reply := respond(packet):
                    sock.sendto(reply, peer)
        except BlockingIOError:
            pass
        except OSError as error:
            if not failure.done():
                failure.set_exception(error)

    loop.add_reader(sock, drain)
    try:
        await failure
    finally:
        loop.remove_reader(sock)
