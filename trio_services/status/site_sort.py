"""`POST /sort`: a list in the body, the sorted list back, with curl or from the page.

The list goes to the sort service over a loopback connection, piece by piece as it comes, and the
reply comes back the same way. So the limits and errors are the service's own, nothing is held here
but one piece, and a client that leaves takes its connection to the service, and its job, along.

`?algorithm=gnome` is for looking at: a job that takes long on purpose, in a worker of its own that
lives as long as the request. There is one at a time, and the deadline of jobs applies to it too.
"""

import math
import socket
import struct
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import orjson
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError, error_reply
from trio_services.settings import Address, Place, SortSettings
from trio_services.status.recent import Recent
from trio_services.worker_process import WorkerStartError
from trio_services.workers import open_workers

STATUSES = {
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.NOT_JSON: 400,
    ErrorCode.NOT_SORTABLE: 400,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.BUSY: 503,
    ErrorCode.WORKER_FAILED: 500,
}
"""What HTTP calls the errors of the sort service."""

MAX_GNOME_BYTES = 256 * 1024
"""Of a list for gnome sort. 100 KiB of falling numbers take it longer than any deadline."""

RECEIVE_BYTES = 64 * 1024

_JSON = (b"content-type", b"application/json")
_TEXT_JSON = ("content-type", "application/json")


@dataclass(slots=True)
class SortEndpoint:
    """Answers `POST /sort`.

    Attributes:
        settings: Of the sort service; None if it does not run.
        address: Where it is reached.
        recent: Is told of gnome sorts that failed or were cancelled.
    """

    settings: SortSettings | None
    address: Address | None
    recent: Recent
    _gnome_runs: bool = field(default=False, init=False)
    _under_way: set[trio.Event] = field(default_factory=set, init=False)

    async def answer(self, request: Request) -> Response:
        """Sort the list in the body of `request`."""
        if self.settings is None or self.address is None:
            return refused(404, ErrorCode.BUSY, "no sort service runs here")
        algorithm = request.query_params.get("algorithm", "")
        if algorithm not in {"", Algorithm.GNOME}:
            return refused(400, ErrorCode.NOT_SORTABLE, "the only algorithm to choose is gnome")
        length = request.headers.get("content-length")
        if length is None:
            return refused(411, ErrorCode.NOT_JSON, "say how long the list is: Content-Length")
        most = min(self.settings.max_payload, MAX_GNOME_BYTES if algorithm else math.inf)
        if int(length) > most:
            return refused(413, ErrorCode.TOO_LARGE, f"{length} bytes are more than {most}")
        if algorithm:
            return await self._sort_slowly(request, self.settings)
        try:
            stream = await trio.open_tcp_stream(self.address.host, self.address.port)
        except OSError:
            return refused(503, ErrorCode.BUSY, "the sort service accepts nothing any more")
        # Closing is to reset: where clients may half-close, an end would not tell that ours left.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return ForwardedSort(stream, request, int(length), self._under_way)

    async def all_replied(self) -> None:
        """Wait until the replies to all lists are sent, or given up."""
        while self._under_way:
            await next(iter(self._under_way)).wait()

    async def _sort_slowly(self, request: Request, settings: SortSettings) -> Response:
        """Sort with gnome sort, in a worker of its own."""
        with trio.move_on_after(settings.read_deadline) as reading:
            body = await request.body()
        if reading.cancelled_caught:
            return refused(408, ErrorCode.TIMEOUT, "the list did not arrive in time")
        if self._gnome_runs:
            return refused(503, ErrorCode.BUSY, "there is a gnome sort already")
        self._gnome_runs = True
        try:
            return Response(await _gnome_sort(body, settings), 200, dict([_TEXT_JSON]))
        except SortError as error:
            self.recent.error("gnome sort", error.code, error.message)
            return refused(STATUSES[error.code], error.code, error.message)
        except BaseException as error:  # a cancellation, in the group of the worker's nursery
            self.recent.caught("gnome sort", error, "its time was over")
            raise
        finally:
            self._gnome_runs = False


async def _gnome_sort(body: bytes, settings: SortSettings) -> bytes:
    """Sort in a worker that is started and ended here; raises SortError."""
    failed: SortError | None = None
    result = b""
    try:
        with Payload(len(body)) as payload:
            payload.append(body)
            async with open_workers(
                place=Place.PROCESS,
                algorithm=Algorithm.GNOME,
                workers=1,
                job_deadline=settings.job_deadline,
                max_waiting=0,
            ) as workers:
                try:
                    result = bytes(await workers.sort(payload))
                except SortError as error:
                    failed = error  # raised outside of the nursery, which would wrap it in a group
    except* WorkerStartError:
        failed = SortError(ErrorCode.BUSY, "no worker can be started")
    if failed is not None:
        raise failed
    return result


class ForwardedSort(Response):
    """A list on its way to the sort service, and what comes back."""

    def __init__(
        self,
        stream: trio.SocketStream,
        request: Request,
        length: int,
        under_way: set[trio.Event],
    ) -> None:
        super().__init__()
        self._under_way = under_way
        self._stream = stream
        self._request = request
        self._length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the service's reply under the status that fits it."""
        done = trio.Event()
        self._under_way.add(done)
        try:
            await self._relay(send)
        finally:
            self._under_way.remove(done)
            done.set()

    async def _relay(self, send: Send) -> None:
        async with self._stream, trio.open_nursery() as nursery:
            # An error may come back while we still send, so both are done at once.
            nursery.start_soon(self._forward, name="forward the list")
            reply = await self._first_piece()
            status = _status_of(reply)
            await send({"type": "http.response.start", "status": status, "headers": [_JSON]})
            while reply:
                await send({"type": "http.response.body", "body": reply, "more_body": True})
                reply = await self._receive()
            await send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()

    async def _forward(self) -> None:
        with suppress(trio.BrokenResourceError):  # it has replied without reading all
            await self._stream.send_all(sort_prefix(self._length))
            async with aclosing(self._request.stream()) as pieces:
                async for piece in pieces:
                    await self._stream.send_all(piece)

    async def _first_piece(self) -> bytes:
        """Return the beginning of the reply; an error is short, and comes whole."""
        reply = b""
        while data := await self._receive():
            reply += data
            if not reply.startswith(b"{"):
                return reply
        no_reply = SortError(ErrorCode.WORKER_FAILED, "the sort service hung up without a reply")
        return reply or error_reply(no_reply)

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except trio.BrokenResourceError:
            return b""


def _status_of(reply: bytes) -> int:
    """Return what HTTP calls this reply of the sort service."""
    if not reply.startswith(b"{"):
        return 200
    try:
        return STATUSES[ErrorCode(orjson.loads(reply)["error"]["code"])]
    except (ValueError, LookupError, TypeError):
        return 502


def refused(status: int, code: ErrorCode, message: str) -> Response:
    """Return an error as the sort service would."""
    return Response(error_reply(SortError(code, message)), status, dict([_TEXT_JSON]))
