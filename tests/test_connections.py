"""Connections: who may enter, who is contained, who must leave."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_services.connections import Connections, ConnectionStatistics, Handler, Stream
from trio_services.logs import REPORT_INTERVAL
from trio_services.settings import ConnectionLimits
from trio_services.status.recent import Recent

MANY = ConnectionLimits(total=100, per_address=100)
REFUSAL = b"too many"


@asynccontextmanager
async def serving(
    handler: Handler, limits: ConnectionLimits = MANY
) -> AsyncIterator[tuple[Connections, Callable[..., trio.SocketStream]]]:
    """Yield connections, and a function that adds one from an address and returns its client."""
    clients: list[trio.SocketStream] = []
    async with trio.open_nursery() as nursery:
        connections = Connections("test", nursery, limits, handler, refusal=REFUSAL)

        def enter(address: str = "192.0.2.1") -> trio.SocketStream:
            ours, theirs = socket.socketpair()
            connections.admit(ours, (address, 50_000))
            clients.append(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
            return clients[-1]

        try:
            yield connections, enter
        finally:
            nursery.cancel_scope.cancel()
            for client in clients:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(client)


async def echo(stream: Stream, connections: Connections) -> None:
    """Send back what comes until the client stops."""
    while data := await stream.receive_some():
        await stream.send_all(data)


async def read_all(client: trio.SocketStream) -> bytes:
    """Return what the server sends until it closes."""
    return b"".join([bytes(data) async for data in client])


async def test_a_connection_is_served_and_closed() -> None:
    """A handler gets a stream, which is closed when the handler returns."""
    async with serving(echo) as (connections, enter):
        client = enter()
        await client.send_all(b"hello")
        await client.send_eof()
        assert await read_all(client) == b"hello"
        await trio.testing.wait_all_tasks_blocked()
        assert connections.statistics() == ConnectionStatistics(
            open=0, idle=0, accepted=1, refused=0, lost=0, crashed=0
        )


async def test_refused_beyond_the_total() -> None:
    """Whoever comes when all places are taken reads the refusal, and costs nobody anything."""
    async with serving(echo, ConnectionLimits(total=2, per_address=2)) as (connections, enter):
        enter("192.0.2.1")
        leaving = enter("192.0.2.2")
        refused = enter("192.0.2.3")
        assert await read_all(refused) == REFUSAL
        statistics = connections.statistics()
        assert (statistics.open, statistics.accepted, statistics.refused) == (2, 2, 1)

        await leaving.send_eof()
        assert await read_all(leaving) == b""
        await trio.testing.wait_all_tasks_blocked()
        successor = enter("192.0.2.3")
        await successor.send_all(b"hello")
        assert await successor.receive_some() == b"hello"


async def test_refused_beyond_an_addresses_share() -> None:
    """One address cannot take the places of the others, and gets its own back."""
    async with serving(echo, ConnectionLimits(total=9, per_address=1)) as (connections, enter):
        first = enter("192.0.2.1")
        assert await read_all(enter("192.0.2.1")) == REFUSAL
        enter("192.0.2.2")
        assert connections.statistics().open == 2

        await first.send_eof()
        assert await read_all(first) == b""
        await trio.testing.wait_all_tasks_blocked()
        enter("192.0.2.1")
        assert connections.statistics().open == 2
        assert connections.statistics().refused == 1


async def test_a_refusal_arrives_although_bytes_are_unread() -> None:
    """A client that has sent its request before it was refused reads why, over TCP."""
    async with trio.open_nursery() as nursery:
        nobody = ConnectionLimits(total=0, per_address=0)
        connections = Connections("test", nursery, nobody, echo, refusal=REFUSAL)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with await trio.open_tcp_stream(*listener.getsockname()) as client:
                await client.send_all(b"request")
                connections.admit(*listener.accept())
                assert await read_all(client) == REFUSAL
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # no reset


async def test_a_crash_is_contained(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception ends its connection and is counted; siblings live, the log is not flooded."""

    async def crash_on_demand(stream: Stream, connections: Connections) -> None:
        while data := await stream.receive_some():
            if data == b"crash":
                raise ValueError("a bug")
            await stream.send_all(data)

    async with serving(crash_on_demand) as (connections, enter):
        survivor = enter()
        for _ in range(3):
            client = enter()
            await client.send_all(b"crash")
            assert await read_all(client) == b""
        await survivor.send_all(b"still here")
        assert await survivor.receive_some() == b"still here"
        statistics = connections.statistics()
        assert (statistics.open, statistics.crashed, statistics.lost) == (1, 3, 0)
        assert caplog.messages == ["unexpected error in test connection"]
        assert "ValueError: a bug" in caplog.text

        mock_clock.jump(REPORT_INTERVAL)
        client = enter()
        await client.send_all(b"crash")
        assert await read_all(client) == b""
        assert caplog.messages[1:] == [
            "unexpected error in test connection (2 more since the last report)"
        ]


async def test_a_crash_in_a_handlers_nursery_is_contained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception group is contained like an exception."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("a bug in a task")

    async def crash(stream: Stream, connections: Connections) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    async with serving(crash) as (connections, enter):
        assert await read_all(enter()) == b""
        await trio.testing.wait_all_tasks_blocked()
        assert connections.statistics().crashed == 1


@pytest.mark.parametrize("error", [trio.BrokenResourceError, ConnectionResetError])
async def test_a_client_that_vanishes_is_no_crash(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """A lost connection is counted, and is not worth a line in the log."""

    async def lose(stream: Stream, connections: Connections) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async with serving(lose) as (connections, enter):
        assert await read_all(enter()) == b""
        await trio.testing.wait_all_tasks_blocked()
        statistics = connections.statistics()
        assert (statistics.lost, statistics.crashed, statistics.open) == (1, 0, 0)
        assert not caplog.records


async def test_cancelling_the_nursery_closes_everything() -> None:
    """Cancellation passes through the containment, and leaves no connection open."""
    async with serving(echo) as (connections, enter):
        clients = [enter() for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        assert connections.statistics().open == 3
    assert connections.statistics() == ConnectionStatistics(
        open=0, idle=0, accepted=3, refused=0, lost=0, crashed=0
    )
    assert len(clients) == 3


async def patient(stream: Stream, connections: Connections) -> None:
    """Wait 10 s for each request and work 5 s on it; say what became of it."""
    with connections.patience() as patience:
        while True:
            patience.wait_for_request(10)
            data = await stream.receive_some()
            if not data:
                return
            patience.allow(5)
            if data == b"work":
                await trio.sleep(4)
                await stream.send_all(b"done")
            else:
                await trio.sleep_forever()
    assert patience.expired
    await stream.send_all(b"too late")


async def test_idle_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """Who asks for nothing is idle, and is sent away at the deadline, counted anew each time."""
    async with serving(patient) as (connections, enter):
        client = enter()
        await trio.testing.wait_all_tasks_blocked()
        assert connections.statistics().idle == 1
        await client.send_all(b"work")
        assert await client.receive_some() == b"done"
        assert trio.current_time() == 4
        assert await read_all(client) == b"too late"
        assert trio.current_time() == 14
        assert connections.statistics().idle == 0


async def test_step_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """Who asks for too much is busy, and is cut off when the step has had its time."""
    async with serving(patient) as (connections, enter):
        client = enter()
        await client.send_all(b"for ever")
        await trio.testing.wait_all_tasks_blocked()
        assert connections.statistics().idle == 0
        assert await read_all(client) == b"too late"
        assert trio.current_time() == 5


async def test_drain_closes_the_idle_and_leaves_the_busy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Idle connections end at once; a busy one gets its reply, and ends when it would be idle."""
    async with serving(patient) as (connections, enter):
        idle, busy = enter(), enter()
        await busy.send_all(b"work")
        await trio.testing.wait_all_tasks_blocked()
        assert not connections.draining
        connections.drain()
        assert connections.draining
        assert await read_all(idle) == b"too late"
        assert trio.current_time() == 0
        assert await read_all(busy) == b"donetoo late"
        assert trio.current_time() == 4
        assert connections.statistics().open == 0


async def test_drain_serves_a_request_that_was_there_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection whose request has arrived is busy, though its task has not run yet."""
    async with serving(patient) as (connections, enter):
        client = enter()
        await client.send_all(b"work")
        late = enter()
        connections.drain()
        assert await read_all(client) == b"donetoo late"
        assert await read_all(late) == b"too late"
        assert trio.current_time() == 4


async def test_a_handler_that_never_waits() -> None:
    """A handler that returns at once leaves nothing open either."""

    async def return_at_once(stream: Stream, connections: Connections) -> None:
        pass

    async with serving(return_at_once) as (connections, enter):
        assert await read_all(enter()) == b""
        assert connections.statistics().open == 0


async def test_a_connection_is_cancelled_by_its_task() -> None:
    """Just that one ends, its handler can tell why, and what happened is kept with who did it."""
    told: list[str] = []
    tasks: list[int] = []

    async def handler(stream: Stream, connections: Connections) -> None:
        tasks.append(id(trio.lowlevel.current_task()))
        with connections.patience() as patience:
            await trio.sleep_forever()
        assert patience.expired
        told.append(patience.cancelled)

    async with trio.open_nursery() as nursery:
        recent = Recent()
        connections = Connections("test", nursery, MANY, handler, recent=recent)
        ends = [socket.socketpair() for _ in range(2)]
        for ours, _ in ends:
            connections.admit(ours, ("192.0.2.1", 1))
        await trio.testing.wait_all_tasks_blocked()
        assert connections.cancel(tasks[0], "because") is True
        await trio.testing.wait_all_tasks_blocked()
        assert told == ["because"]
        assert connections.statistics().open == 1
        assert connections.cancel(tasks[0], "again") is False
        [occurrence] = recent.all()
        assert (occurrence.who, occurrence.why) == ("test connection", "because")
        nursery.cancel_scope.cancel(reason="the test is over")
        for _, theirs in ends:
            theirs.close()
    assert recent.all()[0].why == "the test is over"
    assert told == ["because"]


async def test_what_became_of_connections_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    """A deadline that passed and a bug are kept; a connection that ends by itself is not."""

    async def handler(stream: Stream, connections: Connections) -> None:
        with connections.patience() as patience:
            patience.allow(1)
            if (data := await stream.receive_some()) == b"bug":
                raise ZeroDivisionError("a bug")
            assert not data

    async with trio.open_nursery() as nursery:
        recent = Recent()
        connections = Connections("test", nursery, MANY, handler, recent=recent)
        for sent in (b"", b"bug", None):
            ours, theirs = socket.socketpair()
            with theirs:
                if sent:
                    theirs.send(sent)
                elif sent is not None:
                    theirs.shutdown(socket.SHUT_WR)
                connections.admit(ours, ("192.0.2.1", 1))
                await trio.sleep(2)
    late, bug = recent.all()
    assert (late.kind, late.by, late.why) == ("cancelled", "its deadline", "too slow")
    assert (bug.kind, bug.why) == ("error", "ZeroDivisionError")
