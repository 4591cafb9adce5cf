"""DNS over UDP as Trio's documentation would have it: await a datagram, await sending the reply.

Each of the two awaits is a checkpoint, so each passes the scheduler, also when the kernel has
another datagram ready: two passes for a query. It is right, fair and cancellable, in four lines.
"""

import socket

import trio

from trio_services.dns_server import MAX_QUERY_BYTES, Respond


async def serve_dns_udp(sock: socket.socket, respond: Respond) -> None:
    """Answer the queries that arrive on `sock`, for ever.

    Raises:
        OSError: The socket failed, or a reply could not be sent.
    """
    udp = trio.socket.from_stdlib_socket(sock)
    while True:
        packet, peer = await udp.recvfrom(MAX_QUERY_BYTES)
        if reply := respond(packet):
            await udp.sendto(reply, peer)
