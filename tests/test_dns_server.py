"""DNS over TCP: what arrives is answered, and nobody can stop or fill it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import dns.message
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.dns_sockets import bound, shout
from tests.streams import MemoryStream, OneByteAtATime, read_all
from trio_services.connections import Connections, Stream
from trio_services.dns_server import (
    TCP_WRITE_BYTES,
    Respond,
    handle_dns_stream,
    log_requests,
    serve_dns_tcp,
)
from trio_services.sans_io.length_prefix import dns_frame
from trio_services.settings import Address, ConnectionLimits, DnsSettings

SETTINGS = DnsSettings(tcp_idle=10.0, tcp_message_deadline=5.0, tcp_write_deadline=7.0)
MANY = ConnectionLimits(total=100, per_address=100)


def frames(*messages: bytes) -> bytes:
    """Return `messages` as they go over TCP."""
    return b"".join(map(dns_frame, messages))


async def serve_one(stream: Stream, connections: Connections, respond: Respond) -> None:
    """Serve one stream and close it, as `Connections` does."""
    try:
        await handle_dns_stream(stream, connections, respond, SETTINGS)
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def connected(
    respond: Respond = shout, wrap: Callable[[Stream], Stream] = lambda stream: stream
) -> AsyncIterator[tuple[MemoryStream, MemoryStream, Connections]]:
    """Yield both ends of a connection that is being served, the client's first."""

    async def unused(stream: Stream, connections: Connections) -> None:
        raise AssertionError("nothing is admitted here")

    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        connections = Connections("dns tcp", nursery, MANY, unused)
        nursery.start_soon(serve_one, wrap(server), connections, respond)
        yield client, server, connections
        nursery.cancel_scope.cancel()


async def test_tcp_many_messages_on_one_connection() -> None:
    """A connection stays open for the next query."""
    async with connected() as (client, _, _):
        for message in (b"one", b"two"):
            await client.send_all(frames(message))
            assert await client.receive_some() == frames(message.upper())


async def test_tcp_byte_by_byte() -> None:
    """The pieces in which queries arrive make no difference."""
    async with connected(wrap=OneByteAtATime) as (client, _, _):
        await client.send_all(frames(b"one", b"two"))
        await client.send_eof()
        assert await read_all(client) == frames(b"ONE", b"TWO")


async def test_tcp_pipelined_queries_are_answered_in_order_in_one_write() -> None:
    """What arrives together is answered together (RFC 7766 sections 6.2.1 and 8)."""
    async with connected() as (client, _, _):
        await client.send_all(frames(b"one", b"two", b"three") + b"\0")
        assert await client.receive_some() == frames(b"ONE", b"TWO", b"THREE")
        await client.send_all(b"\4four")
        assert await client.receive_some() == frames(b"FOUR")


async def test_tcp_replies_are_not_collected_without_bound() -> None:
    """A hundred queries for 60 KB are written as they come, not held until the last."""
    async with connected() as (client, server, _):
        writes: list[bytes] = []

        async def take() -> None:
            writes.append(bytes(server.send_stream.get_data_nowait()))
            await trio.lowlevel.checkpoint()

        server.send_stream.send_all_hook = take
        await client.send_all(frames(*[b"long"] * 100))
        await client.send_eof()
        assert await read_all(client) == b""
    assert b"".join(writes) == frames(b"L" * 60_000) * 100
    assert max(map(len, writes)) < TCP_WRITE_BYTES + 60_002


async def test_tcp_half_close() -> None:
    """A client that closes its sending side gets what it asked for before (RFC 7766)."""
    async with connected() as (client, _, _):
        await client.send_all(frames(b"one", b"two"))
        await client.send_eof()
        assert await read_all(client) == frames(b"ONE", b"TWO")


@pytest.mark.parametrize("garbage", [b"", b"garbage"])
async def test_tcp_garbage_closes(garbage: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """A message that is no query ends the connection, after the replies to those before it."""
    async with connected() as (client, _, _):
        await client.send_all(frames(b"one", garbage, b"two"))
        assert await read_all(client) == frames(b"ONE")
        assert trio.current_time() == 0


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_tcp_any_bytes(pieces: list[bytes]) -> None:
    """Whatever is sent, in whatever pieces, is answered or ends the connection; nothing raises."""

    async def main() -> None:
        async with connected() as (client, _, _):
            with suppress(trio.BrokenResourceError):  # the server has closed before we were done
                for piece in pieces:
                    await client.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked()
                await client.send_eof()
            await read_all(client)

    trio.run(main)


async def test_tcp_idle_timeout_begins_anew_with_each_reply(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection without a query is closed, 10 s after the last reply."""
    async with connected() as (client, _, connections):
        await trio.sleep(8)
        assert connections.statistics().idle == 1
        await client.send_all(frames(b"one"))
        assert await client.receive_some() == frames(b"ONE")
        assert await client.receive_some() == b""
        assert trio.current_time() == 18


async def test_tcp_trickling_gains_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A message has its deadline from the first byte to the last, however busy the line is."""
    async with connected() as (client, _, connections):
        await trio.sleep(3)
        for byte in b"\0\x40" + b"x" * 3:
            await client.send_all(bytes([byte]))
            await trio.sleep(0.9)
            assert connections.statistics().idle == 0
        assert await client.receive_some() == b""
        assert trio.current_time() == 3 + 5


async def test_tcp_a_message_that_begins_behind_another_has_its_own_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The deadline of the next message does not begin before the reply to this one."""
    async with connected() as (client, _, _):
        await client.send_all(b"\0")
        await trio.sleep(4)
        await client.send_all(b"\3one\0")
        assert await client.receive_some() == frames(b"ONE")
        await trio.sleep(4)
        await client.send_all(b"\3two\0")
        assert await client.receive_some() == frames(b"TWO")
        assert await client.receive_some() == b""
        assert trio.current_time() == 4 + 4 + 5


async def test_tcp_write_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A client that asks and does not read is given up."""
    async with connected() as (client, server, _):

        async def stall() -> None:
            server.send_stream.get_data_nowait()
            await trio.sleep_forever()

        server.send_stream.send_all_hook = stall
        await client.send_all(frames(b"one"))
        assert await read_all(client) == b""
        assert trio.current_time() == 7


async def test_tcp_drain() -> None:
    """An idle connection is closed; one with a message begun gets its reply first."""
    async with connected() as (idle, _, connections), connected() as (busy, _, others):
        await busy.send_all(frames(b"one")[:3])
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        others.drain()
        assert await read_all(idle) == b""
        await busy.send_all(frames(b"one")[3:])
        assert await read_all(busy) == frames(b"ONE")


async def test_tcp_over_loopback() -> None:
    """The same over real sockets, to several clients at once."""

    async def handler(stream: Stream, connections: Connections) -> None:
        await handle_dns_stream(stream, connections, shout, SETTINGS)

    async def client(address: tuple[str, int], name: bytes) -> None:
        async with await trio.open_tcp_stream(*address) as stream:
            for _ in range(3):
                await stream.send_all(frames(name))
                assert await stream.receive_some() == frames(name.upper())

    with bound(Address("127.0.0.1", 0)) as sockets, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            connections = Connections("dns tcp", nursery, MANY, handler)
            await nursery.start(serve_dns_tcp, sockets.dns[0], connections)
            async with trio.open_nursery() as clients:
                for name in (b"a", b"b", b"c"):
                    clients.start_soon(client, sockets.dns[0].getsockname(), name)
            nursery.cancel_scope.cancel()
        assert connections.statistics().accepted == 3


def test_requests_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each packet is one line: transport, question, result and size."""
    caplog.set_level("INFO")
    query = dns.message.make_query("alpha.example.", "AAAA")
    reply = dns.message.make_response(query).to_wire()
    respond = log_requests(lambda packet: reply if len(packet) > 12 else None, "udp")
    assert respond(query.to_wire()) == reply
    assert respond(b"x") is None
    assert caplog.messages == [
        f"udp alpha.example. AAAA: NOERROR, {len(reply)} bytes",
        "udp 1 bytes without a question: no reply",
    ]


@given(st.binary(max_size=80), st.booleans())
def test_logging_survives_any_packet(packet: bytes, answered: bool) -> None:
    """Whatever a peer sends can be described in one line; the log never stops the service."""
    reply = packet[:2] + b"\x80\x05" + bytes(8) if answered else None
    assert log_requests(lambda packet: reply, "udp")(packet) == reply
