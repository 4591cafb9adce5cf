"""The sort server: every limit, every deadline, and nothing held afterwards."""

import json
import math
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.streams import CancelAtStep, MemoryStream, OneByteAtATime, read_all
from trio_services import sort_server
from trio_services.connections import Connections, Stream
from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.settings import MIB, ConnectionLimits, SortSettings
from trio_services.sort_server import (
    LINGER,
    TRAILING_BYTES,
    SortService,
    handle_sort_stream,
    serve_sort,
)
from trio_services.workers import Lane, Workers

LIST = b"[3,1,2]"
SORTED = b"[1,2,3]"
MANY = ConnectionLimits(total=1000, per_address=1000)


class FakeWorkers(Workers):
    """Workers without processes: inline, or with the lanes that a test adds."""

    def __init__(
        self, *, inline: bool = True, job_deadline: float = 30.0, max_waiting: int = 1000
    ) -> None:
        super().__init__(
            algorithm=Algorithm.TIMSORT,
            inline_max=math.inf if inline else 0,
            job_deadline=job_deadline,
            max_waiting=max_waiting,
        )

    def add_lane(self, lane: Lane) -> None:
        """Let `lane` take requests."""
        self._lanes += 1
        self._put_back(lane)


class SlowLane:
    """A lane that has its result after `seconds`."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.usable = True
        self.cancelled_at: float | None = None
        self._seconds = seconds

    async def sort(self, payload: Payload) -> bytes:
        """Take long."""
        try:
            await trio.sleep(self._seconds)
        except trio.Cancelled:
            self.cancelled_at = trio.current_time()
            raise
        return SORTED


def service_with(workers: Workers | None = None, **settings: object) -> SortService:
    """Return a service with these settings and workers, by default inline ones."""
    return SortService(
        settings=SortSettings(**settings),  # type: ignore[arg-type]
        workers=workers or FakeWorkers(),
    )


def framed(payload: bytes) -> bytes:
    """Return a whole request."""
    return sort_prefix(len(payload)) + payload


def code_of(reply: bytes) -> str:
    """Return the code of an error reply, which has the form that the protocol wants."""
    [(key, error)] = json.loads(reply).items()
    assert key == "error"
    assert sorted(error) == ["code", "message"]
    assert error["message"]
    return str(error["code"])


def connections_for(service: SortService, nursery: trio.Nursery) -> Connections:
    """Return the connections of `service`, which run in `nursery`."""
    return Connections("sort", nursery, MANY, partial(handle_sort_stream, service=service))


@asynccontextmanager
async def connected(service: SortService) -> AsyncIterator[tuple[MemoryStream, Connections]]:
    """Yield the client's end of a connection that is being served, and its connections."""
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        connections = connections_for(service, nursery)
        nursery.start_soon(serve_one, server, connections, service)
        yield client, connections
        nursery.cancel_scope.cancel()


async def serve_one(stream: Stream, connections: Connections, service: SortService) -> None:
    """Serve one stream and close it, as `Connections` does."""
    try:
        await handle_sort_stream(stream, connections, service)
    finally:
        await trio.aclose_forcefully(stream)


async def ask(service: SortService, request: bytes, *, eof: bool = False) -> bytes:
    """Send `request` and return the whole reply."""
    async with connected(service) as (client, _):
        await client.send_all(request)
        if eof:
            await client.send_eof()
        reply = await read_all(client)
    assert service.bytes_in_flight == 0
    return reply


async def test_one_list_in_the_sorted_list_out_and_close() -> None:
    """The protocol of the original, counted."""
    service = service_with()
    assert await ask(service, framed(LIST)) == SORTED
    assert service.statistics.lists == 1
    assert service.statistics.bytes == len(LIST)
    assert not service.statistics.errors


async def test_byte_by_byte() -> None:
    """The pieces in which a request arrives make no difference."""
    service = service_with()
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        connections = connections_for(service, nursery)
        nursery.start_soon(serve_one, OneByteAtATime(server), connections, service)
        await client.send_all(framed(LIST))
        assert await read_all(client) == SORTED


@pytest.mark.parametrize("cut", range(1, len(framed(LIST))))
async def test_in_two_pieces(cut: int) -> None:
    """A request may be cut anywhere, also within its length."""
    async with connected(service_with()) as (client, _):
        await client.send_all(framed(LIST)[:cut])
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(framed(LIST)[cut:])
        assert await read_all(client) == SORTED


async def test_trailing_data_is_ignored() -> None:
    """What follows the list changes nothing, as in the original."""
    assert await ask(service_with(), framed(LIST) + b"[9]") == SORTED


async def test_half_close_after_a_short_list() -> None:
    """A client that closes its sending side at once still gets a list that is sorted inline."""
    assert await ask(service_with(), framed(LIST), eof=True) == SORTED


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (sort_prefix(1001), "too-large"),
        (sort_prefix(2**64 - 1), "too-large"),
        (framed(b""), "not-json"),
        (framed(b"[1,2"), "not-json"),
        (framed(b"\xff\x00"), "not-json"),
        (framed(b"{}"), "not-sortable"),
        (framed(b'[1,"a"]'), "not-sortable"),
        (b"\0", "not-json"),
        (sort_prefix(10)[:7], "not-json"),
        (sort_prefix(10), "not-json"),
        (sort_prefix(10) + b"[1,2]", "not-json"),
    ],
)
async def test_bad_input_is_answered(request_bytes: bytes, code: str) -> None:
    """What is wrong is said in the protocol's form, never with silence; and counted."""
    service = service_with(max_payload=1000)
    assert code_of(await ask(service, request_bytes, eof=True)) == code
    assert service.statistics.errors == {ErrorCode(code): 1}
    assert service.statistics.lists == 0


async def test_a_client_that_sends_nothing_and_leaves() -> None:
    """No request is no error."""
    service = service_with()
    assert await ask(service, b"", eof=True) == b""
    assert service.statistics.gone == 1
    assert not service.statistics.errors


async def test_the_largest_list_is_taken() -> None:
    """The limit of a payload is inclusive."""
    payload = b"[" + b" " * 997 + b"1]"
    assert await ask(service_with(max_payload=1000), framed(payload)) == b"[1]"


@given(st.binary(max_size=40) | st.binary(max_size=40).map(framed))
def test_any_bytes_get_a_list_or_an_error(request_bytes: bytes) -> None:
    """Garbage is answered with an error, or nothing if there was nothing; nothing raises."""
    reply = trio.run(
        partial(ask, service_with(), request_bytes, eof=True),
        clock=trio.testing.MockClock(autojump_threshold=0),
    )
    if not request_bytes:
        assert reply == b""
    elif not reply.startswith(b"["):
        assert code_of(reply) in set(ErrorCode)


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
        assert code_of(bytes(await client.receive_some())) == "timeout"
        assert trio.current_time() == 60
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


@pytest.mark.parametrize("eof_is_enough", [True, False])
async def test_client_gone_while_sorting_cancels_the_job(
    eof_is_enough: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody's job runs on: the end of the client's stream ends the job at that moment."""
    workers = FakeWorkers(inline=False)
    lane = SlowLane()
    workers.add_lane(lane)
    service = service_with(workers)
    async with connected(service) as (client, _):
        await client.send_all(framed(LIST))
        await trio.sleep(2)
        if eof_is_enough:
            await client.send_eof()
            assert await read_all(client) == b""
        else:
            await trio.aclose_forcefully(client)
            await trio.testing.wait_all_tasks_blocked()
        assert lane.cancelled_at == 2
    assert service.statistics.gone == 1
    assert service.statistics.lists == 0


async def test_allow_half_close(autojump_clock: trio.testing.MockClock) -> None:
    """With the setting, a client that closed its sending side gets its reply."""
    workers = FakeWorkers(inline=False)
    workers.add_lane(SlowLane(3))
    assert await ask(service_with(workers, allow_half_close=True), framed(LIST), eof=True) == SORTED
    assert trio.current_time() == 3


async def test_a_reset_is_gone_even_with_half_close() -> None:
    """A connection that was reset is not given the benefit of the doubt."""
    workers = FakeWorkers(inline=False)
    lane = SlowLane()
    workers.add_lane(lane)
    service = service_with(workers, allow_half_close=True)
    async with served_over_tcp(service) as (listener, connections):
        client = socket.create_connection(listener.getsockname())
        client.sendall(framed(LIST))
        while not workers.statistics().running:
            await trio.lowlevel.checkpoint()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        while connections.statistics().open:
            await trio.lowlevel.checkpoint()
    assert lane.cancelled_at is not None
    assert service.statistics.gone == 1


@pytest.mark.parametrize("trailing", [1, TRAILING_BYTES - 1, 2 * TRAILING_BYTES])
async def test_trailing_data_while_sorting(
    trailing: int, autojump_clock: trio.testing.MockClock
) -> None:
    """What a client sends beyond its list does not end its job, and is not collected."""
    workers = FakeWorkers(inline=False)
    workers.add_lane(SlowLane(3))
    async with connected(service_with(workers)) as (client, _):
        await client.send_all(framed(LIST))
        await trio.sleep(1)
        await client.send_all(b"x" * trailing)
        assert await read_all(client) == SORTED


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


@asynccontextmanager
async def served_over_tcp(service: SortService) -> AsyncIterator[tuple[socket.socket, Connections]]:
    """Run the service on loopback; yield the listening socket and its connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(30):
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            connections = connections_for(service, nursery)
            await nursery.start(serve_sort, listener, connections)
            yield listener, connections
            nursery.cancel_scope.cancel()
    assert service.bytes_in_flight == 0


async def test_many_clients_over_tcp() -> None:
    """Clients do not get each other's lists."""
    service = service_with()

    async def client(listener: socket.socket, number: int) -> None:
        for _ in range(5):
            async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
                await stream.send_all(framed(b"[%d,%d]" % (number, -number)))
                assert await read_all(stream) == b"[%d,%d]" % (-number, number)

    async with served_over_tcp(service) as (listener, _):
        async with trio.open_nursery() as nursery:
            for number in range(1, 17):
                nursery.start_soon(client, listener, number)
    assert service.statistics.lists == 80


async def test_an_error_arrives_although_bytes_are_unread() -> None:
    """A client that sends megabytes beyond the limit can send all of them, and reads why not."""
    async with served_over_tcp(service_with(max_payload=1000)) as (listener, _):
        async with await trio.open_tcp_stream(*listener.getsockname()) as client:
            await client.send_all(sort_prefix(8 * MIB))
            await client.send_all(b" " * 8 * MIB)  # would raise if the server had closed
            await client.send_eof()
            assert code_of(await read_all(client)) == "too-large"


async def test_an_error_is_followed_by_the_end_of_the_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A client that reads until the end need not close first to see it."""
    async with connected(service_with(max_payload=1000)) as (client, _):
        await client.send_all(sort_prefix(1001))
        assert code_of(await read_all(client)) == "too-large"
        assert trio.current_time() == 0


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


async def test_a_bug_in_the_workers_reaches_the_containment() -> None:
    """What is no SortError is not turned into one; the connection's bytes are given back."""

    class BrokenWorkers(FakeWorkers):
        def sort_nowait(self, payload: Payload) -> bytes:
            raise ZeroDivisionError

    service = service_with(BrokenWorkers())
    async with served_over_tcp(service) as (listener, connections):
        async with await trio.open_tcp_stream(*listener.getsockname()) as client:
            await client.send_all(framed(LIST))
            assert await read_all(client) == b""
        assert connections.statistics().crashed == 1


async def test_worker_failed_is_told() -> None:
    """The error of one job is that client's reply."""

    class FailingLane(SlowLane):
        async def sort(self, payload: Payload) -> bytes:
            await trio.lowlevel.checkpoint()
            raise SortError(ErrorCode.WORKER_FAILED, "killed")

    workers = FakeWorkers(inline=False)
    workers.add_lane(FailingLane())
    assert code_of(await ask(service_with(workers), framed(LIST))) == "worker-failed"


async def test_requests_are_logged_if_wanted(caplog: pytest.LogCaptureFixture) -> None:
    """With `log_requests` each list is a line; without, none."""
    caplog.set_level("INFO")
    service = service_with(max_payload=1000)
    await ask(service, framed(LIST))
    assert not caplog.messages
    service.log_requests = True
    await ask(service, framed(LIST))
    await ask(service, framed(b"{}"))
    await ask(service, b"", eof=True)
    await ask(service, sort_prefix(1001), eof=True)
    assert caplog.messages == [
        "7 bytes: sorted",
        "2 bytes: not-sortable",
        "0 bytes: gone",
        "0 bytes: too-large",
    ]


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
