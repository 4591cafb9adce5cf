"""The open connections of one TCP service: who may enter, who is contained, who must leave.

Each connection is a task in a nursery that lies *around* the task that accepts. So the end of
accepting does not end what is in flight, and shutdown is the order of nesting: the accepting task
is cancelled first, then connections that are idle, and at the grace deadline all of them.

- *Admission*: a cap in total and one for each address (for IPv6 each /64), checked before a task is
  made. Whoever is not admitted costs one system call or two.
- *Containment*: an exception in one connection ends that connection. It is logged (at most once
  an interval) and counted, and never reaches the nursery, where it would cancel the siblings.
- *Patience*: a connection has one cancel scope, whose deadline moves from step to step. (A scope
  for each step would be Trio's usual way; three of them are a third of what a small request costs.)
- *Seen from outside*: what was cancelled, by whom and why, is read off the `Cancelled` on its way
  through that scope and kept for the status page; `cancel` ends the connection of one task.
- *Idle or busy*: a connection that waits for a request to begin is idle; nothing would be lost by
  closing it. `drain` cancels just those, now and from then on.
"""

import math
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import trio

from trio_services.eager_io import EagerSocketStream
from trio_services.logs import ErrorLog
from trio_services.sans_io.peer_network import peer_network
from trio_services.settings import ConnectionLimits
from trio_services.status.recent import Recent

Stream = trio.abc.HalfCloseableStream
Handler = Callable[[Stream, "Connections"], Awaitable[None]]

_AT_ONCE = -math.inf
"""The deadline of idle connections when draining. Unlike `cancel()` it can be taken back, and is by
a connection whose request was already there to be read."""


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
        recent: Is told of connections that fail or are cancelled.
    """

    def __init__(
        self,
        service: str,
        nursery: trio.Nursery,
        limits: ConnectionLimits,
        handler: Handler,
        *,
        refusal: bytes = b"",
        recent: Recent | None = None,
    ) -> None:
        self._nursery = nursery
        self._limits = limits
        self._handler = handler
        self._refusal = refusal
        self._task_name = f"{service} connection"
        self._errors = ErrorLog(self._task_name, trio.current_time)
        self._recent = recent
        self._patience: dict[int, Patience] = {}
        self._open: Counter[str] = Counter()
        self._idle: set[trio.CancelScope] = set()
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

    def admit(self, sock: socket.socket, peer: tuple[object, ...]) -> None:
        """Start a task for a new connection, or refuse it. Owns `sock`; never blocks or raises."""
        address = peer_network(str(peer[0])) if peer else ""
        if self._total >= self._limits.total or self._open[address] >= self._limits.per_address:
            self._refuse(sock)
            return
        self._total += 1
        self._open[address] += 1
        self._accepted += 1
        self._nursery.start_soon(self._serve, sock, address, name=self._task_name)

    def _refuse(self, sock: socket.socket) -> None:
        self._refused += 1
        sock.setblocking(False)
        try:
            sock.send(self._refusal)
            sock.shutdown(socket.SHUT_WR)
            # Unread bytes at close make the kernel send a reset, which discards our refusal.
            sock.recv(65536)
        except OSError:
            pass  # The client has left or has not sent anything: neither matters to a refusal.
        finally:
            sock.close()

    async def _serve(self, sock: socket.socket, address: str) -> None:
        stream = EagerSocketStream(sock)
        try:
            await self._handler(stream, self)
        except (trio.BrokenResourceError, ConnectionError):
            self._lost += 1
        except Exception as error:  # noqa: BLE001 - the barrier that keeps siblings alive
            self._errors.report(error)
            if self._recent is not None:
                self._recent.error(self._task_name, type(error).__name__, error)
        finally:
            stream.close()
            self._total -= 1
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def patience(self) -> "Patience":
        """Return the cancel scope for one connection, to be used in a `with` block."""
        return Patience(self)

    def cancel(self, task: int, why: str) -> bool:
        """End the connection whose task has the id `task`; tell whether it is one of these."""
        patience = self._patience.get(task)
        if patience is not None:
            patience.cancel(why)
        return patience is not None

    def enter(self, patience: "Patience") -> None:
        """Let the connection of the current task be cancelled."""
        self._patience[id(trio.lowlevel.current_task())] = patience

    def leave(self, error: BaseException | None) -> None:
        """Take `enter` back, and keep what `error` says if it is a cancellation."""
        del self._patience[id(trio.lowlevel.current_task())]
        if self._recent is not None and error is not None:
            self._recent.caught(self._task_name, error, "idle" if self._draining else "too slow")

    def drain(self) -> None:
        """Close the connections that are idle, now and from now on; leave the busy ones alone."""
        self._draining = True
        for scope in self._idle:
            scope.deadline = _AT_ONCE

    def mark_idle(self, scope: trio.CancelScope) -> None:
        """Let `scope` be ended by draining."""
        self._idle.add(scope)
        if self._draining:
            scope.deadline = _AT_ONCE

    def mark_busy(self, scope: trio.CancelScope) -> None:
        """Take `mark_idle` back."""
        self._idle.discard(scope)


class Patience:
    """How long one connection may take for its current step. A context manager.

    It begins without a deadline. When a deadline passes, or when the connection is idle and its
    service drains, the block is left at its next checkpoint, and `expired` is true; so it is when
    somebody cancels the connection, and then `cancelled` says why.
    """

    __slots__ = ("_connections", "_scope", "cancelled")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._scope = trio.CancelScope()
        self.cancelled = ""

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._connections.enter(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._connections.mark_busy(self._scope)
        self._connections.leave(exc)
        return self._scope.__exit__(exc_type, exc, traceback)

    @property
    def expired(self) -> bool:
        """Whether the block was left early because patience ran out."""
        return self._scope.cancelled_caught

    def cancel(self, why: str) -> None:
        """Leave the block at its next checkpoint."""
        self.cancelled = why
        self._scope.cancel(reason=why)

    def wait_for_request(self, seconds: float) -> None:
        """Give the peer `seconds` from now to begin a request; until `allow`, it is idle."""
        self._scope.deadline = trio.current_time() + seconds
        self._connections.mark_idle(self._scope)

    def allow(self, seconds: float) -> None:
        """Give the step that begins now `seconds`; the connection is busy."""
        self._connections.mark_busy(self._scope)
        self._scope.deadline = trio.current_time() + seconds
