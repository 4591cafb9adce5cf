"""The open connections of one TCP service: who may enter, who is contained, who must leave.

Each connection is a task in a task group that lies *around* the task that accepts. So the end of
accepting does not end what is in flight, and shutdown is the order of nesting: the accepting task
is cancelled first, then connections that are idle, and at the grace deadline all of them.

- *Admission*: a cap in total and one for each address (for IPv6 each /64), checked before a task is
  made. `admit` is a plain function: for a coroutine `start_server` would make a task that nobody
  owns.
- *Containment*: an exception in one connection ends that connection. It is logged (at most once
  an interval) and counted, and never reaches the task group, where it would cancel the siblings.
- *Patience*: a connection has one `asyncio.timeout`, which is rescheduled from step to step.
- *Idle or busy*: a connection that waits for a request to begin is idle; nothing would be lost by
  closing it. `drain` times out just those, now and from then on.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from trio_services.logs import ErrorLog
from trio_services.sans_io.peer_network import peer_network
from trio_services.settings import ConnectionLimits

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, "Connections"], Awaitable[None]]

ACCEPT_BATCH = 1024
"""Connections that the kernel may queue, and that are accepted in one pass of the loop, which take
some 20 ms: asyncio's `backlog` is both. Its default, 100, makes bursts wait for a second try."""

DRAIN_PATIENCE = 0.05
"""Seconds that an idle connection still has when draining, so that a request which was already
there to be read is served: asyncio takes two passes of the loop to read it."""

SEND_BYTES = 256 * 1024
"""Written at a time: what the kernel does not take at once is copied, or held, by the transport."""

_LOST = (ConnectionError, TimeoutError)
"""What the operating system says of a peer that has vanished; the second is ETIMEDOUT."""


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
        nursery: The task group in which connections run; it must outlive the task that accepts.
        limits: How many there may be.
        handler: `await handler(reader, writer, connections)` serves one connection. Closing is
            done here.
        refusal: Bytes for a client that is not admitted, small enough for any send buffer.
    """

    def __init__(
        self,
        service: str,
        nursery: asyncio.TaskGroup,
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
        self._errors = ErrorLog(self._task_name, asyncio.get_running_loop().time)
        self._open: Counter[str] = Counter()
        self._idle: set[Patience] = set()
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

    def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Start a task for a new connection, or refuse it. Owns both streams; never blocks."""
        peer = writer.get_extra_info("peername")  # None: it has left already
        address = peer_network(str(peer[0])) if peer else ""
        if self._total >= self._limits.total or self._open[address] >= self._limits.per_address:
            self._refuse(writer)
            return
        self._total += 1
        self._open[address] += 1
        self._accepted += 1
        task = self._nursery.create_task(self._serve(reader, writer), name=self._task_name)

        def leave(_: asyncio.Task[None]) -> None:
            writer.transport.abort()  # what was drained is with the kernel, which still sends it
            self._total -= 1
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

        # Not a `finally` in the task: one that is cancelled before its first step never gets there.
        task.add_done_callback(leave)

    def _refuse(self, writer: asyncio.StreamWriter) -> None:
        self._refused += 1
        with suppress(OSError):  # The client has left: that does not matter to a refusal.
            writer.write(self._refusal)
            writer.write_eof()
            # Unread bytes at close make the kernel send a reset, which discards our refusal. The
            # transport would read them in its next pass only.
            os.read(writer.get_extra_info("socket").fileno(), 65536)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # By default `drain` returns while 64 KiB are unsent, and nobody would wait for those.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            await self._handler(reader, writer, self)
        except _LOST:
            self._lost += 1
        except Exception as error:  # noqa: BLE001 - the barrier that keeps siblings alive
            self._errors.report(error)

    def patience(self) -> "Patience":
        """Return the timeout for one connection, to be used in an `async with` block."""
        return Patience(self)

    def drain(self) -> None:
        """Close the connections that are idle, now and from now on; leave the busy ones alone."""
        self._draining = True
        for patience in self._idle:
            patience.end_within(DRAIN_PATIENCE)

    def mark_idle(self, scope: "Patience") -> None:
        """Let `scope` be ended by draining."""
        self._idle.add(scope)
        if self._draining:
            scope.end_within(DRAIN_PATIENCE)

    def mark_busy(self, scope: "Patience") -> None:
        """Take `mark_idle` back."""
        self._idle.discard(scope)


class Patience:
    """How long one connection may take for its current step. An async context manager.

    It begins without a deadline. When a deadline passes, or when the connection is idle and its
    service drains, the task is cancelled, the block is left, and `expired` is true. The task is
    cancelled once: a block that swallows that goes on without a deadline.
    """

    __slots__ = ("_connections", "_loop", "_timeout")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._connections.mark_busy(self)
        try:
            await self._timeout.__aexit__(exc_type, exc, traceback)
        except TimeoutError:
            return True  # the timeout's own: what the block raised is not raised here
        return None

    @property
    def expired(self) -> bool:
        """Whether the block was left early because patience ran out."""
        return self._timeout.expired()

    def wait_for_request(self, seconds: float) -> None:
        """Give the peer `seconds` from now to begin a request; until `allow`, it is idle."""
        self.end_within(seconds)
        self._connections.mark_idle(self)

    def allow(self, seconds: float | None) -> None:
        """Give the step that begins now `seconds`, or None for ever; the connection is busy."""
        self._connections.mark_busy(self)
        self.end_within(seconds)

    def end_within(self, seconds: float | None) -> None:
        """Move the deadline, unless it has passed: asyncio would raise RuntimeError then."""
        if not self._timeout.expired():
            self._timeout.reschedule(None if seconds is None else self._loop.time() + seconds)


async def send_all(writer: asyncio.StreamWriter, data: bytes | bytearray | memoryview) -> None:
    """Send all of `data`; returns when the kernel has taken it."""
    with memoryview(data) as view:
        for start in range(0, len(view), SEND_BYTES):
            writer.write(view[start : start + SEND_BYTES])
            await writer.drain()
