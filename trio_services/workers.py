"""Where sorting runs: on the loop, in threads, or in worker processes.

A loop that sorts a long list answers nobody meanwhile. So there are *lanes*, each a thread or a
process, and a request has one for itself until it has its result. Idle lanes wait in a channel,
first come, first served; so do requests while there is none. Short lists skip all that, because
handing them over would cost the loop more than sorting them: `INLINE_MAX_BYTES`.

Each process belongs to a supervising task, which starts it, waits for its death, reaps it and
starts the next. A request that is cancelled or outlives its deadline kills its process, and the
supervisor sees it die like any other. Leaving `open_workers` cancels the supervisors, and each
takes its process along. So there is no process without a task, no list of children, no stop flag.

A process that dies fails at most the request that it was working on. One that had not read its
request fails none: sorting it somewhere else is safe, since nothing was begun.

`anyio.to_process` does much of this. Measured beside it, a round trip here takes half the time, and
workers are replaced before they are needed, stay warm for ever, and do not hear Ctrl-C.
"""

import logging
import math
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

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
from trio_services.worker_process import (
    WorkerLostError,
    WorkerProcess,
    WorkerStartError,
    describe_end,
    open_worker,
)

INLINE_MAX_BYTES = 2 * 1024
"""Longest list that AUTO sorts on the loop. There, 2 KiB of integers take 18 µs of CPU, of digits
41, and 89 at the worst (a mix of short integers and floats). To hand a list over takes 26, and the
nursery in which the server watches its client meanwhile as much again.

Trio runs all tasks that are ready before it polls again, so what is sorted here adds up: when 500
clients at once sent 8 KiB of digits, DNS had a p99 of 81 ms with lists of 8 KiB sorted here, and
of 10 with this limit."""

GNOME_INLINE_MAX_BYTES = 64
"""The same for gnome sort, whose time grows with the square: 30 µs for the 32 numbers that 64 bytes
can hold, 420 for 100 numbers."""

FIRST_BACKOFF, MAX_BACKOFF = 0.1, 5.0
"""Seconds between starts of processes that die before their first request, doubled each time. There
is no pause after one that died sorting: its successor is fine until the next such list."""

_STARTS_PER_CORE = 2
"""Processes that are started at the same time. Each start is mostly CPU time, so more are not ready
any sooner, and `--workers 100000` would be too many before the first could say so."""

logger = logging.getLogger("trio_services.workers")


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


class ThreadLane:
    """Sorts in a thread, which is never abandoned.

    Only gnome sort stops when it is cancelled. The others are single calls into C, as long as the
    largest payload makes them; they are waited for, and their result is not thrown away.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.usable = True
        self._limiter = trio.CapacityLimiter(1)  # Trio's default one is shared with name lookups
        self._sort = partial(
            sort_payload, algorithm=algorithm, checkpoint=trio.from_thread.check_cancelled
        )

    async def sort(self, payload: Payload) -> bytes:
        """Sort `payload`; raises SortError."""
        return await trio.to_thread.run_sync(self._sort, payload.view(), limiter=self._limiter)


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
        self._give, self._idle = trio.open_memory_channel[Lane](math.inf)
        self._lanes = self._running = self._inline = self._done = self._replaced = 0
        self._errors: Counter[ErrorCode] = Counter()
        self._pids: set[int] = set()

    def statistics(self) -> WorkersStatistics:
        """Return a snapshot."""
        return WorkersStatistics(
            lanes=self._lanes,
            running=self._running,
            waiting=self._idle.statistics().tasks_waiting_receive,
            inline=self._inline,
            done=self._done,
            replaced=self._replaced,
            errors=dict(self._errors),
            pids=tuple(sorted(self._pids)),
        )

    def sort_nowait(self, payload: Payload) -> bytes:
        """Sort, here and now, a list that is not worth handing over.

        Raises:
            trio.WouldBlock: It is worth it, being long or in need of the exact reader, which takes
                three times as long and more; nothing was done.
            SortError: It cannot be sorted.
        """
        if payload.size > self._inline_max:
            raise trio.WouldBlock
        if self._inline_max == math.inf:
            result: bytes | None = sort_payload(payload.view(), self._algorithm)
        else:
            result = sort_quickly(payload.view(), self._algorithm)
        if result is None:
            raise trio.WouldBlock
        self._inline += 1
        return result

    async def sort(self, payload: Payload) -> bytes | memoryview:
        """Sort a complete list. The result is valid until `payload` is closed.

        Raises:
            SortError: It cannot be sorted, or `busy`, `timeout` or `worker-failed`.

        Cancellation: ends the job and frees its core, at once in a process. A result that is
        complete is returned all the same.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            result = self.sort_nowait(payload)
        except trio.WouldBlock:
            return await self._sort_in_lane(payload)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return result

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
        try:
            try:
                return self._idle.receive_nowait()
            except trio.WouldBlock:
                pass
            if self._idle.statistics().tasks_waiting_receive >= self._max_waiting:
                raise SortError(ErrorCode.BUSY, "too many lists are waiting")
            with trio.move_on_after(self._job_deadline):
                return await self._idle.receive()
        except trio.EndOfChannel:
            raise SortError(ErrorCode.BUSY, "the server is stopping") from None
        raise SortError(ErrorCode.BUSY, "no worker was free in time")

    async def _use_lane(self, lane: Lane, payload: Payload) -> bytes | memoryview:
        """Sort in `lane` under the deadline, and put the lane back if it is still good."""
        self._running += 1
        try:
            with trio.move_on_after(self._job_deadline):
                result = await lane.sort(payload)
                self._done += 1
                return result
            raise SortError(ErrorCode.TIMEOUT, f"not sorted within {self._job_deadline:g} s")
        except OSError as error:
            message = "out of memory or files, try again later"
            raise SortError(ErrorCode.BUSY, message) from error
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
        # There is no checkpoint here, so nobody sees the channel halfway through.
        for _ in range(self._idle.statistics().current_buffer_used):
            idle = self._idle.receive_nowait()
            if idle is not lane:
                self._put_back(idle)

    async def supervise_process(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep one lane going that is a process, for ever: when it dies, start the next.

        Raises:
            WorkerStartError: The first process did not start. Later ones are tried for again.

        Cancellation: kills the process and reaps it.
        """
        async with open_worker(self._algorithm) as worker:
            task_status.started()
            pause = await self._run_process_lane(worker, 0.0)
        while True:
            await trio.sleep(pause)
            try:
                async with open_worker(self._algorithm) as worker:
                    self._replaced += 1
                    pause = await self._run_process_lane(worker, pause)
            except WorkerStartError as error:
                pause = _longer(pause)
                logger.error("%s; the next attempt is in %.1f s", error, pause)

    async def _run_process_lane(self, worker: WorkerProcess, pause: float) -> float:
        """Offer `worker` to requests until it dies; return how long to pause before the next."""
        self._pids.add(worker.process.pid)
        self.add_lane(worker)
        try:
            status = await worker.process.wait()
        finally:
            self.remove_lane(worker)
            self._pids.remove(worker.process.pid)
        if not worker.killed:
            logger.warning("worker %d %s", worker.process.pid, describe_end(status))
        return 0.0 if worker.used else _longer(pause)

    def _put_back(self, lane: Lane) -> None:
        try:
            self._give.send_nowait(lane)
        except trio.ClosedResourceError:
            pass  # the workers are closed: nobody waits for a lane any more

    def close(self) -> None:
        """Send away the requests that wait, and all that come."""
        self._give.close()


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
    async with trio.open_nursery() as nursery:
        if place is Place.PROCESS:

            async def start(count: int) -> None:
                for _ in range(count):
                    await nursery.start(pool.supervise_process, name="worker")

            at_once = _STARTS_PER_CORE * (os.cpu_count() or 1)
            async with trio.open_nursery() as starting:
                for first in range(at_once):
                    count = len(range(first, workers, at_once))
                    starting.start_soon(start, count, name="start of workers")
        elif place is Place.THREAD:
            for _ in range(workers):
                pool.add_lane(ThreadLane(algorithm))
        if algorithm is Algorithm.VECTOR or place is not Place.PROCESS:
            await trio.to_thread.run_sync(load_vector_path)
        try:
            yield pool
        finally:
            pool.close()
            nursery.cancel_scope.cancel()
