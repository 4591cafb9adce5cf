"""The DNS server: datagrams in batches, and messages over TCP.

Over UDP there is one task for each socket, and none for a query. It waits until the socket is
readable, then takes datagrams until the kernel has no more or the batch is full; each is answered
by `respond`, which is synchronous and pure. So the cost of waking up is shared by all datagrams of
a batch, and a query costs two system calls and little more. The end of a batch is a checkpoint:
siblings run, and cancellation arrives there.

A reply leaves from the address that the query was sent to (RFC 2181 section 4). A socket bound to
one address does that by itself; one bound to all addresses needs to be told by the kernel, with
every datagram, which address it was sent to (`IP_PKTINFO`), which costs about 1.3 µs more.

Over TCP (RFC 7766) a connection is a task. Whatever one read completes is answered in order, in
one write. All that a peer can use up is bounded: connections, time to send a message, time to read
a reply, and the bytes of one read.
"""

import errno
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import trio

from trio_services.connections import Connections, Stream
from trio_services.eager_io import accept_batches
from trio_services.listeners import IP_PKTINFO, is_wildcard
from trio_services.sans_io.dns_describe import describe
from trio_services.sans_io.histogram import Histogram
from trio_services.sans_io.length_prefix import DnsFrames, dns_frame
from trio_services.settings import DnsSettings

Respond = Callable[[bytes], bytes | None]

UDP_BATCH = 64
"""Datagrams between two checkpoints: about 0.4 ms, so siblings are never kept longer. Twice as
many made a query no cheaper (5.6 µs against 5.5)."""

TIMED_BATCHES = 8
"""One batch in so many is timed, beginning with the first. That takes 0.6 µs, as much as a tenth of
a query, and a batch may be a single one."""

MAX_QUERY_BYTES = 4096
"""A query has one name, at most 255 bytes, and options; longer datagrams are cut and then
refused."""

TCP_READ_BYTES = 1024
"""About 30 queries, answered in one write before other tasks run. With four times as much, and
eight reads in a row, 180 clients that pipelined without pause kept the loop for half a second."""

TCP_WRITE_BYTES = 65536
"""Replies to one read that are held together before they are written: a client that asks a hundred
times for the largest record set there is and does not read must not cost 6 MiB. Other tasks run
after each of these writes."""

logger = logging.getLogger("trio_services.dns")


@dataclass(slots=True)
class UdpStatistics:
    """Counts of one UDP socket since the start; written by its task, read by anybody."""

    batches: int = 0
    unsent: int = 0
    """Replies that the kernel refused: a full buffer, an unreachable or impossible peer."""
    durations: Histogram = field(default_factory=Histogram)
    """From a batch's first datagram being read to its last reply being sent, of some batches."""


async def serve_dns_udp(
    sock: socket.socket,
    respond: Respond,
    *,
    statistics: UdpStatistics | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the queries that arrive on `sock`, for ever.

    Args:
        sock: A UDP socket that `listeners` has bound. It is not closed here.
        respond: Takes a packet, returns the reply or None for silence; must not raise or block.
        statistics: Where to count.

    Error handling: an error in sending one reply is counted and forgotten, since the peer decides
    whether there is one. An error of the socket itself is raised.

    Cancellation: between batches; each datagram that was received has been answered by then.
    """
    receive_and_send = _drain_pktinfo if is_wildcard(sock) else _drain
    counts = statistics if statistics is not None else UdpStatistics()
    task_status.started()
    while True:
        await trio.lowlevel.wait_readable(sock)
        timed = counts.batches % TIMED_BATCHES == 0
        counts.batches += 1
        began = perf_counter() if timed else 0.0
        receive_and_send(sock, respond, counts)
        if timed:
            counts.durations.add(perf_counter() - began)


def _drain(sock: socket.socket, respond: Respond, counts: UdpStatistics) -> None:
    """Answer up to a batch of datagrams. This loop is the cost of a query; it is kept bare."""
    receive, send = sock.recvfrom, sock.sendto
    for _ in range(UDP_BATCH):
        try:
            packet, peer = receive(MAX_QUERY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            _raise_unless_from_peer(error)
            continue
        reply = respond(packet)
        if reply is not None:
            try:
                send(reply, peer)
            except OSError:
                counts.unsent += 1


def _drain_pktinfo(sock: socket.socket, respond: Respond, counts: UdpStatistics) -> None:
    """As `_drain`, for a socket bound to all addresses: reply from the address that was asked."""
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
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept DNS connections for ever and run each as a task of `connections`.

    Args:
        listener: A listening socket, non-blocking. It is not closed here.
        connections: Made with a handler that calls `handle_dns_stream`.

    Cancellation: ends the accepting; connections are the other nursery's.
    """
    task_status.started()
    await accept_batches(listener, connections.admit)


async def handle_dns_stream(
    stream: Stream, connections: Connections, respond: Respond, settings: DnsSettings
) -> None:
    """Answer the messages of one DNS connection until either side ends it.

    Ends when the client closes its sending side and everything asked before is answered, when a
    deadline passes, when a message is no query at all (`respond` returns None), or when the service
    drains and no message has begun.

    Raises:
        trio.BrokenResourceError: The client vanished.
    """
    frames = DnsFrames()
    with connections.patience() as patience:
        while True:
            if not frames.pending:
                patience.wait_for_request(settings.tcp_idle)
            data = await stream.receive_some(TCP_READ_BYTES)
            if not data:
                return
            if not frames.pending:
                patience.allow(settings.tcp_message_deadline)
            if messages := frames.feed(bytes(data)):
                patience.allow(settings.tcp_write_deadline)
                if not await _answer_all(stream, messages, respond):
                    return
                if len(messages) > 1:
                    await trio.lowlevel.checkpoint()
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
            await stream.send_all(replies)
            await trio.lowlevel.checkpoint()
            replies = bytearray()
    if replies:
        await stream.send_all(replies)
    return understood
