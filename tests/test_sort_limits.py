"""The sort server's limits and deadlines, and that nothing is held afterwards."""

import tracemalloc
from contextlib import suppress

import pytest
import trio
import trio.testing

from tests.sort_sessions import (
    LIST,
    SORTED,
    FakeWorkers,
    SlowLane,
    ask,
    code_of,
    connected,
    connections_for,
    framed,
    serve_one,
    service_with,
)
from tests.streams import CancelAtStep, MemoryStream, read_all
from trio_services import sort_server
from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import ErrorCode
from trio_services.settings import MIB
from trio_services.sort_server import (
    LINGER,
    handle_sort_stream,
)


async def test_idle_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A client that never begins is told so at the deadline, and let go at once."""
    service = service_with(idle_deadline=10.0)
    async with connected(service) as (client, connections):
        await trio.testing.wait_all_tasks_blocked()
        assert connections.statistics().idle == 1
        assert code_of(await read_all(client)) == "timeout"
        assert trio.current_time() == 10
    assert service.statistics.errors == {ErrorCode.TIMEOUT: 1}


@pytest.mark.parametrize("begin", [b"\0", framed(LIST)[:-1]])
async def test_read_deadline_holds_for_the_whole_list(
    begin: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    """Trickling gains nothing: from the first byte to the last there is one deadline."""
    service = service_with(read_deadline=60.0)
    async with connected(service) as (client, connections):
        for at in range(len(begin)):
            await client.send_all(begin[at : at + 1])
            await trio.testing.wait_all_tasks_blocked()
            assert connections.statistics().idle == 0
            await trio.sleep(60 / len(begin) - 1)
        assert code_of(await read_all(client)) == "timeout"
        assert trio.current_time() == 60
        await client.send_all(b"more")  # would raise if the server had closed at once
    assert service.statistics.errors == {ErrorCode.TIMEOUT: 1}


async def test_write_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A client that does not read its reply is given up."""
    service = service_with(write_deadline=7.0)
    client, server = trio.testing.memory_stream_pair()
    server.send_stream.send_all_hook = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        connections = connections_for(service, nursery)
        await client.send_all(framed(LIST))
        await handle_sort_stream(server, connections, service)
    assert trio.current_time() == 7
    assert service.statistics.lists == 0
    assert service.bytes_in_flight == 0


async def test_write_deadline_of_an_error(autojump_clock: trio.testing.MockClock) -> None:
    """A client that is too slow in both directions is given up too."""
    service = service_with(read_deadline=3.0, write_deadline=7.0)
    client, server = trio.testing.memory_stream_pair()
    server.send_stream.send_all_hook = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        connections = connections_for(service, nursery)
        await client.send_all(b"\0")
        nursery.start_soon(serve_one, server, connections, service)
        await trio.sleep(3 + 7 + LINGER)
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_job_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A job that takes too long is ended, and its client told."""
    workers = FakeWorkers(inline=False, job_deadline=30.0)
    lane = SlowLane()
    workers.add_lane(lane)
    async with connected(service_with(workers)) as (client, _):
        await client.send_all(framed(LIST))
        assert code_of(bytes(await client.receive_some())) == "timeout"
        assert trio.current_time() == 30
        assert lane.cancelled_at == 30


async def test_busy_when_too_many_wait() -> None:
    """A list for which there is no place in the queue is refused at once."""
    service = service_with(FakeWorkers(inline=False, max_waiting=1))
    async with connected(service) as (waiting, _):
        await waiting.send_all(framed(LIST))
        await trio.testing.wait_all_tasks_blocked()
        async with connected(service) as (refused, _):
            await refused.send_all(framed(LIST))
            assert code_of(bytes(await refused.receive_some())) == "busy"


async def test_busy_when_no_worker_is_free_in_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A list does not wait for a worker for ever."""
    service = service_with(FakeWorkers(inline=False, job_deadline=30.0))
    async with connected(service) as (client, _):
        await client.send_all(framed(LIST))
        assert code_of(bytes(await client.receive_some())) == "busy"
        assert trio.current_time() == 30


async def test_busy_when_too_many_bytes_are_in_flight() -> None:
    """Who sends too much is refused; those before are served, and give their bytes back."""
    service = service_with(max_bytes=100)
    async with connected(service) as (first, _), connected(service) as (second, _):
        await first.send_all(sort_prefix(90) + b"[" + b" " * 79)
        await trio.testing.wait_all_tasks_blocked()
        assert service.bytes_in_flight == 80
        await second.send_all(sort_prefix(90) + b"[" + b" " * 20)
        assert code_of(bytes(await second.receive_some())) == "busy"
        assert service.bytes_in_flight == 80
        await first.send_all(b" " * 9 + b"]")
        assert await read_all(first) == b"[]"
    assert service.bytes_in_flight == 0
    assert await ask(service, framed(LIST)) == SORTED


async def test_announced_and_not_sent_costs_nothing() -> None:
    """A hundred clients that announce 64 MiB each and send a byte take no memory for it."""
    service = service_with()
    clients: list[MemoryStream] = []
    async with trio.open_nursery() as nursery:
        connections = connections_for(service, nursery)
        tracemalloc.start()
        for _ in range(100):
            client, server = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_one, server, connections, service)
            await client.send_all(sort_prefix(64 * MIB) + b"[")
            clients.append(client)
        await trio.testing.wait_all_tasks_blocked()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert service.bytes_in_flight == 100
        assert peak < 4 * MIB
        nursery.cancel_scope.cancel()
    assert service.bytes_in_flight == 0


async def test_no_descriptors_left_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that there is no file for is refused like one for which there is no memory."""

    class HomelessPayload(Payload):
        def append(self, data: bytes) -> None:
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(sort_server, "Payload", HomelessPayload)
    assert code_of(await ask(service_with(), framed(LIST), eof=True)) == "busy"


async def test_drain_lets_go_of_who_has_not_begun() -> None:
    """A client that has sent nothing when the server stops is closed without an error."""
    service = service_with()
    async with connected(service) as (client, connections):
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        assert await read_all(client) == b""
    assert not service.statistics.errors


async def test_drain_waits_for_who_has_begun() -> None:
    """A list of which a byte has arrived is served although the server stops."""
    async with connected(service_with()) as (client, connections):
        await client.send_all(framed(LIST)[:1])
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        await client.send_all(framed(LIST)[1:])
        assert await read_all(client) == SORTED


async def test_lingering_ends(autojump_clock: trio.testing.MockClock) -> None:
    """A client that never stops sending is let go of after a while."""
    service = service_with(max_payload=1000)
    async with connected(service) as (client, _):
        await client.send_all(sort_prefix(1001))
        with suppress(trio.BrokenResourceError):
            while True:
                await client.send_all(b"x")
                await trio.sleep(0.5)
        assert trio.current_time() == pytest.approx(LINGER, abs=0.5)


class TrackedPayload(Payload):
    """A payload that can be found again."""

    made: list["TrackedPayload"]

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.made.append(self)


@pytest.mark.parametrize("inline", [True, False])
async def test_nothing_is_held_after_cancellation_anywhere(
    inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever checkpoint a connection is cancelled at, its bytes and its file are given back."""
    monkeypatch.setattr(sort_server, "Payload", TrackedPayload)
    monkeypatch.setattr(TrackedPayload, "made", [], raising=False)
    payload = b"[3,1,2%s]" % (b" " * SHARE_ABOVE)
    steps = 0
    completed = False
    while not completed:
        steps += 1
        workers = FakeWorkers(inline=inline)
        workers.add_lane(SlowLane(0))
        service = service_with(workers)
        instrument = CancelAtStep(steps)
        client, server = trio.testing.memory_stream_pair()
        await client.send_all(framed(payload)[:-1])
        trio.lowlevel.add_instrument(instrument)
        with instrument.scope:
            async with trio.open_nursery() as nursery:
                connections = connections_for(service, nursery)
                nursery.start_soon(serve_one, server, connections, service)
                await trio.testing.wait_all_tasks_blocked()
                await client.send_all(b"]")
                assert await read_all(client) == SORTED
                completed = True
        trio.lowlevel.remove_instrument(instrument)
        assert service.bytes_in_flight == 0
        assert connections.statistics().idle == 0
        for each in TrackedPayload.made:
            assert each.fileno() is None
            assert len(each.view(0)) == 0
    assert steps > 5
    assert len(TrackedPayload.made) > 2
