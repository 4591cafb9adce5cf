"""Sessions with the sort server in this process, and workers that do as a test says."""

import json
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio.testing

from tests.streams import MemoryStream, read_all
from trio_services.connections import Connections, Stream
from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import Algorithm
from trio_services.settings import ConnectionLimits, SortSettings
from trio_services.sort_server import (
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
