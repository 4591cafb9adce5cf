"""Where sorting runs: on the loop, in threads, or in worker processes.

A loop that sorts a long list answers nobody meanwhile. So there are *lanes*, each a thread or a
process, and a request has one for itself until it has its result; requests wait for one first come,
first served. Short lists skip all that, because handing them over would cost the loop more than
sorting them: `INLINE_MAX_BYTES`.

Threads and processes are AnyIO's own: `to_thread.run_sync`, and `to_process.run_sync` with
`cancellable=True`, which kills the process of a request that is cancelled or outlives its deadline.
Two calls do what `trio_services` has three files for. What they do not promise (anyio 4.16):

- A process belongs to the event loop, not to a task: leaving `open_workers` leaves idle ones, which
  are killed when `anyio.run` ends.
- One that died is replaced by the next request, which waits for it to start, and nobody learns of
  its death before: on Trio it stays a zombie until then. Nor does anybody learn its number: there
  are no `pids` and no `replaced` in the statistics.
- One that dies fails its request, also if it had not read it: which, the library does not tell.
- A cancelled job is killed at once. To let a short one finish, since that is cheaper than a new
  process, takes a task for each job.
- A request that is cancelled while its process starts leaves that to itself: it ends when it finds
  its pipes closed.
- Workers are warm, but not for ever: those that were idle for five minutes are killed when
  another is used.
- They start with the server's environment (no huge pages for malloc), execute its main module
  once more, and hear Ctrl-C until their first call (`sort_worker`).
"""

import math
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.from_thread
import anyio.to_process
import anyio.to_thread
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from anyio_services.sort_worker import become_worker, sort_bytes, sort_file
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import (
    Algorithm,
    ErrorCode,
    SortError,
    load_vector_path,
    sort_payload,
    sort_quickly,
)
from trio_services.settings import Place

INLINE_MAX_BYTES = 2 * 1024
"""Longest list that AUTO sorts on the loop: that of `trio_services`, so that both do the same. The
crossover is at longer lists here, since handing over costs more."""

GNOME_INLINE_MAX_BYTES = 64
"""The same for gnome sort, whose time grows with the square: 30 µs for the 32 numbers that 64 bytes
can hold, 420 for 100 numbers."""


@dataclass(frozen=True, slots=True)
class WorkersStatistics:
    """A snapshot of the workers. Counts are since they were opened, except where it says `now`."""

    lanes: int
    """Threads or processes that there may be, idle or busy."""
    running: int
    """Requests in a lane now."""
    waiting: int
    """Requests waiting for a lane now."""
    inline: int
    """Lists sorted by the loop itself."""
    done: int
    """Lists sorted in lanes."""
    errors: dict[ErrorCode, int]
    """Requests to lanes that ended in an error, by its code."""


class Workers:
    """Sorts lists where that is best done. Made by `open_workers`."""

    def __init__(
        self,
        *,
        place: Place,
        algorithm: Algorithm,
        inline_max: float,
        workers: int,
        job_deadline: float,
        max_waiting: int,
    ) -> None:
        self._place = place
        self._algorithm = algorithm
        self._inline_max = inline_max
        self._workers = workers
        self._job_deadline = job_deadline
        self._max_waiting = max_waiting
        self._lanes = anyio.Semaphore(workers)
        # The library wants a limiter too. It is never the one that is waited for: a list may wait
        # for its lane as long as it may then take, and within one call those cannot be told apart.
        self._limiter = anyio.CapacityLimiter(workers)
        self._inline = self._done = 0
        self._errors: Counter[ErrorCode] = Counter()

    def statistics(self) -> WorkersStatistics:
        """Return a snapshot."""
        return WorkersStatistics(
            lanes=self._workers,
            running=self._workers - self._lanes.value,
            waiting=self._lanes.statistics().tasks_waiting,
            inline=self._inline,
            done=self._done,
            errors=dict(self._errors),
        )

    def sort_nowait(self, payload: Payload) -> bytes:
        """Sort, here and now, a list that is not worth handing over.

        Raises:
            anyio.WouldBlock: It is worth it, being long or in need of the exact reader, which takes
                three times as long and more; nothing was done.
            SortError: It cannot be sorted.
        """
        if payload.size > self._inline_max:
            raise anyio.WouldBlock
        if self._inline_max == math.inf:
            result: bytes | None = sort_payload(payload.view(), self._algorithm)
        else:
            result = sort_quickly(payload.view(), self._algorithm)
        if result is None:
            raise anyio.WouldBlock
        self._inline += 1
        return result

    async def sort(self, payload: Payload) -> bytes | memoryview:
        """Sort a complete list. The result is valid until `payload` is closed.

        Raises:
            SortError: It cannot be sorted, or `busy`, `timeout` or `worker-failed`.

        Cancellation: ends the job and frees its core, at once in a process. A result that is
        complete is returned all the same.
        """
        await checkpoint_if_cancelled()
        try:
            result = self.sort_nowait(payload)
        except anyio.WouldBlock:
            return await self._sort_in_lane(payload)
        await cancel_shielded_checkpoint()
        return result

    async def _sort_in_lane(self, payload: Payload) -> bytes | memoryview:
        """Do what `sort` does for a list that is worth handing over."""
        try:
            await self._take_lane()
            try:
                with anyio.move_on_after(self._job_deadline):
                    result = await self._use_lane(payload)
                    self._done += 1
                    return result
                raise SortError(ErrorCode.TIMEOUT, f"not sorted within {self._job_deadline:g} s")
            finally:
                self._lanes.release()
        except SortError as error:
            self._errors[error.code] += 1
            raise

    async def _take_lane(self) -> None:
        """Wait for a lane, which then is the caller's to release; raises SortError (`busy`)."""
        try:
            self._lanes.acquire_nowait()
            return
        except anyio.WouldBlock:
            pass
        if self._lanes.statistics().tasks_waiting >= self._max_waiting:
            raise SortError(ErrorCode.BUSY, "too many lists are waiting")
        with anyio.move_on_after(self._job_deadline):
            await self._lanes.acquire()
            return
        raise SortError(ErrorCode.BUSY, "no worker was free in time")

    async def _use_lane(self, payload: Payload) -> bytes | memoryview:
        """Sort in a thread, which is never abandoned, or in a process; raises SortError.

        In a thread only gnome sort stops when it is cancelled. The others are single calls into C,
        as long as the largest payload makes them; they are waited for.
        """
        if self._place is Place.THREAD:
            sort = partial(sort_payload, checkpoint=anyio.from_thread.check_cancelled)
            return await anyio.to_thread.run_sync(
                sort, payload.view(), self._algorithm, limiter=self._limiter
            )
        run = partial(anyio.to_process.run_sync, cancellable=True, limiter=self._limiter)
        try:
            fd = payload.fileno()
            if fd is not None:
                path = f"/proc/{os.getpid()}/fd/{fd}"
                try:
                    size = await run(sort_file, path, payload.received, self._algorithm)
                    return payload.view(size)
                except (FileNotFoundError, PermissionError):
                    pass  # not Linux, or a server whose files are nobody's to open: pickle it then
            return await run(sort_bytes, bytes(payload.view()), self._algorithm)
        except (
            anyio.BrokenWorkerProcess,
            ProcessLookupError,
        ):  # the latter on asyncio, at its start
            message = "the worker died while it sorted the list"
            raise SortError(ErrorCode.WORKER_FAILED, message) from None

    async def warm(self) -> None:
        """Have every worker process started: as many calls at a time as there may be processes."""
        async with anyio.create_task_group() as starting:
            for _ in range(self._workers):
                starting.start_soon(
                    partial(anyio.to_process.run_sync, become_worker, limiter=self._limiter)
                )


@asynccontextmanager
async def open_workers(
    *,
    place: Place,
    algorithm: Algorithm,
    workers: int,
    job_deadline: float,
    max_waiting: int,
) -> AsyncIterator[Workers]:
    """Open workers, which are warm inside; processes that are idle on exit end with the loop.

    Args:
        place: Where to sort; AUTO sorts short lists inline and hands the others to threads if
            Python runs without the GIL, else to processes.
        algorithm: How.
        workers: How many threads or processes.
        job_deadline: Seconds that a list may wait for a worker, and again that it may take.
        max_waiting: How many lists may wait for a worker.

    Raises:
        anyio.BrokenWorkerProcess: In an exception group: a worker process did not start.
    """
    inline_max: float = 0
    if place is Place.AUTO:
        inline_max = GNOME_INLINE_MAX_BYTES if algorithm is Algorithm.GNOME else INLINE_MAX_BYTES
        gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        place = Place.PROCESS if gil else Place.THREAD
    elif place is Place.INLINE:
        inline_max = math.inf
    pool = Workers(
        place=place,
        algorithm=algorithm,
        inline_max=inline_max,
        workers=workers,
        job_deadline=job_deadline,
        max_waiting=max_waiting,
    )
    if place is Place.PROCESS:
        await pool.warm()
    if algorithm is Algorithm.VECTOR or place is not Place.PROCESS:
        await anyio.to_thread.run_sync(load_vector_path)
    yield pool
