"""The bytes of one list while they arrive, are sorted and are replied to.

A client announces the size first, and may lie. So memory is taken as bytes arrive, never before.
Short lists stay in a bytearray. Longer ones move to a file in memory that has no name, because a
worker process can be given its descriptor: 10 MB reach it, and come back, without passing through
a pipe. Having no name, the file is gone with the last process that holds it, however that ends.
"""

import mmap
import os
import tempfile
from types import TracebackType
from typing import Self

SHARE_ABOVE = 256 * 1024
"""Bytes that a payload may have before it moves to a file. To a worker and back, 256 KiB took 0.16
ms through a socket and 0.30 through a file, 512 KiB took 0.49 and 0.51, and 10 MB 13.2 and 9.7."""


CLOSE_AT_ONCE = 4 * 1024 * 1024
"""Longest file in bytes that is quick to close. The kernel takes 0.24 ms for each MiB that it gets
back: 1 ms for this, 57 for the longest result, and a loop that eight clients left at once stood
still for 327. Python lets go of the GIL meanwhile."""


class Payload:
    """One list of `size` bytes, appended in pieces. Close it, or use it as a context manager.

    Args:
        size: The number of bytes that were announced.
        share_above: More bytes than this are kept in a shared file.
    """

    __slots__ = ("_fd", "_memory", "_share_above", "_views", "received", "size")

    def __init__(self, size: int, *, share_above: int = SHARE_ABOVE) -> None:
        self.size = size
        self.received = 0
        self._share_above = share_above
        self._memory = bytearray()
        self._fd: int | None = None
        self._views: list[memoryview] = []

    @property
    def complete(self) -> bool:
        """Whether all announced bytes are here."""
        return self.received == self.size

    @property
    def slow_to_close(self) -> bool:
        """Whether an event loop does better to call `close` in a thread."""
        return self._fd is not None and os.fstat(self._fd).st_size > CLOSE_AT_ONCE

    def append(self, data: bytes) -> None:
        """Add the bytes that came next.

        Raises:
            ValueError: They are more than were announced.
            OSError: There is no descriptor or no memory left for a shared file.
        """
        if self.received + len(data) > self.size:
            raise ValueError(f"more than the announced {self.size} bytes")
        if self._fd is None and self.received + len(data) > self._share_above:
            self._fd = _open_nameless_file()
            _write_all(self._fd, self._memory, 0)
            self._memory = bytearray()
        if self._fd is None:
            self._memory += data
        else:
            _write_all(self._fd, data, self.received)
        self.received += len(data)

    def fileno(self) -> int | None:
        """Return the descriptor of the shared file, or None while the bytes are in memory."""
        return self._fd

    def view(self, size: int | None = None) -> memoryview:
        """Return the bytes, without copying; valid until close.

        Args:
            size: How many; a worker that replaced the bytes of a shared file says so. By default
                those that were received.
        """
        if self._fd is None:
            view = memoryview(self._memory)
        else:
            view = map_file(self._fd, self.received if size is None else size)
        self._views.append(view)
        return view

    def close(self) -> None:
        """Let go of the memory or the file, and of all views. May be called again; in any thread.

        The views are released here because whoever held one may be kept, as the frames of an
        exception are, and with it a mapping of 64 MiB.
        """
        while self._views:
            try:
                self._views.pop().release()
            except BufferError:
                pass  # somebody computes with it, as numpy does, and lets go when it is done
        self._memory = bytearray()
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def map_file(fd: int, size: int) -> memoryview:
    """Return the first `size` bytes of a file, mapped until the view is released or forgotten."""
    return memoryview(mmap.mmap(fd, size)) if size else memoryview(b"")


def replace_contents(fd: int, data: bytes) -> None:
    """Write `data` over the beginning of a file, which grows if it has to and never shrinks.

    It never shrinks because another process may have it mapped.
    """
    _write_all(fd, data, 0)


def _open_nameless_file() -> int:
    """Return the descriptor of a new, empty file that no directory lists."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sort-payload")
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def _write_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
