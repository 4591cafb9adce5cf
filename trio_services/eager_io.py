"""Sockets that try the system call first and park only when the kernel says wait.

Trio's own sockets already try the call before they park, but they pass the scheduler on every
operation, also when there was nothing to wait for: one pass, 3 µs at the least, for each receive
and each send. A server whose clients have already sent their request pays several passes to learn
what it could have had at once. Here a call that succeeds costs no scheduler pass.

The rules that keep this correct:

- *Cancellation stays level-triggered.* Every operation begins with `checkpoint_if_cancelled`, so a
  cancelled task never gets past its next operation, whether or not it would have blocked.
- *Siblings stay responsive.* An operation that would not block is still a full checkpoint every
  `EAGER_BUDGET`-th time in a row, so a peer that always has data ready cannot keep the loop.
- *Closing wakes whoever waits.* `notify_closing` comes before `close`, as for any socket that Trio
  waits on, so a task that is parked gets `ClosedResourceError` instead of somebody else's data
  on a file descriptor that was used again.

`EagerSocketStream` is a `trio.abc.HalfCloseableStream`; handlers take any such stream and are
tested with memory streams.
"""

import errno
import socket
from collections.abc import Callable

import trio

EAGER_BUDGET = 16
"""Operations in a row without a scheduler pass: 16 receives of 64 KiB take about 80 µs."""

RECEIVE_BYTES = 65536
"""For one receive; larger reads only move the cost from system calls to the allocator."""

ACCEPT_BATCH = 64
"""Connections taken from the kernel in one go before the loop runs its other tasks: 64 accepts
take about 400 µs. The rest stay in the kernel's queue; nothing is lost."""

ACCEPT_PAUSE = 0.1
"""Seconds to wait when the process or the system is out of file descriptors or memory; the time
that `trio.serve_listeners` waits, for the same reason: a busy loop would make it worse."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_LISTENER_BROKEN = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}


class EagerSocketStream(trio.abc.HalfCloseableStream):
    """A connected stream socket, non-blocking, owned by this stream from now on.

    Raises (from each operation, as `trio.SocketStream` does):
        trio.BrokenResourceError: The connection was lost.
        trio.ClosedResourceError: This side closed the stream.
        trio.BusyResourceError: Another task is already waiting for the same direction.
    """

    __slots__ = ("_budget", "_eof_sent", "_has_parked", "_open", "_sending", "socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._budget = EAGER_BUDGET
        self._open = True
        self._has_parked = False
        self._sending = False
        self._eof_sent = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return 1 to `max_bytes` bytes, or `b""` when the peer has closed its sending side."""
        await self._begin()
        if max_bytes is None:
            max_bytes = RECEIVE_BYTES
        elif max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        while True:
            try:
                return self.socket.recv(max_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._translated(error) from error
            self._budget = EAGER_BUDGET
            self._has_parked = True
            await trio.lowlevel.wait_readable(self.socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; returns when the kernel has taken it."""
        await self._begin()
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                try:
                    sent += self.socket.send(view[sent:])
                    continue
                except BlockingIOError:
                    pass
                except OSError as error:
                    raise self._translated(error) from error
                await self._wait_writable()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel has room for at least some bytes."""
        await self._begin()
        await self._wait_writable()

    async def send_eof(self) -> None:
        """Close the sending side; the peer reads `b""` after what was sent before."""
        await self._begin()
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._eof_sent = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Close at once, without a checkpoint; safe to call more than once."""
        if self._open:
            self._open = False
            if self._has_parked:  # else Trio has never heard of it: a system call less
                trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    async def aclose(self) -> None:
        """Close; never blocks, but is a checkpoint as Trio's streams are."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def _begin(self) -> None:
        """Raise what must be raised before the call is tried; pass the scheduler if due."""
        if not self._open:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this stream was closed")
        self._budget -= 1
        if self._budget > 0:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._budget = EAGER_BUDGET
            await trio.lowlevel.checkpoint()

    async def _wait_writable(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._budget = EAGER_BUDGET
        self._has_parked = self._sending = True
        try:
            await trio.lowlevel.wait_writable(self.socket)
        finally:
            self._sending = False

    def _translated(self, error: OSError) -> Exception:
        if error.errno == errno.EBADF or (error.errno == errno.EPIPE and self._eof_sent):
            return trio.ClosedResourceError("this side was closed")
        return trio.BrokenResourceError(f"socket connection broken: {error}")


async def accept_batches(
    listener: socket.socket, admit: Callable[[socket.socket, tuple[object, ...]], None]
) -> None:
    """Accept connections for ever, as many as are there at each wake, and hand each to `admit`.

    Args:
        listener: A listening socket, non-blocking. It is not closed here.
        admit: Called with each new socket and its peer's address; owns the socket from then on;
            must not block or raise.

    Error handling: a connection that was gone before it was accepted is skipped; when the system
    is out of file descriptors or memory the loop pauses and goes on. A listener that is itself
    broken raises OSError.

    Cancellation: at any time; connections that were not accepted stay in the kernel's queue.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(ACCEPT_BATCH):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _LISTENER_BROKEN:
                    raise
                if error.errno in _OUT_OF_RESOURCES:
                    await trio.sleep(ACCEPT_PAUSE)
                break
            admit(sock, peer)
