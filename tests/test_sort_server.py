"""The sort server: one list in, the sorted list out, and an error for everything else."""

import socket
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

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
    served_over_tcp,
    service_with,
)
from tests.streams import OneByteAtATime, read_all
from trio_services.eager_io import RECEIVE_BYTES
from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import ErrorCode, SortError
from trio_services.settings import MIB
from trio_services.sort_server import (
    TRAILING_BYTES,
)
from trio_services.status.recent import Recent


async def test_one_list_in_the_sorted_list_out_and_close() -> None:
    """The protocol of the original, counted."""
    service = service_with()
    assert await ask(service, framed(LIST)) == SORTED
    assert service.statistics.lists == 1
    assert service.statistics.bytes == len(LIST)
    assert not service.statistics.errors


@pytest.mark.parametrize("sent", [b"", sort_prefix(5) + b"[2", framed(LIST)])
async def test_a_connection_that_somebody_cancels(sent: bytes) -> None:
    """Its client is told so, however far it was, and nothing of it is left."""
    workers = FakeWorkers(inline=False)
    workers.add_lane(SlowLane())
    service = service_with(workers)
    service.recent = Recent()
    async with connected(service) as (client, connections):
        if sent:
            await client.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        [task] = [
            id(task)
            for nursery in trio.lowlevel.current_task().child_nurseries
            for task in nursery.child_tasks
        ]
        assert connections.cancel(task, "somebody wanted it")
        reply = await read_all(client)
        assert code_of(reply) == ErrorCode.BUSY
        assert b"somebody wanted it" in reply
    assert service.bytes_in_flight == 0
    assert workers.statistics().running == 0


async def test_what_went_wrong_is_kept() -> None:
    """An error of a list, and a job whose client left, are told with the reason."""
    workers = FakeWorkers(inline=False)
    lane = SlowLane()
    workers.add_lane(lane)
    service = service_with(workers)
    service.recent = Recent()
    assert code_of(await ask(service, sort_prefix(2**40))) == ErrorCode.TOO_LARGE
    async with connected(service) as (client, _):
        await client.send_all(framed(LIST))
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
    gone, error = service.recent.all()
    assert (error.kind, error.who, error.why) == ("error", "sort connection", "too-large")
    assert (gone.who, gone.by, gone.why) == ("sort job", "its client", "the client left")
    assert lane.cancelled_at is not None


async def test_durations_are_of_lists_that_were_sorted() -> None:
    """Each sorted list is timed, and no other."""
    service = service_with()
    for request in (framed(LIST), framed(LIST), framed(b"nonsense"), b""):
        await ask(service, request, eof=True)
    assert sum(service.statistics.durations.counts) == 2
    assert service.statistics.durations.total > 0


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


@pytest.mark.parametrize("trailing", [1, TRAILING_BYTES - 1])
async def test_trailing_data_while_sorting(
    trailing: int, autojump_clock: trio.testing.MockClock
) -> None:
    """What a client sends beyond its list does not end its job."""
    workers = FakeWorkers(inline=False)
    workers.add_lane(SlowLane(3))
    async with connected(service_with(workers)) as (client, _):
        await client.send_all(framed(LIST))
        await trio.sleep(1)
        await client.send_all(b"x" * trailing)
        assert await read_all(client) == SORTED


async def test_a_client_that_never_stops_is_no_longer_watched(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Beyond some trailing data nothing is read any more, so that the end is not seen either."""
    workers = FakeWorkers(inline=False)
    workers.add_lane(SlowLane(3))
    request = framed(LIST) + b"x" * RECEIVE_BYTES + b"x" * TRAILING_BYTES
    assert await ask(service_with(workers), request, eof=True) == SORTED


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
