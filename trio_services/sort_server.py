"""The sort server: one list in, the sorted list out, and close.

The protocol is the original's: 8 bytes of length, that many bytes of JSON, then the sorted JSON
array until the server closes. What the original left out is what this module is about:

- Every step has a deadline, and every client can use up only so much: bytes, time, connections.
- What is wrong is said, as `{"error": {"code": …, "message": …}}`, and read: a server that closes
  while bytes of the client are unread resets the connection and destroys its own last words, so
  those bytes are read and thrown away for a while first.
- Nobody's job runs on after the client has left: the job is a task of its own, and the connection
  waits meanwhile for the end of the client's stream, and then cancels it, which kills the worker.

The payload stays bytes all the way. A small list that has arrived whole with the first read is
sorted in place, with no task and no scheduler pass between reading and writing.
"""

import logging
import math
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter

import trio

from trio_services.connections import Connections, Patience, Stream
from trio_services.eager_io import RECEIVE_BYTES, accept_batches
from trio_services.sans_io.histogram import Histogram
from trio_services.sans_io.length_prefix import SORT_PREFIX_BYTES, parse_sort_prefix
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import ErrorCode, SortError, error_reply
from trio_services.settings import SortSettings
from trio_services.status.recent import Recent
from trio_services.workers import Workers

LINGER = 5.0
"""Seconds for which unread bytes are thrown away after an error, so that the client gets to read
it: what nginx does (lingering_timeout). A sender at 13 MB/s is through with 64 MiB by then."""

LAST_WORD = 0.1
"""Seconds for telling a client that it is cut off: the kernel takes so little at once, or never."""

TRAILING_BYTES = 65536
"""Bytes after the list that are read while its job runs. The original ignored them; a client that
sends more than this is no longer watched, and the kernel's buffers stop it."""

_BYTES_UNREAD = {ErrorCode.TOO_LARGE, ErrorCode.BUSY, ErrorCode.TIMEOUT}
"""Errors after which the client may still be sending."""

logger = logging.getLogger("trio_services.sort")


@dataclass(slots=True)
class SortStatistics:
    """Counts since the start; written by the connections, read by anybody."""

    lists: int = 0
    bytes: int = 0
    """Of replies."""
    gone: int = 0
    """Clients that left before their reply."""
    errors: Counter[ErrorCode] = field(default_factory=Counter)
    durations: Histogram = field(default_factory=Histogram)
    """Of lists that were sorted, from their first byte to the last of the reply."""


@dataclass(slots=True, kw_only=True)
class SortService:
    """What the connections of the sort server share."""

    settings: SortSettings
    workers: Workers
    log_requests: bool = False
    statistics: SortStatistics = field(default_factory=SortStatistics)
    bytes_in_flight: int = 0
    recent: Recent | None = None
    """Is told of errors, and of jobs that are cancelled."""

    def take(self, count: int) -> None:
        """Count `count` bytes that a client has sent as in flight.

        Raises:
            SortError: There would be too many (`busy`).
        """
        if self.bytes_in_flight + count > self.settings.max_bytes:
            raise SortError(ErrorCode.BUSY, "too many bytes are in flight, try again later")
        self.bytes_in_flight += count


class Step(Enum):
    """How far a request is. Each step has a deadline of its own."""

    WAITING = "waiting"
    """Nothing has arrived; the connection may be closed without loss."""
    READING = "reading"
    SORTING = "sorting"
    REPLYING = "replying"


_TOO_SLOW = {
    Step.WAITING: "no list was sent",
    Step.READING: "the list did not arrive in time",
}
"""What a client is told whose deadline passed; one that was slow to read has had its time."""


_CUT_OFF = {Step.READING, Step.SORTING}
"""Steps in which a client that is cancelled has not been told anything yet."""


@dataclass(slots=True)
class Request:
    """One list on its way through the server: how far it is, what it holds, what became of it."""

    step: Step = Step.WAITING
    held: int = 0
    """Bytes that count as in flight: of the list, or of its reply if that is longer."""
    payload: Payload | None = None
    outcome: str = "cancelled"
    began: float = 0.0
    """When its first byte was there, by `perf_counter`."""


async def serve_sort(
    listener: socket.socket,
    connections: Connections,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept sort connections for ever and run each as a task of `connections`.

    Args:
        listener: A listening socket, non-blocking. It is not closed here.
        connections: Made with a handler that calls `handle_sort_stream`.

    Cancellation: ends the accepting; connections are the other nursery's.
    """
    task_status.started()
    await accept_batches(listener, connections.admit)


async def handle_sort_stream(
    stream: Stream, connections: Connections, service: SortService
) -> None:
    """Serve one connection: one list in, one reply out.

    The stream is left open; whoever made it closes it.

    Raises:
        trio.BrokenResourceError: The client vanished.
    """
    request = Request()
    try:
        with connections.patience() as patience:
            await _serve_request(stream, patience, service, request)
        if patience.expired and not (request.step is Step.WAITING and connections.draining):
            request.outcome = "unread"
            if patience.cancelled and request.step is not Step.REPLYING:
                request.outcome = ErrorCode.BUSY
                error = SortError(ErrorCode.BUSY, patience.cancelled)
                with trio.move_on_after(LAST_WORD):
                    await stream.send_all(error_reply(error))
            elif request.step in _TOO_SLOW:
                request.outcome = ErrorCode.TIMEOUT
                service.statistics.errors[ErrorCode.TIMEOUT] += 1
                error = SortError(ErrorCode.TIMEOUT, _TOO_SLOW[request.step])
                with trio.move_on_after(service.settings.write_deadline):
                    await stream.send_all(error_reply(error))
    except* trio.Cancelled:  # alone, or in the group of the nursery in which a job is watched
        if request.step in _CUT_OFF:
            error = SortError(ErrorCode.BUSY, "the server is stopping")
            with (
                suppress(trio.BrokenResourceError),
                trio.move_on_after(LAST_WORD, shield=True),
            ):
                await stream.send_all(error_reply(error))
        raise
    finally:
        if request.payload is not None:
            await _close(request.payload)
        service.bytes_in_flight -= request.held
        if service.log_requests:
            logger.info("%d bytes: %s", request.held, request.outcome)
    if request.outcome in _BYTES_UNREAD and request.step is not Step.WAITING:
        await _linger(stream)


async def _serve_request(
    stream: Stream, patience: Patience, service: SortService, request: Request
) -> None:
    """Serve one list, and note in `request` how far it came and what it holds."""
    statistics = service.statistics
    reply: bytes | memoryview | None = None
    try:
        payload = await _receive_list(stream, patience, service, request)
        if payload is not None:
            request.step = Step.SORTING
            try:
                reply = service.workers.sort_nowait(payload)
            except trio.WouldBlock:
                patience.allow(math.inf)  # jobs have a deadline of their own
                reply = await _sort_unless_gone(stream, payload, service)
        if reply is not None and len(reply) > request.held:
            # 1e15 comes back as 1000000000000000.0, and waits here for a client who may not read.
            service.take(len(reply) - request.held)
            request.held = len(reply)
        request.outcome = "sorted" if reply else "gone"
    except SortError as error:
        reply = error_reply(error)
        request.outcome = error.code
        statistics.errors[error.code] += 1
        if service.recent is not None:
            service.recent.error("sort connection", error.code, error.message)
    if not reply:
        statistics.gone += 1
        if request.step is Step.SORTING and service.recent is not None:
            service.recent.cancelled("sort job", "its client", "the client left")
        return
    request.step = Step.REPLYING
    patience.allow(service.settings.write_deadline)
    await stream.send_all(reply)
    if request.outcome == "sorted":
        statistics.lists += 1
        statistics.bytes += len(reply)
        statistics.durations.add(perf_counter() - request.began)


async def _receive_list(
    stream: Stream, patience: Patience, service: SortService, request: Request
) -> Payload | None:
    """Read the length and the payload; None if the client left before it began.

    Raises:
        SortError: `too-large`, `busy`, or `not-json` for a list that ends too early.
    """
    settings = service.settings
    patience.wait_for_request(settings.idle_deadline)
    data = bytes(await stream.receive_some(RECEIVE_BYTES))
    if not data:
        return None
    request.step = Step.READING
    request.began = perf_counter()
    if not _is_whole(data):
        patience.allow(settings.read_deadline)
    while len(data) < SORT_PREFIX_BYTES:
        data += await _receive_more(stream, "the length", RECEIVE_BYTES)
    size = parse_sort_prefix(data[:SORT_PREFIX_BYTES])
    if size > settings.max_payload:
        raise SortError(ErrorCode.TOO_LARGE, f"{size} bytes are more than {settings.max_payload}")
    request.payload = payload = Payload(size)
    data = data[SORT_PREFIX_BYTES : SORT_PREFIX_BYTES + size]
    while True:
        service.take(len(data))
        request.held += len(data)
        try:
            payload.append(data)
        except OSError as error:
            raise SortError(ErrorCode.BUSY, "out of memory or files, try again later") from error
        if payload.complete:
            return payload
        missing = size - payload.received
        data = await _receive_more(stream, "the list", min(missing, RECEIVE_BYTES))


def _is_whole(data: bytes) -> bool:
    """Tell whether the first read has brought the whole list, as it does for small ones."""
    if len(data) < SORT_PREFIX_BYTES:
        return False
    return len(data) - SORT_PREFIX_BYTES >= parse_sort_prefix(data[:SORT_PREFIX_BYTES])


async def _receive_more(stream: Stream, what: str, max_bytes: int) -> bytes:
    data = await stream.receive_some(max_bytes)
    if not data:
        raise SortError(ErrorCode.NOT_JSON, f"the stream ended within {what}")
    return bytes(data)


async def _sort_unless_gone(
    stream: Stream, payload: Payload, service: SortService
) -> bytes | memoryview | None:
    """Sort `payload`; None if the client left first, in which case its job was cancelled.

    Raises:
        SortError: The list cannot be sorted, or the workers cannot do it now.
    """
    result: bytes | memoryview | SortError | None = None
    async with trio.open_nursery() as job:

        async def sort() -> None:
            nonlocal result
            try:
                result = await service.workers.sort(payload)
            except SortError as error:
                result = error  # raised outside of the nursery, which would wrap it in a group
            job.cancel_scope.cancel()

        job.start_soon(sort, name="sort job")
        await _cancel_when_gone(stream, job.cancel_scope, service.settings.allow_half_close)
    if isinstance(result, SortError):
        raise result
    return result


async def _cancel_when_gone(stream: Stream, job: trio.CancelScope, allow_half_close: bool) -> None:
    """Wait for the client to leave, and cancel its `job` when it has.

    A client that only closes its sending side looks just the same until something is sent to it;
    with `allow_half_close` it gets the benefit of the doubt.
    """
    trailing = 0
    while trailing < TRAILING_BYTES:
        try:
            data = await stream.receive_some(TRAILING_BYTES)
        except trio.BrokenResourceError:
            break
        if not data:
            if allow_half_close:
                return
            break
        trailing += len(data)
    else:
        return
    job.cancel(reason="the client left")


async def _close(payload: Payload) -> None:
    """Close `payload`; in a thread if that takes long, since unmapping 64 MiB takes 15 ms."""
    if payload.slow_to_close:
        with trio.CancelScope(shield=True):  # the thread holds no lock and waits for nobody
            await trio.to_thread.run_sync(payload.close)
    else:
        payload.close()


async def _linger(stream: Stream) -> None:
    """Close the sending side, and throw away what the client still sends for a while.

    Closing with unread bytes would reset the connection, and the reset would overtake the error.
    """
    with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError):
        await stream.send_eof()
        while await stream.receive_some(RECEIVE_BYTES):
            pass
