"""HTTP/1.1 on one connection, over memory streams and a mock clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.status.http_client import Client
from trio_services.connections import Connections, Stream
from trio_services.settings import ConnectionLimits
from trio_services.status.http_server import (
    HEAD_DEADLINE,
    IDLE_DEADLINE,
    MAX_HEAD_BYTES,
    WRITE_DEADLINE,
    Application,
    handle_http_stream,
)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Answer with the method, the path and the body."""
    body = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} ".encode()
    while (message := await receive())["more_body"]:
        body += message["body"]
    await respond(send, body)


async def respond(send: Send, body: bytes) -> None:
    """Send a whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def forever(scope: Any, receive: Receive, send: Send) -> None:
    """Never answer."""
    await trio.sleep_forever()


async def endless(scope: Any, receive: Receive, send: Send) -> None:
    """Never stop to answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})


@asynccontextmanager
async def served(
    app: Application, make_pair: Callable[[], tuple[Any, Any]] = trio.testing.memory_stream_pair
) -> AsyncIterator[tuple[Client, trio.Event]]:
    """Serve one connection; yield its client, and an event for its end."""
    ours, theirs = make_pair()
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        limits = ConnectionLimits(total=1, per_address=1)
        handler = partial(handle_http_stream, app=app, server=("127.0.0.1", 1))
        connections = Connections("status", nursery, limits, handler)

        async def serve(stream: Stream) -> None:
            await handler(stream, connections)
            await stream.aclose()
            ended.set()

        nursery.start_soon(serve, theirs)
        yield Client(ours), ended
        nursery.cancel_scope.cancel()


async def test_requests_of_one_connection() -> None:
    """A connection serves one request after the other, with and without a body."""
    async with served(echo) as (client, _):
        assert (await client.ask("/a%20b?c=d")).body == b"GET /a b?c=d "
        assert (await client.ask("/post", body=b"12345")).body == b"POST /post? 12345"
        assert (await client.ask("/", body=b"")).body == b"POST /? "


async def test_pipelining() -> None:
    """Requests that come at once are answered in order."""
    async with served(echo) as (client, _):
        await client.stream.send_all(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        received = b"".join([bytes(data) async for data in client.stream])
        assert [part for part in received.split() if part.startswith(b"/")] == [
            b"/1?",
            b"/2?",
            b"/3?",
        ]


async def test_head() -> None:
    """HEAD has the headers of GET and no body."""
    async with served(echo) as (client, _):
        answer = await client.ask("/", method="HEAD")
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "8", b"")
        assert (await client.ask("/")).body == b"GET /? "


async def test_body_that_waits_to_be_asked_for() -> None:
    """A client that expects 100 Continue gets it when the body is wanted."""
    async with served(echo) as (client, _):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        await client.stream.send_all(head)
        assert bytes(await client.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await client.stream.send_all(b"ok")
        assert bytes(await client.stream.receive_some()).endswith(b"POST /? ok")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\n12345\r\n0\r\n\r\n",
            b"400",
        ),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES * 2, b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
)
async def test_no_request(autojump_clock: object, request_: bytes, status: bytes) -> None:
    """What is no request is told so, and the connection ends."""
    async with served(echo) as (client, ended):
        await client.stream.send_all(request_)
        received = b"".join([bytes(data) async for data in client.stream])
        assert received.startswith(b"HTTP/1.1 " + status)
        await client.stream.aclose()
        await ended.wait()


@pytest.mark.parametrize(
    ("sent", "deadline"), [(b"", IDLE_DEADLINE), (b"GET / HTTP/1.1\r\nHo", HEAD_DEADLINE)]
)
async def test_patience(
    autojump_clock: trio.testing.MockClock, sent: bytes, deadline: float
) -> None:
    """A client that sends nothing, or its headers too slowly, is hung up on."""
    async with served(echo) as (client, ended):
        if sent:
            await client.stream.send_all(sent)
        await ended.wait()
        assert trio.current_time() == pytest.approx(deadline)


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    """Whatever the application waits for, it is cancelled when nobody is there any more."""
    async with served(forever) as (client, ended):
        await client.begin("/")
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        await client.stream.aclose()
        await ended.wait()


async def test_a_client_that_leaves_within_its_body() -> None:
    """The application does not get half of a body for a whole one; it is cancelled."""
    reached = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            reached.append("a piece")
        reached.append("the end")

    async with served(app) as (client, ended):
        await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.aclose()
        await ended.wait()
        assert reached == ["a piece"]


async def test_a_client_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    """It is dropped when it has not taken what was sent for WRITE_DEADLINE."""
    async with served(endless, trio.testing.lockstep_stream_pair) as (client, ended):
        await client.begin("/")
        await client.stream.receive_some(10)
        await ended.wait()
        assert trio.current_time() == pytest.approx(WRITE_DEADLINE)


async def test_cancellation_does_not_wait_for_who_does_not_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The server ends at once, also within a write."""
    async with served(endless, trio.testing.lockstep_stream_pair) as (client, _):
        await client.begin("/")
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() < WRITE_DEADLINE


async def test_an_application_that_fails() -> None:
    """Its error is that of the connection, not wrapped in a group."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    ours, theirs = trio.testing.memory_stream_pair()
    client = Client(ours)
    await client.begin("/")
    async with trio.open_nursery() as nursery:
        limits = ConnectionLimits(total=1, per_address=1)
        connections = Connections("status", nursery, limits, forever_handler)
        with pytest.raises(ZeroDivisionError):
            await handle_http_stream(theirs, connections, app, ("127.0.0.1", 1))


async def forever_handler(stream: Stream, connections: Connections) -> None:
    """Stand in for a handler that is not used."""


async def test_a_body_that_nobody_reads(autojump_clock: object) -> None:
    """It is answered all the same, and the connection ends: what follows might be the body."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, b"no")

    async with served(app) as (client, ended):
        await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
        assert bytes(await client.stream.receive_some()).endswith(b"no")
        assert await client.stream.receive_some() == b""
        await client.stream.aclose()
        await ended.wait()


async def test_chunks() -> None:
    """A body in pieces of unknown length comes whole, and goes in pieces if none is told."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["more_body"]:
            body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": body})

    async with served(app) as (client, _):
        await client.stream.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += bytes(await client.stream.receive_some())
        assert b"abcde" in received
        assert received.count(b"abcde") == 2
