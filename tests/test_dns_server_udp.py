"""DNS over UDP: batches, silence, floods, and the right source address."""

import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from tests.dns_sockets import bound, shout
from trio_services.dns_server import (
    MAX_QUERY_BYTES,
    TIMED_BATCHES,
    UDP_BATCH,
    Respond,
    UdpStatistics,
    serve_dns_udp,
)
from trio_services.settings import Address


@asynccontextmanager
async def serving_udp(
    respond: Respond = shout, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[socket.socket, UdpStatistics]]:
    """Serve on loopback; yield the server's socket and its counts."""
    statistics = UdpStatistics()
    with bound(Address(host, 0)) as sockets, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            sock = sockets.udp[0]

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_dns_udp(sock, respond, statistics=statistics, task_status=task_status)

            await nursery.start(serve)
            yield sock, statistics
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def udp_client(
    server: socket.socket, host: str | None = None
) -> AsyncIterator[trio.socket.SocketType]:
    """Yield a socket that is connected to `server`, so that it hears nobody else."""
    with trio.socket.socket(server.family, socket.SOCK_DGRAM) as client:
        name = server.getsockname()
        await client.connect((host or name[0], name[1]))
        yield client


async def test_udp_a_burst_is_answered_whole() -> None:
    """More datagrams than a batch holds are all answered, in order, in few batches."""
    async with serving_udp() as (server, statistics), udp_client(server) as client:
        for number in range(UDP_BATCH + 6):
            await client.send(b"query %d" % number)
        for number in range(UDP_BATCH + 6):
            assert await client.recv(100) == b"QUERY %d" % number
    assert statistics.batches < UDP_BATCH
    assert statistics.unsent == 0


async def test_udp_some_batches_are_timed() -> None:
    """The first is, and one in TIMED_BATCHES of those that follow."""
    async with serving_udp() as (server, statistics), udp_client(server) as client:
        for _ in range(2 * TIMED_BATCHES + 1):
            await client.send(b"query")
            await client.recv(100)
            timed = -(-statistics.batches // TIMED_BATCHES)
            assert sum(statistics.durations.counts) == timed
    assert statistics.batches == 2 * TIMED_BATCHES + 1


async def test_udp_silence_is_possible() -> None:
    """A datagram without a reply, also an empty one, does not disturb the next."""
    async with serving_udp() as (server, _), udp_client(server) as client:
        for packet in (b"", b"garbage", b"query"):
            await client.send(packet)
        assert await client.recv(100) == b"QUERY"


async def test_udp_a_huge_datagram_is_cut() -> None:
    """A datagram beyond any query is read in part, and its rest is gone with it."""
    async with serving_udp() as (server, _), udp_client(server) as client:
        await client.send(b"x" * 60_000)
        assert await client.recv(65_535) == b"X" * MAX_QUERY_BYTES
        await client.send(b"query")
        assert await client.recv(100) == b"QUERY"


async def test_udp_a_reply_that_cannot_be_sent_is_counted() -> None:
    """The kernel's refusal to send one reply costs only that reply."""

    def too_long(packet: bytes) -> bytes:
        return b"x" * 70_000 if packet == b"long" else packet

    async with serving_udp(too_long) as (server, statistics), udp_client(server) as client:
        await client.send(b"long")
        await client.send(b"query")
        assert await client.recv(100) == b"query"
    assert statistics.unsent == 1


async def test_udp_a_client_that_is_gone_is_not_our_error() -> None:
    """A reply to a closed port brings an ICMP error back, which stops nothing."""
    async with serving_udp() as (server, _), udp_client(server) as client:
        async with udp_client(server) as leaving:
            for _ in range(UDP_BATCH):
                await leaving.send(b"query")
        await client.send(b"query")
        assert await client.recv(100) == b"QUERY"


async def test_udp_a_broken_socket_raises() -> None:
    """A socket that can receive nothing any more is a bug, and loud."""
    with bound(Address("127.0.0.1", 0)) as sockets:
        sock = sockets.udp[0]
        with pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_dns_udp, sock, shout)
                await trio.testing.wait_all_tasks_blocked()
                trio.lowlevel.notify_closing(sock)
                sock.close()


class FlakySocket(socket.socket):
    """A socket whose receiving fails as often as `failures` says, and how."""

    failures: list[int]

    def fail_if_due(self) -> None:
        """Raise the next failure, if there is one left."""
        if self.failures:
            number = self.failures.pop()
            raise OSError(number, os.strerror(number))

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Any]:
        """Fail or receive."""
        self.fail_if_due()
        return super().recvfrom(size, flags)

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0) -> tuple[bytes, Any, int, Any]:
        """Fail or receive."""
        self.fail_if_due()
        return super().recvmsg(size, ancillary, flags)


@contextmanager
def flaky(host: str, *failures: int) -> Iterator[FlakySocket]:
    """Bind a socket that fails to receive a few times before it works."""
    with bound(Address(host, 0)) as sockets:
        with FlakySocket(fileno=os.dup(sockets.udp[0].fileno())) as sock:
            sock.failures = list(failures)
            yield sock


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_udp_an_error_that_a_peer_brought_about_stops_nothing(host: str) -> None:
    """What an earlier reply brought back, such as a port unreachable, is passed over."""
    with flaky(host, errno.ECONNREFUSED, errno.EHOSTUNREACH) as sock, trio.fail_after(30):
        async with trio.open_nursery() as nursery, udp_client(sock, "127.0.0.1") as client:
            await nursery.start(serve_dns_udp, sock, shout)
            await client.send(b"query")
            assert await client.recv(100) == b"QUERY"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_udp_a_socket_that_does_not_work_raises(host: str) -> None:
    """An error of the socket itself is not passed over for ever."""
    with flaky(host, errno.ENOTSOCK) as sock, trio.fail_after(30):
        async with udp_client(sock, "127.0.0.1") as client:
            await client.send(b"query")
            with pytest.raises(OSError, match=os.strerror(errno.ENOTSOCK)):
                await serve_dns_udp(sock, shout)


async def test_udp_cancellation_leaves_the_socket_open() -> None:
    """The service ends between batches, and the next one takes what has come meanwhile."""
    with bound(Address("127.0.0.1", 0)) as sockets, trio.fail_after(30):
        sock = sockets.udp[0]
        async with udp_client(sock) as client:
            for name in (b"one", b"two"):
                await client.send(name)
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve_dns_udp, sock, shout)
                    assert await client.recv(100) == name.upper()
                    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_udp_siblings_run_during_a_flood(host: str) -> None:
    """A queue that never gets empty is served a batch at a time, and others have their turns."""
    answered = 0

    def flood(packet: bytes) -> None:
        nonlocal answered
        answered += 1
        if answered < 100 * UDP_BATCH:  # else a service that never stops would hang the test
            flooder.send(packet)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
        async with serving_udp(flood, host) as (server, _):
            flooder.connect(("127.0.0.1", server.getsockname()[1]))
            for _ in range(2 * UDP_BATCH):
                flooder.send(b"query")
            seen: list[int] = []
            while answered < 20 * UDP_BATCH:
                seen.append(answered)
                await trio.lowlevel.checkpoint()
    # Trio shuffles who runs first, so two batches may pass between two turns.
    assert all(later - sooner <= 2 * UDP_BATCH for sooner, later in pairwise([*seen, answered]))


async def test_wildcard_replies_from_the_address_that_was_asked() -> None:
    """A socket on all IPv4 addresses answers from the one that was asked (RFC 2181 section 4)."""
    async with serving_udp(host="0.0.0.0") as (server, _):
        for host in ("127.0.0.1", "127.0.0.2"):
            async with udp_client(server, host) as client:
                await client.send(b"query")
                assert await client.recv(100) == b"QUERY"


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
@pytest.mark.parametrize("host", ["::", "::1"])
async def test_ipv6(host: str) -> None:
    """IPv6 works, on one address and on all of them."""
    async with serving_udp(host=host) as (server, statistics):
        async with udp_client(server, "::1") as client:
            await client.send(b"query")
            assert await client.recv(100) == b"QUERY"
    assert statistics.unsent == 0


async def test_wildcard_survives_what_the_others_do() -> None:
    """Silence, cut datagrams and replies that cannot be sent, on a socket on all addresses."""

    def odd(packet: bytes) -> bytes | None:
        return b"x" * 70_000 if packet == b"too long" else shout(packet)

    async with serving_udp(odd, host="0.0.0.0") as (server, statistics):
        async with udp_client(server, "127.0.0.1") as client:
            for packet in (b"", b"garbage", b"too long", b"x" * 60_000):
                await client.send(packet)
            assert await client.recv(65_535) == b"X" * MAX_QUERY_BYTES
    assert statistics.unsent == 1
