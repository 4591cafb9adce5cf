"""The sort client against servers that behave well, badly, and worse."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing

from trio_services.sans_io.length_prefix import SORT_PREFIX_BYTES, parse_sort_prefix
from trio_services.settings import Address
from trio_services.sort_client import SortFailedError, from_lines, sort_list, to_lines

FakeServer = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(serve: FakeServer) -> AsyncIterator[Address]:
    """Run a fake server on loopback; yield its address."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            yield Address(*listener.socket.getsockname())
            nursery.cancel_scope.cancel()


async def read_request(stream: trio.SocketStream) -> bytes:
    """Return the payload of one request."""
    data = b""
    while len(data) < SORT_PREFIX_BYTES:
        data += await stream.receive_some()
    size = parse_sort_prefix(data[:SORT_PREFIX_BYTES])
    while len(data) < SORT_PREFIX_BYTES + size:
        data += await stream.receive_some()
    return data[SORT_PREFIX_BYTES:]


def replying(*pieces: bytes) -> FakeServer:
    """Return a server that reads the request and sends `pieces`, whatever it was."""

    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        for piece in pieces:
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()

    return serve


async def test_the_list_arrives_and_its_reply_is_returned() -> None:
    """The payload goes out under its length, and what comes back is returned as it is."""
    requests = []

    async def serve(stream: trio.SocketStream) -> None:
        requests.append(await read_request(stream))
        await stream.send_all(b"[1,")
        await stream.send_all(b"2]")

    async with serving(serve) as address:
        assert await sort_list(b"[2, 1]", address) == b"[1,2]"
    assert requests == [b"[2, 1]"]


async def test_progress_is_reported_in_both_phases() -> None:
    """A large list is seen to go and to come, to the last byte."""
    reports: list[tuple[str, int, int]] = []
    payload = b"[" + b"1," * 500_000 + b"1]"
    async with serving(replying(payload)) as address:
        reply = await sort_list(payload, address, progress=lambda *report: reports.append(report))
    assert reply == payload
    assert {total for _, _, total in reports} == {len(payload)}
    for phase in ("sending", "receiving"):
        done = [done for name, done, _ in reports if name == phase]
        assert done == sorted(done)
        assert done[-1] == len(payload)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b'{"error": {"code": "busy", "message": "later"}}', "busy: later"),
        (b'["a]', "the server's reply was cut off"),
        (b"", "the server hung up without a reply"),
        (b"[1,2", "the server's reply is neither a list nor an error"),
        (b'["a","b', "the server's reply is neither a list nor an error"),
        (b'{"error": {"code": "bu', "the server's reply is neither a list nor an error"),
        (b'{"error": 5}', "the server's reply is neither a list nor an error"),
        (b"HTTP/1.1 400 Bad Request", "the server's reply is neither a list nor an error"),
        (b"\xff", "the server's reply is neither a list nor an error"),
        (b"[" * 100_000, "the server's reply is neither a list nor an error"),
        (b'{"error": {"code": "a\\nb", "message": "\\u001b[2J"}}', "a b: [2J"),
    ],
)
async def test_what_is_no_list_is_one_line(reply: bytes, message: str) -> None:
    """An error of the server, a reply that was cut off, and nonsense are told in one line."""
    async with serving(replying(reply)) as address:
        with pytest.raises(SortFailedError) as caught:
            await sort_list(b"[2,1]", address)
    assert str(caught.value) == message


async def test_a_reply_that_never_ends() -> None:
    """No more is kept of a reply than the sorted list can be long."""

    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"[1" + b"0" * 65536)

    async with serving(serve) as address:
        with pytest.raises(SortFailedError, match="longer than the sorted list can be"):
            await sort_list(b"[1]", address)


async def test_an_error_that_comes_while_we_still_send() -> None:
    """A server that refuses a list before it has read it is heard."""

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(8)
        await stream.send_all(b'{"error": {"code": "too-large", "message": "no"}}')
        await stream.send_eof()
        await trio.sleep_forever()  # and never reads, so that the client cannot finish sending

    async with serving(refuse) as address:
        with pytest.raises(SortFailedError, match="too-large: no"):
            await sort_list(b" " * 20_000_000, address)


async def test_a_server_that_resets_the_connection() -> None:
    """A connection that breaks before the reply is a server that hung up."""

    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with serving(reset) as address:
        with pytest.raises(SortFailedError, match="hung up without a reply"):
            await sort_list(b"[2,1]", address)


async def test_a_server_that_is_not_there() -> None:
    """An address that nobody listens on is named."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    with pytest.raises(SortFailedError, match=f"cannot connect to {address}"):
        await sort_list(b"[2,1]", address)


@pytest.mark.parametrize(
    ("lines", "array"),
    [
        (b"", b"[]"),
        (b"3\n1\n2", b"[3,1,2]"),
        (b"3\r\n\r\n1\r\n", b"[3,1]"),
        (b" 3 \n\n", b"[3]"),
    ],
)
def test_from_lines(lines: bytes, array: bytes) -> None:
    """Numbers, one a line; blank lines are none."""
    assert from_lines(lines) == array


@pytest.mark.parametrize(
    ("array", "lines"),
    [
        (b"[]", b""),
        (b"[1]", b"1\n"),
        (b"[1,2.5,1e400]", b"1\n2.5\n1e400\n"),
        (b" [1, 2]\n", b"1\n2\n"),
    ],
)
def test_to_lines(array: bytes, lines: bytes) -> None:
    """Each number on a line of its own, as the server spelled it."""
    assert to_lines(array) == lines
