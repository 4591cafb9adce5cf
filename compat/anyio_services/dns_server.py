"""The DNS server: datagrams one by one, and messages over TCP.

Over UDP there is one task for each socket, and none for a query. It receives, answers by `respond`,
which is synchronous and pure, and sends. AnyIO's `UDPSocket` gives one datagram at a time, and
passes the scheduler in receiving and in sending it, which costs more than the answer. On asyncio it
also reads ahead of us, up to 100 datagrams, and drops the oldest: under a flood queries are lost
there that would have waited in the kernel's buffer.

A reply leaves from the address that the query was sent to (RFC 2181 section 4). A socket bound to
one address does that by itself; one bound to all addresses needs to be told by the kernel, with
every datagram, which address it was sent to (`IP_PKTINFO`). `UDPSocket` has no word for that, so
there we wait until the raw socket is readable and take batches from it: the way of `trio_services`,
which AnyIO allows as well. It takes a third of the CPU time of `UDPSocket` on Trio and uvloop and a
sixth on asyncio; the other sockets go without, because this file is to show the library's own way.

Over TCP (RFC 7766) a connection is a task. Whatever one read completes is answered in order, in
one write. All that a peer can use up is bounded: connections, time to send a message, time to read
a reply, and the bytes of one read.
"""

import errno
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import SocketListener, TaskStatus, UDPSocket

from anyio_services.connections import Connections, Stream, accept_all
from trio_services.listeners import IP_PKTINFO, is_wildcard
from trio_services.sans_io.dns_describe import describe
from trio_services.sans_io.length_prefix import DnsFrames, dns_frame
from trio_services.settings import DnsSettings

Respond = Callable[[bytes], bytes | None]

UDP_BATCH = 64
"""Datagrams between two checkpoints: about 0.4 ms, so siblings are never kept longer."""

MAX_QUERY_BYTES = 4096
"""A query has one name, at most 255 bytes, and options; longer datagrams are cut and then
refused."""

TCP_READ_BYTES = 1024
"""About 30 queries, answered in one write before other tasks run."""

TCP_WRITE_BYTES = 65536
"""Replies to one read that are held together before they are written: a client that asks a hundred
times for the largest record set there is and does not read must not cost 6 MiB. Other tasks run
after each of these writes."""

logger = logging.getLogger("anyio_services.dns")


@dataclass(slots=True)
class UdpStatistics:
    """Counts of one UDP socket since the start; written by its task, read by anybody."""

    batches: int = 0
    unsent: int = 0
    """Replies that the kernel refused: an unreachable or impossible peer. On asyncio, AnyIO does
    not tell, except for sockets bound to all addresses."""


async def serve_dns_udp(
    sock: socket.socket,
    respond: Respond,
    *,
    statistics: UdpStatistics | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the queries that arrive on `sock`, for ever.

    Args:
        sock: A UDP socket that `listeners` has bound. It is AnyIO's from now on, and closed.
        respond: Takes a packet, returns the reply or None for silence; must not raise or block.
        statistics: Where to count.

    Error handling: an error in sending one reply is counted and forgotten, since the peer decides
    whether there is one. An error of the socket itself is raised.

    Cancellation: between datagrams; one that was received may go unanswered.
    """
    counts = statistics if statistics is not None else UdpStatistics()
    if is_wildcard(sock):
        task_status.started()
        while True:
            await anyio.wait_readable(sock)
            counts.batches += 1
            _drain_pktinfo(sock, respond, counts)
    async with await UDPSocket.from_socket(sock) as udp:
        task_status.started()
        while True:
            try:
                packet, peer = await udp.receive()
            except anyio.BrokenResourceError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                _raise_unless_from_peer(error.__cause__)
                continue
            counts.batches += 1
            reply = respond(packet[:MAX_QUERY_BYTES])
            if reply is not None:
                try:
                    await udp.send((reply, peer))
                except anyio.BrokenResourceError:
                    counts.unsent += 1


def _drain_pktinfo(sock: socket.socket, respond: Respond, counts: UdpStatistics) -> None:
    """Answer up to a batch of datagrams, each from the address that was asked."""
    for _ in range(UDP_BATCH):
        try:
            packet, ancillary, _, peer = sock.recvmsg(MAX_QUERY_BYTES, 64)
        except BlockingIOError:
            return
        except OSError as error:
            _raise_unless_from_peer(error)
            continue
        reply = respond(packet)
        if reply is not None:
            try:
                sock.sendmsg((reply,), _source(ancillary), 0, peer)
            except OSError:
                counts.unsent += 1


def _source(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Turn the control messages of a query into those that send its reply from where it went.

    `struct in_pktinfo` is interface, local address, header's destination address: what came as
    destination goes back as local address. `struct in6_pktinfo` serves both ways as it is. The
    interface is left to routing except for link-local addresses, which mean nothing without it.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return [(level, kind, struct.pack("=I4s4s", 0, data[8:12], bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            if data[:2] != b"\xfe\x80":
                data = data[:16] + bytes(4)
            return [(level, kind, data)]
    return []


def _raise_unless_from_peer(error: OSError) -> None:
    """Ignore errors that an earlier reply brought back (ICMP); raise those of the socket itself."""
    if error.errno in (errno.EBADF, errno.ENOTSOCK, errno.EINVAL):
        raise error


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
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Accept DNS connections for ever and run each as a task of `connections`.

    Args:
        listener: A listening socket, non-blocking. It is not closed here.
        connections: Made with a handler that calls `handle_dns_stream`.

    Cancellation: ends the accepting; connections are the other nursery's.
    """
    accepting = await SocketListener.from_socket(listener)
    task_status.started()
    await accept_all(accepting, connections.admit)


async def handle_dns_stream(
    stream: Stream, connections: Connections, respond: Respond, settings: DnsSettings
) -> None:
    """Answer the messages of one DNS connection until either side ends it.

    Ends when the client closes its sending side and everything asked before is answered, when a
    deadline passes, when a message is no query at all (`respond` returns None), or when the service
    drains and no message has begun.

    Raises:
        anyio.BrokenResourceError: The client vanished.
    """
    frames = DnsFrames()
    with connections.patience() as patience:
        while True:
            if not frames.pending:
                patience.wait_for_request(settings.tcp_idle)
            try:
                data = await stream.receive(TCP_READ_BYTES)
            except anyio.EndOfStream:
                return
            if not frames.pending:
                patience.allow(settings.tcp_message_deadline)
            if messages := frames.feed(data):
                patience.allow(settings.tcp_write_deadline)
                # Siblings get their turn in here and above: each send and receive passes the
                # scheduler, also when it need not wait.
                if not await _answer_all(stream, messages, respond):
                    return
                patience.allow(settings.tcp_message_deadline)


async def _answer_all(stream: Stream, messages: list[bytes], respond: Respond) -> bool:
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
            await stream.send(bytes(replies))
            replies = bytearray()
    if replies:
        await stream.send(bytes(replies))
    return understood
