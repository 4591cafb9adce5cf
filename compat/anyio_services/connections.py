"""The open connections of one TCP service: who may enter, who is contained, who must leave.

Each connection is a task in a nursery that lies *around* the task that accepts. So the end of
accepting does not end what is in flight, and shutdown is the order of nesting: the accepting task
is cancelled first, then connections that are idle, and at the grace deadline all of them.

- *Admission*: a cap in total and one for each address (for IPv6 each /64). Whoever is not admitted
  costs a short task: AnyIO's streams have nothing that sends without waiting.
- *Containment*: an exception in one connection ends that connection. It is logged (at most once
  an interval) and counted, and never reaches the nursery, where it would cancel the siblings.
- *Patience*: a connection has one cancel scope, whose deadline moves from step to step.
- *Idle or busy*: a connection that waits for a request to begin is idle; nothing would be lost by
  closing it. `drain` cancels just those, now and from then on.
"""

import errno
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup

from trio_services.logs import ErrorLog
from trio_services.sans_io.peer_network import peer_network
from trio_services.settings import ConnectionLimits

Stream = ByteStream
Handler = Callable[[Stream, "Connections"], Awaitable[None]]

DRAIN_PATIENCE = 0.05
"""Seconds that an idle connection still has when draining, so that a request which was already
there to be read is served. AnyIO's `receive` passes the scheduler also when there is something to
read, and a deadline that has passed by then cannot be taken back."""

REFUSAL_PATIENCE = 1.0
"""Seconds to get rid of a client that is not admitted. It takes a millisecond."""

ACCEPT_PAUSE = 0.1
"""Seconds to wait when the process or the system is out of file descriptors or memory; the time
that `trio.serve_listeners` waits, for the same reason: a busy loop would make it worse."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_LISTENER_BROKEN = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A snapshot of `Connections`: how many are open and idle now, and counts since the start."""

    open: int
    idle: int
    accepted: int
    refused: int
    lost: int
    crashed: int


class Connections:
    """The connections of one service.

    Args:
        service: Its name, for the log.
        nursery: Where connections run; it must outlive the task that accepts.
        limits: How many there may be.
        handler: `await handler(stream, connections)` serves one connection. Closing the stream is
            done here.
        refusal: Bytes for a client that is not admitted, small enough for any send buffer.
    """

    def __init__(
        self,
        service: str,
        nursery: TaskGroup,
        limits: ConnectionLimits,
        handler: Handler,
        *,
        refusal: bytes = b"",
    ) -> None:
        self._nursery = nursery
        self._limits = limits
        self._handler = handler
        self._refusal = refusal
        self._task_name = f"{service} connection"
        self._errors = ErrorLog(self._task_name, anyio.current_time)
        self._open: Counter[str] = Counter()
        self._idle: set[anyio.CancelScope] = set()
        self._draining = False
        self._total = self._accepted = self._refused = self._lost = 0

    @property
    def draining(self) -> bool:
        """Whether connections that are idle are closed at once."""
        return self._draining

    def statistics(self) -> ConnectionStatistics:
        """Return a snapshot."""
        return ConnectionStatistics(
            open=self._total,
            idle=len(self._idle),
            accepted=self._accepted,
            refused=self._refused,
            lost=self._lost,
            crashed=self._errors.count,
        )

    def admit(self, stream: SocketStream) -> None:
        """Start a task for a new connection, or for refusing it. Owns `stream`; never raises."""
        _stop_reading_ahead(stream)
        peer = stream.extra(SocketAttribute.remote_address, None)  # None: it has left already
        address = peer_network(str(peer[0])) if peer else ""
        if self._total >= self._limits.total or self._open[address] >= self._limits.per_address:
            self._refused += 1
            self._nursery.start_soon(self._refuse, stream, name=self._task_name)
            return
        self._total += 1
        self._open[address] += 1
        self._accepted += 1
        self._nursery.start_soon(self._serve, stream, address, name=self._task_name)

    async def _refuse(self, stream: SocketStream) -> None:
        with anyio.move_on_after(REFUSAL_PATIENCE):
            async with stream:
                try:
                    await stream.send(self._refusal)
                    await stream.send_eof()
                    # Unread bytes at close make the kernel send a reset, which discards what
                    # we said.
                    with anyio.move_on_after(0):
                        await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                    pass  # The client has left: that does not matter to a refusal.

    async def _serve(self, stream: SocketStream, address: str) -> None:
        async with stream:
            try:
                await self._handler(stream, self)
            except (anyio.BrokenResourceError, ConnectionError):
                self._lost += 1
            except Exception as error:  # noqa: BLE001 - the barrier that keeps siblings alive
                self._errors.report(error)
            finally:
                # Before closing, which is a checkpoint: who sees the end may come again at once.
                self._total -= 1
                self._open[address] -= 1
                if not self._open[address]:
                    del self._open[address]

    def patience(self) -> "Patience":
        """Return the cancel scope for one connection, to be used in a `with` block."""
        return Patience(self)

    def drain(self) -> None:
        """Close the connections that are idle, now and from now on; leave the busy ones alone."""
        self._draining = True
        for scope in self._idle:
            scope.deadline = anyio.current_time() + DRAIN_PATIENCE

    def mark_idle(self, scope: anyio.CancelScope) -> None:
        """Let `scope` be ended by draining."""
        self._idle.add(scope)
        if self._draining:
            scope.deadline = anyio.current_time() + DRAIN_PATIENCE

    def mark_busy(self, scope: anyio.CancelScope) -> None:
        """Take `mark_idle` back."""
        self._idle.discard(scope)


class Patience:
    """How long one connection may take for its current step. A context manager.

    It begins without a deadline. When a deadline passes, or when the connection is idle and its
    service drains, the block is left at its next checkpoint, and `expired` is true.
    """

    __slots__ = ("_connections", "_scope")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._scope = anyio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._connections.mark_busy(self._scope)
        return self._scope.__exit__(exc_type, exc, traceback)

    @property
    def expired(self) -> bool:
        """Whether the block was left early because patience ran out."""
        return self._scope.cancelled_caught

    def wait_for_request(self, seconds: float) -> None:
        """Give the peer `seconds` from now to begin a request; until `allow`, it is idle."""
        self._scope.deadline = anyio.current_time() + seconds
        self._connections.mark_idle(self._scope)

    def allow(self, seconds: float) -> None:
        """Give the step that begins now `seconds`; the connection is busy."""
        self._connections.mark_busy(self._scope)
        self._scope.deadline = anyio.current_time() + seconds


async def accept_all(listener: SocketListener, admit: Callable[[SocketStream], None]) -> None:
    """Accept connections for ever, and hand each to `admit`.

    Args:
        listener: Accepts one connection a scheduler pass. It is not closed here.
        admit: Called with each new stream; owns it from then on; must not block or raise.

    Error handling: a connection that was gone before it was accepted is skipped; when the system
    is out of file descriptors or memory the loop pauses and goes on. A listener that is itself
    broken raises OSError or BrokenResourceError. (`SocketListener.serve` ends at any of these.)

    Cancellation: at any time; connections that were not accepted stay in the kernel's queue.
    """
    while True:
        try:
            stream = await listener.accept()
        except (OSError, anyio.BrokenResourceError) as error:
            # AnyIO wraps the OSError on Trio and lets it through on asyncio.
            reason = error if isinstance(error, OSError) else error.__cause__
            number = reason.errno if isinstance(reason, OSError) else None
            if number is None or number in _LISTENER_BROKEN:
                raise
            if number in _OUT_OF_RESOURCES:
                await anyio.sleep(ACCEPT_PAUSE)
        else:
            admit(stream)


def _stop_reading_ahead(stream: SocketStream) -> None:
    """Have `stream` read from its socket only while somebody receives.

    On asyncio, AnyIO (4.16) does that for streams that it connects, and forgets it for those that
    it accepts: until a `receive` has had to wait, they buffer whatever comes, without bound. A
    client that sent 400 MiB to a handler that did not receive had them all in memory, on uvloop.
    There is no public name for it; on Trio there is no transport, and nothing to stop.
    """
    transport = getattr(stream, "_transport", None)
    if transport is not None:
        transport.pause_reading()
