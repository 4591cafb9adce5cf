"""Where sorting runs: on the loop, in threads, or in worker processes.

A loop that sorts a long list answers nobody meanwhile. So there are *lanes*, each a thread or a
process, and a request has one for itself until it has its result. Idle lanes wait in a queue;
so do requests while there is none. Short lists skip all that, because
handing them over would cost the loop more than sorting them: `INLINE_MAX_BYTES`.

Each process belongs to a supervising task, which starts it, waits for its death, reaps it and
starts the next. A request that is cancelled or outlives its deadline kills its process, and the
supervisor sees it die like any other. Leaving `open_workers` cancels the supervisors, and each
takes its process along. So there is no process without a task, no list of children, no stop flag.

A process that dies fails at most the request that it was working on. One that is known to be dead
fails none: sorting somewhere else is safe, since nothing was begun. (One that dies in the moment in
which its request is in the pool's pipe fails it: what it has read, a pool does not tell.)
"""

import asyncio
import logging
import math
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from asyncio_services.worker_process import (
    WorkerLostError,
    WorkerProcess,
    WorkerStartError,
    open_worker,
)
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

FIRST_BACKOFF, MAX_BACKOFF = 0.1, 5.0
"""Seconds between starts of processes that die before their first request, doubled each time. There
is no pause after one that died sorting: its successor is fine until the next such list."""

logger = logging.getLogger("asyncio_services.workers")


@dataclass(frozen=True, slots=True)
class WorkersStatistics:
    """A snapshot of the workers. Counts are since they were opened, except where it says `now`."""

    lanes: int
    """Threads or processes that exist now, idle or busy."""
    running: int
    """Requests in a lane now."""
    waiting: int
    """Requests waiting for a lane now."""
    inline: int
    """Lists sorted by the loop itself."""
    done: int
    """Lists sorted in lanes."""
    replaced: int
    """Processes started because another had died or had been killed."""
    errors: dict[ErrorCode, int]
    """Requests to lanes that ended in an error, by its code."""
    pids: tuple[int, ...]
    """Worker processes now."""


class Lane(Protocol):
    """Something that sorts one list at a time."""

    usable: bool
    """Whether it can take another list; once False, for ever."""

    async def sort(self, payload: Payload) -> bytes | memoryview:
        """Sort `payload`. Raises SortError, or WorkerLostError if nothing was begun."""


class JobCancelledError(Exception):
    """Raised in a thread whose job was cancelled."""


class ThreadLane:
    """Sorts in a thread.

    Only gnome sort stops when it is cancelled. The others are single calls into C, as long as the
    largest payload makes them; they are waited for, but their result is lost. Who is cancelled a
    second time does not wait: nothing in asyncio can make a task.
    """

    def __init__(self, algorithm: Algorithm, threads: ThreadPoolExecutor) -> None:
        self.usable = True
        self._algorithm = algorithm
        self._threads = threads  # asyncio's own are shared with name lookups

    async def sort(self, payload: Payload) -> bytes:
        """Sort `payload`; raises SortError."""
        cancelled = threading.Event()

        def checkpoint() -> None:
            if cancelled.is_set():
                raise JobCancelledError

        sort = partial(sort_payload, payload.view(), self._algorithm, checkpoint=checkpoint)
        job = asyncio.get_running_loop().run_in_executor(self._threads, sort)
        try:
            await asyncio.wait([job])  # `await job` would give it up when cancelled
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([job])
            job.exception()  # or asyncio would log that nobody asked
            raise
        return job.result()


class Workers:
    """Sorts lists where that is best done. Made by `open_workers`."""

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        inline_max: float,
        job_deadline: float,
        max_waiting: int,
    ) -> None:
        self._algorithm = algorithm
        self._inline_max = inline_max
        self._job_deadline = job_deadline
        self._max_waiting = max_waiting
        self._idle: asyncio.Queue[Lane | None] = asyncio.Queue()
        self._waiting = 0
        self._closed = False
        self._lanes = self._running = self._inline = self._done = self._replaced = 0
        self._errors: Counter[ErrorCode] = Counter()
        self._pids: set[int] = set()

    def statistics(self) -> WorkersStatistics:
        """Return a snapshot."""
        return WorkersStatistics(
            lanes=self._lanes,
            running=self._running,
            waiting=self._waiting,
            inline=self._inline,
            done=self._done,
            replaced=self._replaced,
            errors=dict(self._errors),
            pids=tuple(sorted(self._pids)),
        )

    def sort_nowait(self, payload: Payload) -> bytes:
        """Sort, here and now, a list that is not worth handing over.

        Raises:
            BlockingIOError: It is worth it, being long or in need of the exact reader, which takes
                three times as long and more; nothing was done.
            SortError: It cannot be sorted.
        """
        if payload.size > self._inline_max:
            raise BlockingIOError
        if self._inline_max == math.inf:
            result: bytes | None = sort_payload(payload.view(), self._algorithm)
        else:
            result = sort_quickly(payload.view(), self._algorithm)
        if result is None:
            raise BlockingIOError
        self._inline += 1
        return result

    async def sort(self, payload: Payload) -> bytes | memoryview:
        """Sort a complete list. The result is valid until `payload` is closed.

        Raises:
            SortError: It cannot be sorted, or `busy`, `timeout` or `worker-failed`.

        Cancellation: ends the job and frees its core, within FINISH_GRACE in a process.
        """
        try:
            return self.sort_nowait(payload)
        except BlockingIOError:
            return await self._sort_in_lane(payload)

    async def _sort_in_lane(self, payload: Payload) -> bytes | memoryview:
        """Do what `sort` does for a list that is worth handing over."""
        try:
            while True:
                lane = await self._take_lane()
                try:
                    return await self._use_lane(lane, payload)
                except WorkerLostError:
                    continue
        except SortError as error:
            self._errors[error.code] += 1
            raise

    async def _take_lane(self) -> Lane:
        """Return an idle lane, which now is the caller's; raises SortError (`busy`)."""
        lane: Lane | None = None
        try:
            lane = self._idle.get_nowait()
        except asyncio.QueueEmpty:
            if self._waiting >= self._max_waiting:
                raise SortError(ErrorCode.BUSY, "too many lists are waiting") from None
            self._waiting += 1
            try:
                # One that comes now may overtake those who wait: asyncio's queue wakes the first
                # of them, and whoever asks before that has run gets what there is.
                async with asyncio.timeout(self._job_deadline):
                    lane = await self._idle.get()
            except TimeoutError:
                raise SortError(ErrorCode.BUSY, "no worker was free in time") from None
            finally:
                self._waiting -= 1
        if lane is None:
            self._idle.put_nowait(None)
            raise SortError(ErrorCode.BUSY, "the server is stopping")
        return lane

    async def _use_lane(self, lane: Lane, payload: Payload) -> bytes | memoryview:
        """Sort in `lane` under the deadline, and put the lane back if it is still good."""
        self._running += 1
        try:
            async with asyncio.timeout(self._job_deadline):
                result = await lane.sort(payload)
                self._done += 1
                return result
        except TimeoutError:
            message = f"not sorted within {self._job_deadline:g} s"
            raise SortError(ErrorCode.TIMEOUT, message) from None
        finally:
            self._running -= 1
            if lane.usable:
                self._put_back(lane)

    def add_lane(self, lane: Lane) -> None:
        """Offer a lane to requests, for as long as it is usable."""
        self._lanes += 1
        self._put_back(lane)

    def remove_lane(self, lane: Lane) -> None:
        """Take a lane away from requests for ever; one that has it keeps it."""
        self._lanes -= 1
        lane.usable = False
        # There is no await here, so nobody sees the queue halfway through.
        for _ in range(self._idle.qsize()):
            idle = self._idle.get_nowait()
            if idle is not lane:
                self._idle.put_nowait(idle)

    async def supervise_process(self, *, task_status: asyncio.Future[None] | None = None) -> None:
        """Keep one lane going that is a process, for ever: when it dies, start the next.

        Raises:
            WorkerStartError: The first process did not start. Later ones are tried for again.

        Cancellation: kills the process and reaps it.
        """
        async with open_worker(self._algorithm) as worker:
            if task_status is not None:
                task_status.set_result(None)
            pause = await self._run_process_lane(worker, 0.0)
        while True:
            await asyncio.sleep(pause)
            try:
                async with open_worker(self._algorithm) as worker:
                    self._replaced += 1
                    pause = await self._run_process_lane(worker, pause)
            except WorkerStartError as error:
                pause = _longer(pause)
                logger.error("%s; the next attempt is in %.1f s", error, pause)

    async def _run_process_lane(self, worker: WorkerProcess, pause: float) -> float:
        """Offer `worker` to requests until it dies; return how long to pause before the next."""
        pid = worker.process.pid or 0
        self._pids.add(pid)
        self.add_lane(worker)
        try:
            status = await worker.wait()
        finally:
            self.remove_lane(worker)
            self._pids.remove(pid)
        if not worker.killed:
            logger.warning("worker %d ended with status %s", pid, status)
        return 0.0 if worker.used else _longer(pause)

    def _put_back(self, lane: Lane) -> None:
        if not self._closed:
            self._idle.put_nowait(lane)

    def close(self) -> None:
        """Send away the requests that wait, and all that come."""
        self._closed = True
        while not self._idle.empty():
            self._idle.get_nowait()
        self._idle.put_nowait(None)  # handed on by whoever gets it; Python 3.13 has shutdown()


def _longer(pause: float) -> float:
    return min(max(2 * pause, FIRST_BACKOFF), MAX_BACKOFF)


@asynccontextmanager
async def open_workers(
    *,
    place: Place,
    algorithm: Algorithm,
    workers: int,
    job_deadline: float,
    max_waiting: int,
) -> AsyncIterator[Workers]:
    """Open workers, which are warm inside; on exit no process of theirs is left.

    Args:
        place: Where to sort; AUTO sorts short lists inline and hands the others to threads if
            Python runs without the GIL, else to processes.
        algorithm: How.
        workers: How many threads or processes.
        job_deadline: Seconds that a list may wait for a worker, and again that it may take.
        max_waiting: How many lists may wait for a worker.

    Raises:
        WorkerStartError: In an exception group: a worker process did not start.
    """
    inline_max: float = 0
    if place is Place.AUTO:
        inline_max = GNOME_INLINE_MAX_BYTES if algorithm is Algorithm.GNOME else INLINE_MAX_BYTES
        gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        place = Place.PROCESS if gil else Place.THREAD
    elif place is Place.INLINE:
        inline_max = math.inf
    pool = Workers(
        algorithm=algorithm,
        inline_max=inline_max,
        job_deadline=job_deadline,
        max_waiting=max_waiting,
    )
    supervisors: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as nursery:
        with ThreadPoolExecutor(max_workers=workers) as threads:
            if place is Place.PROCESS:
                started = []
                for _ in range(workers):
                    started.append(asyncio.get_running_loop().create_future())
                    supervise = pool.supervise_process(task_status=started[-1])
                    supervisors.append(nursery.create_task(supervise))
                await asyncio.wait(started)
            elif place is Place.THREAD:
                for _ in range(workers):
                    pool.add_lane(ThreadLane(algorithm, threads))
            if algorithm is Algorithm.VECTOR or place is not Place.PROCESS:
                await asyncio.to_thread(load_vector_path)
            try:
                yield pool
            finally:
                pool.close()
                for supervisor in supervisors:
                    supervisor.cancel()
