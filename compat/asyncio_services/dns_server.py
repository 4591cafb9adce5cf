"""The DNS server: a datagram protocol, and messages over TCP.

Over UDP there is no task for a query, nor for a batch: the loop calls `datagram_received` for one
datagram in each of its passes, which is how asyncio reads datagrams. Each is answered by `respond`,
which is synchronous and pure.

A reply should leave from the address that the query was sent to (RFC 2181 section 4). A socket
bound to one address does that by itself. For one bound to all addresses asyncio cannot: the kernel
says with every datagram which address it was sent to, and a datagram protocol is not told. List the
addresses with `--dns` instead.

Over TCP (RFC 7766) a connection is a task. Whatever one read completes is answered in order, in
one write. All that a peer can use up is bounded: connections, time to send a message, time to read
a reply, and the bytes of one read.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from asyncio_services.connections import ACCEPT_BATCH, Connections, send_all
from trio_services.sans_io.dns_describe import describe
from trio_services.sans_io.length_prefix import DnsFrames, dns_frame
from trio_services.settings import DnsSettings

Respond = Callable[[bytes], bytes | None]

MAX_QUERY_BYTES = 4096
"""A query has one name, at most 255 bytes, and options; longer datagrams are cut and then
refused."""

TCP_READ_BYTES = 1024
"""About 30 queries, answered in one write before other tasks run."""

TCP_WRITE_BYTES = 65536
"""Replies to one read that are held together before they are written: a client that asks a hundred
times for the largest record set there is and does not read must not cost 6 MiB. Other tasks run
after each of these writes."""

logger = logging.getLogger("asyncio_services.dns")


@dataclass(slots=True)
class UdpStatistics:
    """Counts of one UDP socket since the start; written by its protocol, read by anybody."""

    batches: int = 0
    """Datagrams: each is a batch of its own here."""
    unsent: int = 0
    """Replies that the kernel refused: a full buffer, an unreachable or impossible peer."""


async def serve_dns_udp(
    sock: socket.socket,
    respond: Respond,
    *,
    statistics: UdpStatistics | None = None,
    task_status: asyncio.Future[None] | None = None,
) -> None:
    """Answer the queries that arrive on `sock`, for ever.

    Args:
        sock: A UDP socket that `listeners` has bound. It is not closed here.
        respond: Takes a packet, returns the reply or None for silence; must not raise or block.
        statistics: Where to count.

    Error handling: an error in sending one reply is counted and forgotten, since the peer decides
    whether there is one. What `respond` raises is raised here.

    Cancellation: between datagrams.
    """
    counts = statistics if statistics is not None else UdpStatistics()
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DnsProtocol(respond, counts),
        sock=sock.dup(),  # the transport closes it
    )
    try:
        if task_status is not None:
            task_status.set_result(None)
        await protocol.failure
    finally:
        transport.abort()


class DnsProtocol(asyncio.DatagramProtocol):
    """Answers queries by `respond`. `failure` is what that raised, if it ever did."""

    def __init__(self, respond: Respond, counts: UdpStatistics) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._respond = respond
        self._counts = counts
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport that replies are sent on."""
        # A cast: asyncio's own datagram transport is no instance of the class that documents it.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the service if the socket itself fails."""
        if exc is not None:
            self._fail(exc)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one query."""
        self._counts.batches += 1
        try:
            reply = self._respond(data[:MAX_QUERY_BYTES])
        except Exception as error:  # noqa: BLE001 - asyncio would log it and go on
            self._fail(error)
            return
        if reply is None:
            return
        if self._writable:
            self._transport.sendto(reply, addr)
        else:
            self._counts.unsent += 1

    def error_received(self, exc: Exception) -> None:
        """Count what the kernel says of an earlier reply."""
        self._counts.unsent += 1

    def pause_writing(self) -> None:
        """Drop replies while 64 KiB of them wait: the buffer of a transport has no bound."""
        self._writable = False

    def resume_writing(self) -> None:
        """Send replies again."""
        self._writable = True

    def _fail(self, error: Exception) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)


def log_requests(respond: Respond, transport: str) -> Respond:
    """Return a `respond` that also logs one line for each packet; it costs several queries."""

    def respond_and_log(packet: bytes) -> bytes | None:
        reply = respond(packet)
        logger.info("%s %s", transport, describe(packet, reply))
        return reply

    return respond_and_log


async def serve_dns_tcp(
    listener: socket.socket,
    connections: Connections,
    *,
    task_status: asyncio.Future[None] | None = None,
) -> None:
    """Accept DNS connections for ever and run each as a task of `connections`.

    Args:
        listener: A listening socket, non-blocking. asyncio closes it when this ends.
        connections: Made with a handler that calls `handle_dns_stream`.

    Error handling: asyncio logs what goes wrong in accepting, and pauses for a second when the
    system is out of file descriptors.

    Cancellation: ends the accepting; connections are the other task group's.
    """
    server = await asyncio.start_server(connections.admit, sock=listener, backlog=ACCEPT_BATCH)
    try:
        if task_status is not None:
            task_status.set_result(None)
        await asyncio.Event().wait()
    finally:
        # Neither `async with server` nor `serve_forever`: from Python 3.12 on both wait for the
        # connections, which have the grace period and are waited for by their task group.
        server.close()


async def handle_dns_stream(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connections: Connections,
    respond: Respond,
    settings: DnsSettings,
) -> None:
    """Answer the messages of one DNS connection until either side ends it.

    Ends when the client closes its sending side and everything asked before is answered, when a
    deadline passes, when a message is no query at all (`respond` returns None), or when the service
    drains and no message has begun.

    Raises:
        ConnectionError: The client vanished.
    """
    frames = DnsFrames()
    async with connections.patience() as patience:
        while True:
            if not frames.pending:
                patience.wait_for_request(settings.tcp_idle)
            data = await reader.read(TCP_READ_BYTES)
            if not data:
                return
            if not frames.pending:
                patience.allow(settings.tcp_message_deadline)
            if messages := frames.feed(data):
                patience.allow(settings.tcp_write_deadline)
                if not await _answer_all(writer, messages, respond):
                    return
                patience.allow(settings.tcp_message_deadline)
            if len(messages) > 1 or len(data) == TCP_READ_BYTES:
                # Neither `read` nor `drain` lets siblings run while there is something to read.
                await asyncio.sleep(0)


async def _answer_all(
    writer: asyncio.StreamWriter, messages: list[bytes], respond: Respond
) -> bool:
    """Answer `messages` in order in as few writes as are sensible; False if one was no query."""
    replies = bytearray()
    understood = True
    for message in messages:
        reply = respond(message)
        if reply is None:
            understood = False
            break
        replies += dns_frame(reply)
        if len(replies) >= TCP_WRITE_BYTES:
            await send_all(writer, replies)
            await asyncio.sleep(0)
            replies = bytearray()
    if replies:
        await send_all(writer, replies)
    return understood
