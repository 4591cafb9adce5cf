"""Eager sockets keep the promises of Trio's streams, and a few of their own."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
import trio
import trio.testing

from trio_services import eager_io
from trio_services.eager_io import (
    ACCEPT_BATCH,
    ACCEPT_PAUSE,
    EAGER_BUDGET,
    EagerSocketStream,
    accept_batches,
)

MEGABYTE = 1024 * 1024


async def stream_pair() -> tuple[EagerSocketStream, EagerSocketStream]:
    """Return two streams that are connected to each other."""
    left, right = socket.socketpair()
    return EagerSocketStream(left), EagerSocketStream(right)


async def clogged_pair() -> tuple[EagerSocketStream, EagerSocketStream]:
    """Return two streams that the kernel takes nothing more from, in either direction."""
    pair = await stream_pair()
    for stream in pair:
        with suppress(BlockingIOError):
            while True:
                stream.socket.send(b"x" * MEGABYTE)
    return pair


async def test_it_is_a_stream_by_trios_own_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio's test suite for streams passes, when every operation passes the scheduler."""
    monkeypatch.setattr(eager_io, "EAGER_BUDGET", 1)
    await trio.testing.check_half_closeable_stream(stream_pair, clogged_pair)


class Sibling:
    """A task that is always ready to run; `turns` says how often it did."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self.turns += 1
            await trio.lowlevel.checkpoint()


async def test_an_operation_that_need_not_wait_passes_no_scheduler() -> None:
    """What the kernel can do at once lets nobody else run in between."""
    left, right = await stream_pair()
    sibling = Sibling()
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(sibling.run)
        await left.send_all(b"request")
        assert await right.receive_some() == b"request"
        await left.send_eof()
        assert await right.receive_some() == b""
        assert sibling.turns == 0
        nursery.cancel_scope.cancel()


async def test_cancellation_is_level_triggered() -> None:
    """A cancelled task gets past no operation, also where it would not have to wait."""
    left, right = await stream_pair()
    async with left, right:
        await right.send_all(b"here already")
        for operation in (
            left.receive_some,
            lambda: left.send_all(b"x"),
            left.wait_send_all_might_not_block,
            left.send_eof,
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await operation()
            assert scope.cancelled_caught
        assert await left.receive_some() == b"here already"
        await left.send_all(b"y")
        assert await right.receive_some() == b"y"


async def test_siblings_run_while_a_peer_always_has_data() -> None:
    """After its budget of operations in a row a task lets the others run."""
    left, right = await stream_pair()
    sibling = Sibling()
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(sibling.run)
        left.socket.send(b"x" * EAGER_BUDGET * 10)
        for _ in range(EAGER_BUDGET * 10):
            assert await right.receive_some(1) == b"x"
        assert sibling.turns >= 9
        nursery.cancel_scope.cancel()


async def test_parking_renews_the_budget() -> None:
    """Who has just waited has let the others run, and begins a new count."""
    left, right = await stream_pair()
    sibling = Sibling()
    async with left, right, trio.open_nursery() as nursery:
        for _ in range(EAGER_BUDGET - 2):
            await right.send_all(b"x")
        nursery.start_soon(right.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await left.send_all(b"wake up")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(sibling.run)
        for _ in range(EAGER_BUDGET - 1):
            await right.send_all(b"x")
        assert sibling.turns == 0
        nursery.cancel_scope.cancel()


async def test_send_all_of_more_than_the_buffer() -> None:
    """A megabyte arrives whole and in order through a buffer that holds a fraction of it."""
    data = os.urandom(MEGABYTE)
    left, right = await stream_pair()
    received = bytearray()

    async def receive() -> None:
        async with right:
            while piece := await right.receive_some(50_000):
                received.extend(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        async with left:
            await left.send_all(memoryview(data))
    assert received == data


async def test_a_cancelled_send_stops_between_bytes() -> None:
    """What was sent before is a beginning of the data; nothing comes later."""
    data = os.urandom(MEGABYTE)
    left, right = await stream_pair()
    async with right:
        async with left, trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, data)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        received = b""
        while piece := await right.receive_some():
            received += piece
    assert 0 < len(received) < MEGABYTE
    assert data.startswith(received)


async def test_close_wakes_a_parked_receiver() -> None:
    """A task that waits for bytes on a stream that is closed under it is told so."""
    left, right = await stream_pair()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive_some()

    async with right, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        left.close()
        left.close()


async def test_close_wakes_a_parked_sender() -> None:
    """A task that waits for room in the buffer of a stream that is closed under it is told so."""
    left, right = await clogged_pair()

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.send_all(b"x")

    async with right, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        left.close()


async def test_a_reset_is_a_broken_stream() -> None:
    """A connection that the peer reset is broken for both directions, not closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server = EagerSocketStream(listener.accept()[0])
    async with server:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"x")


async def test_two_readers_are_one_too_many() -> None:
    """A second task that waits for the same direction is refused instead of starving the first."""
    left, right = await stream_pair()
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(left.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await left.receive_some()
        nursery.cancel_scope.cancel()


class FlakyListener(socket.socket):
    """A listening socket whose `accept` fails in the ways that were put into `failures`."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, tuple[object, ...]]:
        """Fail if a failure is due, else accept."""
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def listener() -> Iterator[FlakyListener]:
    """A listening, non-blocking socket on loopback that works until told otherwise."""
    with FlakyListener() as sock:
        sock.failures = []
        sock.bind(("127.0.0.1", 0))
        sock.listen(6 * ACCEPT_BATCH)
        sock.setblocking(False)
        yield sock


class Admitted:
    """Counts and closes what is accepted, and cancels `scope` when `expected` have come."""

    def __init__(self, expected: int) -> None:
        self.scope = trio.CancelScope()
        self.times: list[float] = []
        self._expected = expected

    def admit(self, sock: socket.socket, peer: tuple[object, ...]) -> None:
        """Take one connection."""
        assert peer[0] == "127.0.0.1"
        sock.close()
        self.times.append(trio.current_time())
        if len(self.times) == self._expected:
            self.scope.cancel()


def connect(listener: socket.socket, count: int = 1) -> list[socket.socket]:
    """Return `count` connections, which wait in the kernel to be accepted."""
    return [socket.create_connection(listener.getsockname()) for _ in range(count)]


async def test_accepts_what_is_there(listener: FlakyListener) -> None:
    """All connections that wait are admitted, in batches between which siblings run."""
    clients = connect(listener, 5 * ACCEPT_BATCH + 3)
    admitted = Admitted(len(clients))
    seen: list[int] = []

    async def sibling() -> None:
        while True:
            seen.append(len(admitted.times))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sibling)
        with admitted.scope:
            await accept_batches(listener, admitted.admit)
        nursery.cancel_scope.cancel()
    for client in clients:
        client.close()
    assert len(admitted.times) == len(clients)
    # Trio shuffles who runs first, so two batches may pass between two turns.
    assert all(b - a <= 2 * ACCEPT_BATCH for a, b in pairwise([*seen, len(clients)]))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_out_of_files_pauses_and_goes_on(
    listener: FlakyListener, number: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Without files or memory the loop waits a moment each time, and loses no connection."""
    listener.failures = [number, number]
    [client] = connect(listener)
    admitted = Admitted(1)
    with admitted.scope:
        await accept_batches(listener, admitted.admit)
    client.close()
    assert admitted.times == [pytest.approx(2 * ACCEPT_PAUSE)]


async def test_a_connection_that_is_gone_is_skipped(listener: FlakyListener) -> None:
    """What was aborted before it was accepted costs the others nothing."""
    listener.failures = [errno.ECONNABORTED, errno.EPROTO]
    [client] = connect(listener)
    admitted = Admitted(1)
    with admitted.scope:
        await accept_batches(listener, admitted.admit)
    client.close()
    assert len(admitted.times) == 1


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK])
async def test_a_broken_listener_raises(listener: FlakyListener, number: int) -> None:
    """A listener that can accept nothing any more is a bug, and loud."""
    listener.failures = [number]
    [client] = connect(listener)
    with client, pytest.raises(OSError, match=os.strerror(number)):
        await accept_batches(listener, Admitted(1).admit)
