"""One worker process, seen from the server: started, spoken to, killed and reaped.

`open_worker` owns the process: whoever leaves it leaves no process behind. What is said over the
socket between the two is described in `sort_worker.py`, the other end.

The socket is one end of a socketpair and the worker's standard input is the other. So each side
learns from the kernel that the other is gone, whatever ended it, and there is nothing to clean up.
"""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from signal import Signals

import orjson
import trio

from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.sort_worker import HEADER, READY

START_DEADLINE = 30.0
"""Seconds from starting a worker to its READY. It takes 0.07: a machine four hundred times slower
still starts."""

FINISH_GRACE = 0.1
"""Seconds that a worker has to finish a cancelled job before it is killed: about the CPU time that
its replacement costs. Without it, a client that sends a list of 9 KiB and leaves would cost a
thousand times the sort."""

RECEIVE_BYTES = 256 * 1024
"""Read at a time: in one piece, the reply to any payload that was not in a shared file."""


class WorkerStartError(Exception):
    """A worker did not become ready. It says why on standard error, which it shares with us."""


class WorkerLostError(Exception):
    """The worker was dead before it had read the request, which therefore may go to another."""


class WorkerProcess:
    """A worker process that sorts one list at a time. Made by `open_worker`."""

    def __init__(self, process: trio.Process, peer: socket.socket) -> None:
        self.usable = True
        """Whether it can take another list; once False, for ever."""
        self.used = False
        """Whether it was given a list."""
        self.killed = False
        """Whether it died because we wanted it to."""
        self.process = process
        self.in_use = trio.Lock()
        """Held while the socket is used, so that it is never closed under its user."""
        self.peer = peer
        """Our end of the socketpair."""
        self._inbox = bytearray()

    async def sort(self, payload: Payload) -> bytes | memoryview:
        """Sort `payload`; the result is valid until that is closed.

        Raises:
            SortError: What the worker says of the list, or `worker-failed` if it died.
            WorkerLostError: Nothing was begun.
            OSError: There is no descriptor or no memory left for the result.

        Cancellation: kills the process, there is no other way to free its core, unless it has the
        whole request and finishes within FINISH_GRACE.

        However this ends, a worker that is not killed has had one whole request and was heard to
        the end of its reply. With half of either in the socket, every later client would get the
        list of another.
        """
        if not self.usable:
            raise WorkerLostError
        self.in_use.acquire_nowait()
        self.used = True
        clean = False
        try:
            await self._send_request(payload)
            try:
                failed, size, result = await self._receive_reply(payload)
            except trio.Cancelled:
                with trio.move_on_after(FINISH_GRACE, shield=True):
                    await self._receive_reply(payload)
                    clean = True
                raise
            clean = True
        except trio.Cancelled:
            if not clean:
                self.kill()
            raise
        except (BrokenPipeError, ConnectionResetError):
            # A socket that is closed before its data was read resets its peer; after that, the
            # peer sees the end of the stream. (On Linux. Elsewhere it may always see the end, and
            # a request fails that could have gone to another worker.)
            raise WorkerLostError from None
        finally:
            if not clean:
                self._retire()
            self.in_use.release()
        if failed:
            error = orjson.loads(result)["error"]
            raise SortError(ErrorCode(error["code"]), error["message"])
        return result if payload.fileno() is None else payload.view(size)

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self.killed = True
        self._retire()

    def _retire(self) -> None:
        self.usable = False
        self.process.kill()

    async def wait_ready(self) -> None:
        """Wait until the worker has loaded what it needs; raises SortError if it died instead."""
        await self._fill_inbox(len(READY))
        self._inbox.clear()

    async def _send_request(self, payload: Payload) -> None:
        fd = payload.fileno()
        header = HEADER.pack(fd is not None, payload.received)
        if fd is not None:
            socket.send_fds(self.peer, [header], [fd])
            return
        data = memoryview(header + payload.view())
        while data:
            try:
                data = data[self.peer.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.peer)

    async def _receive_reply(self, payload: Payload) -> tuple[bool, int, bytes]:
        """Return whether the worker failed, the size of its result, and the result or the error.

        A result in a shared file is not looked at. May be called again when it was cancelled.
        """
        await self._fill_inbox(HEADER.size)
        failed, size = HEADER.unpack_from(self._inbox)
        shared = payload.fileno() is not None and not failed
        end = HEADER.size if shared else HEADER.size + size
        await self._fill_inbox(end)
        if len(self._inbox) > end:
            raise SortError(ErrorCode.WORKER_FAILED, "the worker replied to more than one list")
        result = bytes(self._inbox[HEADER.size :])
        self._inbox.clear()
        return failed, size, result

    async def _fill_inbox(self, size: int) -> None:
        """Receive until there are `size` bytes; raises SortError if the process died before."""
        while len(self._inbox) < size:
            await trio.lowlevel.wait_readable(self.peer)
            try:
                data = self.peer.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            if not data:
                raise SortError(ErrorCode.WORKER_FAILED, "the worker died while it sorted the list")
            self._inbox += data


@asynccontextmanager
async def open_worker(algorithm: Algorithm) -> AsyncIterator[WorkerProcess]:
    """Start a worker process; it is ready inside, and outside it is gone, reaped and forgotten.

    Raises:
        WorkerStartError: It did not become ready, or there is no descriptor, process or memory
            left to start it.
    """
    try:
        worker = await _start_worker(algorithm)
    except (OSError, RuntimeError) as error:  # RuntimeError: no thread to call fork in
        raise WorkerStartError(f"no worker can be started: {error}") from error
    process = worker.process
    with worker.peer:
        try:
            try:
                with trio.fail_after(START_DEADLINE):
                    await worker.wait_ready()
            except (SortError, ConnectionResetError, trio.TooSlowError):
                raise WorkerStartError(f"worker {process.pid} did not become ready") from None
            yield worker
        finally:
            worker.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                async with worker.in_use:  # whoever used it has seen its end, and leaves
                    pass


async def _start_worker(algorithm: Algorithm) -> WorkerProcess:
    """Start a worker process, of which nothing is known yet.

    Raises:
        OSError, RuntimeError: There is no descriptor, memory, process or thread left.
    """
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as undo:
        undo.enter_context(ours)
        ours.setblocking(False)
        with trio.CancelScope(shield=True):  # so that no process starts without an owner
            process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-m", "trio_services.sort_worker", algorithm],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env=_worker_environment(),
                process_group=0,  # Ctrl-C in a terminal is for the server, which ends its workers
            )
        undo.pop_all()
    return WorkerProcess(process, ours)


def describe_end(status: int) -> str:
    """Say how a process ended, given its `returncode`."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-status}"


def _worker_environment() -> dict[str, str]:
    """Return an environment in which imports find what they find here, and memory is quick.

    A million integers pass through 100 MB, which are given back after each job. Half of the CPU
    time of the job went into faulting them in, 4 KiB at a time: 41 ms, and 24 with huge pages.
    """
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "OPENBLAS_NUM_THREADS": "1",  # a thread for each core, spinning 30 ms for nothing at start
    }
