"""HTTP/1.1 on one connection: h11 between a Trio stream and an ASGI application.

Two ASGI servers run natively on Trio, hypercorn (0.18) and anycorn (0.20), and both were tried
first. Each runs in a nursery, needs no signals and notices when a client leaves. But a server that
shares its loop with others has to be bounded, and neither is:

- Both write inside of a shield without a deadline. With one client that asked and did not read,
  a cancelled nursery had not ended 8 seconds later, and did as soon as the client left.
- Both accept whoever comes: 300 connections that said nothing were all taken, in a process that
  needs its descriptors for DNS.
- Both switch to HTTP/2 when a client says so, in clear text too, with streams and windows that
  would have to be bounded as well, and bring packages for that, which nobody here asks for.

What speaks HTTP in both is h11. So it is used directly: connections are those of `Connections`,
with its limits, its patience and its containment, and every step has a deadline.

- *A client that leaves cancels its handler*, wherever that waits: the sort service's rule.
- *A client that does not read is dropped* after WRITE_DEADLINE, so nothing piles up for it.
- *Requests are answered in order*; a body that the application has not read ends the connection.

Left out: HTTP/2, WebSockets, TLS, lifespan, trailers.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import h11
import trio

from trio_services.connections import Connections, Patience, Stream

MAX_HEAD_BYTES = 16 * 1024
"""Of a request line and its headers: twice what browsers send with the fattest of cookies."""

VERSIONS = {b"1.0", b"1.1"}

LENGTHS = {b"content-length", b"transfer-encoding"}
"""Both in one request would have it longer than it says; RFC 9112 section 6.1 lets us refuse."""

RECEIVE_BYTES = 64 * 1024

IDLE_DEADLINE = 15.0
"""Seconds from one request to the next, and from the connection to the first: browsers open some
for later, and Prometheus comes by every 15 s, or connects anew."""

HEAD_DEADLINE = 5.0
"""Seconds from the first byte of a request to the end of its headers."""

WRITE_BYTES = 64 * 1024
WRITE_DEADLINE = 3.0
"""Seconds in which a client takes WRITE_BYTES: 22 KB/s are less than any network has."""

LINGER = 1.0
"""Seconds for which the unread body of a refused request is thrown away, so that the refusal is
not overtaken by a reset."""

REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n"
    b"Connection: close\r\n\r\ntoo many connections\n"
)

Message = MutableMapping[str, Any]
Application = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]


async def handle_http_stream(
    stream: Stream, connections: Connections, app: Application, server: tuple[str, int]
) -> None:
    """Serve the requests of one connection until either side ends it.

    Args:
        stream: Left open; whoever made it closes it.
        connections: Whose connection it is.
        app: An ASGI 3 application.
        server: Where we listen.

    Raises:
        trio.BrokenResourceError: The client vanished.
        Exception: What the application raised.
    """
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    with connections.patience() as patience:
        try:
            while (request := await _next_request(stream, http, patience)) is not None:
                patience.allow(math.inf)  # from here on, reading and writing have deadlines
                await _Exchange(stream, http, request, server).run(app)
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    break
                http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await _refuse(stream, http, error.error_status_hint)
        if http.their_state is h11.SEND_BODY:
            await _linger(stream)


async def _next_request(
    stream: Stream, http: h11.Connection, patience: Patience
) -> h11.Request | None:
    """Return the next request when its head is complete; None if the client has no more.

    Raises:
        h11.RemoteProtocolError: It is none.
    """
    began = bool(http.trailing_data[0])
    if began:
        patience.allow(HEAD_DEADLINE)
    else:
        patience.wait_for_request(IDLE_DEADLINE)
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
        if not began:
            began = True
            patience.allow(HEAD_DEADLINE)
    if not isinstance(event, h11.Request):
        return None
    if event.http_version not in VERSIONS:
        raise h11.RemoteProtocolError("another version of HTTP", error_status_hint=505)
    if {name for name, _ in event.headers} >= LENGTHS:
        raise h11.RemoteProtocolError("two lengths of one body")
    return event


class _Exchange:
    """One request and its response: the two callables that the application is given.

    Raises:
        h11.RemoteProtocolError: Its body is none.
    """

    def __init__(
        self,
        stream: Stream,
        http: h11.Connection,
        request: h11.Request,
        server: tuple[str, int],
    ) -> None:
        self._stream = stream
        self._http = http
        self._request = request
        self._server = server
        self._start: h11.Response | None = None
        self._ahead: Any = http.next_event()  # for a body that is empty or there already
        self._body_read = trio.Event()
        if isinstance(self._ahead, h11.EndOfMessage):
            self._body_read.set()
        self._scope = trio.CancelScope()

    async def run(self, app: Application) -> None:
        """Call `app`; cancel it when the client leaves. Raises what it raises."""
        error: Exception | None = None
        async with trio.open_nursery() as exchange:
            self._scope = exchange.cancel_scope
            exchange.start_soon(self._watch, name="wait for the client to leave")
            try:
                await app(self._asgi_scope(), self._receive, self._send)
            except Exception as raised:  # noqa: BLE001 - not to be wrapped in the nursery's group
                error = raised
            exchange.cancel_scope.cancel()
        if error is not None:
            raise error

    def _asgi_scope(self) -> dict[str, Any]:
        path, _, query = bytes(self._request.target).partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._request.http_version.decode("ascii"),
            "method": self._request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(bytes(name), bytes(value)) for name, value in self._request.headers],
            "client": None,
            "server": self._server,
        }

    async def _watch(self) -> None:
        """Wait for the client to leave, and cancel the application when it has."""
        await self._body_read.wait()
        data = b""
        with suppress(trio.BrokenResourceError):
            data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
        if data:  # the next request; a client in such a hurry is not watched
            self._http.receive_data(data)
        else:
            self._scope.cancel(reason="the client left")

    async def _receive(self) -> Message:
        """Return the next part of the body; after its end, wait to be cancelled."""
        with suppress(h11.RemoteProtocolError, trio.BrokenResourceError):
            while self._http.their_state is h11.SEND_BODY or self._ahead is not None:
                event = self._ahead if self._ahead is not None else self._http.next_event()
                self._ahead = None
                if isinstance(event, h11.Data):
                    return {"type": "http.request", "body": bytes(event.data), "more_body": True}
                if isinstance(event, h11.EndOfMessage):
                    self._body_read.set()
                    return {"type": "http.request", "body": b"", "more_body": False}
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await self._write(self._http.send(go_on))
                self._http.receive_data(bytes(await self._stream.receive_some(RECEIVE_BYTES)))
            await trio.sleep_forever()
        self._scope.cancel(reason="the client left within its request")
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Send a part of the response; a client that does not take it ends the application."""
        if message["type"] == "http.response.start":
            self._start = h11.Response(
                status_code=message["status"], headers=list(message.get("headers", ()))
            )
            return
        data = b""
        if self._start is not None:
            data += self._http.send(self._start) or b""
            self._start = None
        body = message.get("body", b"")
        if body and self._request.method != b"HEAD":
            data += self._http.send(h11.Data(data=body)) or b""
        if not message.get("more_body", False):
            data += self._http.send(h11.EndOfMessage()) or b""
        await self._write(data)

    async def _write(self, data: bytes | None) -> None:
        if not data:
            return
        with suppress(trio.BrokenResourceError), trio.CancelScope() as patience:
            for start in range(0, len(data), WRITE_BYTES):
                patience.deadline = trio.current_time() + WRITE_DEADLINE
                await self._stream.send_all(data[start : start + WRITE_BYTES])
            return
        # Half a message may be out, so nothing else can follow.
        self._http.send_failed()
        self._scope.cancel(reason="the client does not read")
        await trio.lowlevel.checkpoint()


async def _refuse(stream: Stream, http: h11.Connection, status: int) -> None:
    """Answer what is no request."""
    text = f"{status}: this is no request that can be read\n".encode()
    headers: Iterable[tuple[str, str]] = [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(text))),
        ("Connection", "close"),
    ]
    events = [
        h11.Response(status_code=status, headers=list(headers)),
        h11.Data(data=text),
        h11.EndOfMessage(),
    ]
    with trio.move_on_after(WRITE_DEADLINE):
        await stream.send_all(b"".join(http.send(event) or b"" for event in events))
        await _linger(stream)


async def _linger(stream: Stream) -> None:
    """Close the sending side, and throw away for a while what the client still sends."""
    with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError):
        await stream.send_eof()
        while await stream.receive_some(RECEIVE_BYTES):
            pass
