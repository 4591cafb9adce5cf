"""One worker process, seen from the server: started, spoken to, killed and reaped.

A worker is a `ProcessPoolExecutor` of one process. A pool of several would be broken as a whole by
the death of one, with every list that it holds, and could not say which process has which list. So
a pool of one is the way to kill the worker of a cancelled job, and to lose no other with it. The
price is two threads in the server for each worker.

Workers are spawned, not forked: a forked one keeps copies of the connections that were open, whose
clients then wait for an end that does not come.
"""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess

from asyncio_services.sort_worker import become_worker, sort_bytes, sort_file
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError

START_DEADLINE = 30.0
"""Seconds from starting a worker to its first word. It takes 0.2: a machine a hundred times slower
still starts."""

FINISH_GRACE = 0.1
"""Seconds that a worker has to finish a cancelled job before it is killed: less than the CPU time
that its replacement costs. Without it, a client that sends a list of 9 KiB and leaves would cost a
thousand times the sort."""

HAS_PROC = sys.platform == "linux"
"""Whether a worker can open a file in memory by the server's number for it."""


class WorkerStartError(Exception):
    """A worker did not become ready. It says why on standard error, which it shares with us."""


class WorkerLostError(Exception):
    """The worker was dead before it had read the request, which therefore may go to another."""


class WorkerProcess:
    """A worker process that sorts one list at a time. Made by `open_worker`."""

    def __init__(
        self, pool: ProcessPoolExecutor, process: BaseProcess, algorithm: Algorithm
    ) -> None:
        self.usable = True
        """Whether it can take another list; once False, for ever."""
        self.used = False
        """Whether it was given a list."""
        self.killed = False
        """Whether it died because we wanted it to."""
        self.process = process
        self._pool = pool
        self._algorithm = algorithm
        self._dead = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(process.sentinel, self._notice_death)

    async def sort(self, payload: Payload) -> bytes | memoryview:
        """Sort `payload`; the result is valid until that is closed.

        Raises:
            SortError: What the worker says of the list, or `worker-failed` if it died.
            WorkerLostError: Nothing was begun.

        Cancellation: kills the process, there is no other way to free its core, unless it finishes
        within FINISH_GRACE. When this is left, nobody writes to the payload's file any more.
        """
        if not self.usable or not self.process.is_alive():
            self._retire()
            raise WorkerLostError
        self.used = True
        job = self._submit(payload)
        job.add_done_callback(_retrieve)
        try:
            await asyncio.wait([job])  # `await job` would give it up when cancelled
        except asyncio.CancelledError:
            try:
                # Not shielded, asyncio cannot: who is cancelled twice does not wait.
                await asyncio.wait([job], timeout=FINISH_GRACE)
            finally:
                if not job.done():
                    self.kill()
            raise
        try:
            result = job.result()
        except BrokenProcessPool:
            self._retire()
            message = "the worker died while it sorted the list"
            raise SortError(ErrorCode.WORKER_FAILED, message) from None
        return payload.view(result) if isinstance(result, int) else result

    def _submit(self, payload: Payload) -> asyncio.Future[int] | asyncio.Future[bytes]:
        """Hand `payload` over; the result is its size in the shared file, or itself."""
        fd = payload.fileno()
        try:
            if fd is not None and HAS_PROC:
                path = f"/proc/{os.getpid()}/fd/{fd}"
                return self._loop.run_in_executor(
                    self._pool, sort_file, path, payload.received, self._algorithm
                )
            return self._loop.run_in_executor(
                self._pool, sort_bytes, bytes(payload.view()), self._algorithm
            )
        except BrokenProcessPool:
            self._retire()
            raise WorkerLostError from None

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self.killed = True
        self._retire()

    async def wait(self) -> int | None:
        """Wait until the process has died; return its exit status, negative for a signal."""
        await self._dead.wait()
        await asyncio.to_thread(self.process.join)
        return self.process.exitcode

    def _retire(self) -> None:
        self.usable = False
        self.process.kill()

    def _notice_death(self) -> None:
        self._loop.remove_reader(self.process.sentinel)
        self.usable = False
        self._dead.set()

    def close(self) -> None:
        """Kill the process, and stop watching it."""
        self.kill()
        self._loop.remove_reader(self.process.sentinel)


def _retrieve(job: asyncio.Future[int] | asyncio.Future[bytes]) -> None:
    """Keep asyncio from logging what a job raised that was given up."""
    if not job.cancelled():
        job.exception()


@asynccontextmanager
async def open_worker(algorithm: Algorithm) -> AsyncIterator[WorkerProcess]:
    """Start a worker process; it is ready inside, and outside it is gone, reaped and forgotten.

    Raises:
        WorkerStartError: It did not become ready.
    """
    try:
        pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=become_worker,
        )
    except OSError as error:  # out of files, for one: a pool needs a dozen
        raise WorkerStartError(f"a worker cannot be started: {error}") from None
    try:
        worker = WorkerProcess(pool, await _start(pool), algorithm)
        try:
            yield worker
        finally:
            worker.close()
    finally:
        await asyncio.to_thread(pool.shutdown)


async def _start(pool: ProcessPoolExecutor) -> BaseProcess:
    """Start the process of `pool`, and return it when it is ready; raises WorkerStartError."""
    try:
        async with asyncio.timeout(START_DEADLINE):
            # A pool starts a process when it gets a job, in the thread that submits it: 5 ms.
            pid = await asyncio.wrap_future(await asyncio.to_thread(pool.submit, os.getpid))
    except (BrokenProcessPool, OSError) as error:  # of which TimeoutError is one
        raise WorkerStartError(f"a worker did not become ready: {error}") from None
    for process in multiprocessing.active_children():
        if process.pid == pid:
            return process
    raise WorkerStartError(f"worker {pid} did not live")
