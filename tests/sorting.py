"""What tests of workers share: real ones, fake ones, and ways to watch and to break them."""

import errno
import fcntl
import gc
import json
import os
import sys
import termios
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.settings import Place
from trio_services.worker_process import WorkerLostError, WorkerProcess
from trio_services.workers import Workers, open_workers

ROOT = Path(__file__).parent.parent
GUARD = 30
"""Seconds after which a test of real processes is taken for hung; none takes one."""

BURN = json.dumps(list(range(50_000, 0, -1))).encode()
"""A list that gnome sort needs minutes for."""

open_process_workers = partial(
    open_workers,
    place=Place.PROCESS,
    algorithm=Algorithm.GNOME,
    workers=1,
    job_deadline=GUARD,
    max_waiting=10,
)


async def sort(workers: Workers | WorkerProcess, data: bytes) -> bytes:
    """Sort `data` as a list that has arrived."""
    with Payload(len(data)) as payload:
        payload.append(data)
        return bytes(await workers.sort(payload))


async def sort_for_error(workers: Workers, data: bytes) -> ErrorCode:
    """Return the code of the error that sorting `data` ends in."""
    with pytest.raises(SortError) as caught:
        await sort(workers, data)
    return caught.value.code


async def wait_until_read(peer: Any) -> None:
    """Wait until a worker has read all that was sent to it."""
    with trio.fail_after(GUARD):
        while int.from_bytes(fcntl.ioctl(peer, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
            await trio.lowlevel.checkpoint()


def is_gone(pid: int) -> bool:
    """Tell whether no such process exists, not even as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def open_files() -> int:
    """Return how many descriptors this process has open, but for other tests' garbage."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


class FakeLane:
    """A lane that sorts when it is told to."""

    def __init__(self, *, lost: bool = False) -> None:
        self.usable = True
        self.lost = lost
        self.jobs: list[bytes] = []
        self.finish = trio.Semaphore(0)

    async def sort(self, payload: Payload) -> bytes:
        """Note the job and wait to be told; raises WorkerLostError if it was made to."""
        if self.lost:
            self.usable = False
            raise WorkerLostError
        self.jobs.append(bytes(payload.view()))
        await self.finish.acquire()
        return b"sorted " + self.jobs[-1]


def fake_workers(*lanes: FakeLane, max_waiting: int = 10) -> Workers:
    """Return workers with the given lanes, whose jobs may take ten seconds."""
    workers = Workers(
        algorithm=Algorithm.AUTO, inline_max=0, job_deadline=10, max_waiting=max_waiting
    )
    for lane in lanes:
        workers.add_lane(lane)
    return workers


def fail_socketpair() -> NoReturn:
    """Fail as when the process has too many files open."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def fail_start_thread(*args: object, **options: object) -> NoReturn:
    """Fail as when there are too many threads, and none to start a process in."""
    await trio.lowlevel.checkpoint()
    raise RuntimeError("can't start new thread")


async def fail_open_process(*args: object, **options: object) -> NoReturn:
    """Fail as when there are too many processes, with the sockets already made."""
    await trio.lowlevel.checkpoint()
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


no_worker_starts = pytest.mark.parametrize(
    ("place", "failure"),
    [
        ("trio_services.worker_process.socket.socketpair", fail_socketpair),
        ("trio.lowlevel.open_process", fail_open_process),
        ("trio.lowlevel.open_process", fail_start_thread),
    ],
    ids=["no files", "no processes", "no threads"],
)
