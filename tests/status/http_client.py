"""A client of HTTP/1.1 for tests: one request over any stream, the whole response or its beginning.

What it sends is what the test says, so that it can be wrong.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
import orjson
import trio

from trio_services.settings import Address

PATIENCE = 30.0
"""Seconds after which an answer is taken as never to come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as the value that it is in JSON."""
        return orjson.loads(self.body)


class Client:
    """A connection to an HTTP server."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def ask(
        self,
        path: str,
        *,
        method: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return its response."""
        await self.begin(path, method=method, body=body, headers=headers)
        return await self.answer()

    async def begin(
        self,
        path: str,
        *,
        method: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send one request."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        length = {} if body is None else {"Content-Length": str(len(body))}
        sent = {"Host": "127.0.0.1", **length, **(headers or {})}
        request = h11.Request(
            method=method or ("GET" if body is None else "POST"),
            target=path,
            headers=list(sent.items()),
        )
        events: list[Any] = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
        await self.stream.send_all(b"".join(self._http.send(event) or b"" for event in events))

    async def answer(self) -> Answer:
        """Return the response to the last request."""
        response, body = None, b""
        with trio.fail_after(PATIENCE):
            while not isinstance(event := await self.event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    body += event.data
        assert response
        headers = {name.decode(): value.decode() for name, value in response.headers}
        return Answer(response.status_code, headers, body)

    async def event(self) -> Any:
        """Return what comes next: a response, a piece of its body, its end."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self.stream.receive_some(65536)))
        assert not isinstance(event, h11.ConnectionClosed), "the server hung up"
        return event

    async def events(self) -> AsyncGenerator[tuple[str, Any], None]:
        """Yield server-sent events of the response: their names and their data, read as JSON."""
        text = b""
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            text += event.data if isinstance(event, h11.Data) else b""
            while b"\n\n" in text:
                block, _, text = text.partition(b"\n\n")
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
                if b"data" in fields:
                    yield fields[b"event"].decode(), orjson.loads(fields[b"data"])


@asynccontextmanager
async def connected(server: Address) -> AsyncIterator[Client]:
    """Connect to a server."""
    async with await trio.open_tcp_stream(server.host, server.port) as stream:
        yield Client(stream)


async def fetch(
    server: Address,
    path: str,
    *,
    method: str = "",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask a server one thing, over a connection of its own."""
    async with connected(server) as client:
        return await client.ask(path, method=method, body=body, headers=headers)
