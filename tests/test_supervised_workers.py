"""Supervised worker processes: a dead one is replaced, and nothing outlives the pool."""

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.sorting import (
    BURN,
    GUARD,
    ROOT,
    FakeLane,
    is_gone,
    no_worker_starts,
    open_files,
    open_process_workers,
    sort,
    sort_for_error,
    wait_until_read,
)
from tests.system.processes import children
from trio_services.sans_io.payload import SHARE_ABOVE
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.worker_process import FINISH_GRACE, WorkerProcess, WorkerStartError, open_worker
from trio_services.workers import FIRST_BACKOFF

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess]:
    """All worker processes that a test has opened, in that order."""
    workers = []

    @asynccontextmanager
    async def open_and_note(algorithm: Algorithm) -> AsyncIterator[WorkerProcess]:
        async with open_worker(algorithm) as worker:
            workers.append(worker)
            yield worker

    monkeypatch.setattr("trio_services.workers.open_worker", open_and_note)
    return workers


async def test_start_that_fails_is_loud(
    monkeypatch: pytest.MonkeyPatch, opened: list[WorkerProcess]
) -> None:
    """If no worker can start, opening them fails, and says so."""
    before = open_files()
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with trio.fail_after(GUARD), pytest.raises(ExceptionGroup) as caught:
        async with open_process_workers(workers=2):
            pytest.fail("opened")
    matched, rest = caught.value.split(WorkerStartError)
    assert matched is not None
    assert rest is None
    assert opened == []
    assert open_files() == before


@no_worker_starts
async def test_a_server_without_files_or_processes_serves_on(
    place: str,
    failure: Any,
    opened: list[WorkerProcess],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that cannot be replaced is replaced as soon as it can be."""
    monkeypatch.setattr("trio_services.workers.FIRST_BACKOFF", 0.01)
    with trio.fail_after(GUARD):
        async with open_process_workers() as workers:
            with monkeypatch.context() as failing:
                failing.setattr(place, failure)
                opened[0].process.kill()
                while "the next attempt is in" not in caplog.text:
                    await wait_all_tasks_blocked(0.001)
            assert await sort(workers, b"[2,1]") == b"[1,2]"
            assert workers.statistics().replaced == 1


async def test_killed_while_sorting_fails_one_request(opened: list[WorkerProcess]) -> None:
    """kill -9 fails the request that was being sorted, and the next one succeeds."""
    with trio.fail_after(GUARD):
        async with open_process_workers() as workers:
            async with trio.open_nursery() as nursery:

                async def fail() -> None:
                    assert await sort_for_error(workers, BURN) == ErrorCode.WORKER_FAILED

                nursery.start_soon(fail)
                await wait_all_tasks_blocked()
                await wait_until_read(opened[0].peer)
                os.kill(opened[0].process.pid, signal.SIGKILL)
            assert await sort(workers, b"[2,1]") == b"[1,2]"
            assert workers.statistics().replaced == 1
            assert workers.statistics().pids == (opened[1].process.pid,)
            assert is_gone(opened[0].process.pid)


async def test_killed_while_idle_fails_none(
    opened: list[WorkerProcess], caplog: pytest.LogCaptureFixture
) -> None:
    """kill -9 of idle workers fails no request, not even one that comes at the same moment."""
    with trio.fail_after(GUARD):
        async with open_process_workers(workers=2) as workers:
            for worker in opened:
                os.kill(worker.process.pid, signal.SIGKILL)
            assert await sort(workers, b"[2,1]") == b"[1,2]"
            assert workers.statistics().errors == {}
    assert "was killed by SIGKILL" in caplog.text


async def test_cancelled_job_is_killed_and_replaced(opened: list[WorkerProcess]) -> None:
    """Cancelling a request kills its worker, and another takes its place."""
    with trio.fail_after(GUARD):
        async with open_process_workers() as workers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sort, workers, BURN)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert await sort(workers, b"[2,1]") == b"[1,2]"
            assert len(opened) == 2
            assert is_gone(opened[0].process.pid)


async def test_deadline_kills_and_replaces(opened: list[WorkerProcess]) -> None:
    """A job that outlives its deadline ends in a timeout, and its worker is replaced."""
    with trio.fail_after(GUARD):
        async with open_process_workers(job_deadline=FINISH_GRACE) as workers:
            assert await sort_for_error(workers, BURN) == ErrorCode.TIMEOUT
            while not workers.statistics().replaced:
                await wait_all_tasks_blocked(0.001)
            assert is_gone(opened[0].process.pid)
            assert workers.statistics().pids == (opened[1].process.pid,)


async def test_replies_are_never_mixed_up(opened: list[WorkerProcess]) -> None:
    """Among jobs that are cancelled and workers that are killed, each reply is that of its list."""
    replies = 0

    async def check(scope: trio.CancelScope, number: int, size: int) -> None:
        nonlocal replies
        expected = json.dumps([number] * size, separators=(",", ":")).encode()
        with scope:
            try:
                assert await sort(workers, expected) == expected
            except SortError as error:
                if error.code != ErrorCode.WORKER_FAILED:
                    raise
            else:
                replies += 1

    with trio.fail_after(GUARD):
        async with open_process_workers(algorithm=Algorithm.TIMSORT, workers=2) as workers:
            for number in range(100, 140):
                scopes = [trio.CancelScope() for _ in range(4)]
                async with trio.open_nursery() as nursery:
                    for place, scope in enumerate(scopes):
                        size = SHARE_ABOVE if place == number % 4 else number
                        nursery.start_soon(check, scope, number * 10 + place, size)
                    await wait_all_tasks_blocked()
                    scopes[number % 3].cancel()
                    if number % 10 == 0:
                        opened[-1].process.kill()
    assert replies >= 40


async def test_closing_leaves_nothing(opened: list[WorkerProcess]) -> None:
    """Leaving with jobs running and waiting leaves no process and no open file."""
    before = open_files()
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                code = await sort_for_error(workers, BURN)
                assert code in {ErrorCode.WORKER_FAILED, ErrorCode.BUSY}

            async with open_process_workers(workers=2) as workers:
                for _ in range(3):
                    nursery.start_soon(fail)
                await wait_all_tasks_blocked()
                assert workers.statistics().running == 2
                assert workers.statistics().waiting == 1
            assert all(is_gone(worker.process.pid) for worker in opened)
    assert len(opened) == 2
    assert open_files() == before


@pytest.mark.parametrize("passes", range(4))
async def test_cancelled_while_starting_leaves_nothing(passes: int) -> None:
    """Whenever opening is cancelled, no process and no open file is left."""
    before = open_files(), children(os.getpid())  # other tests' helpers may live on

    async def open_and_stay() -> None:
        async with open_process_workers(workers=2):
            await trio.sleep_forever()

    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_and_stay)
            for _ in range(passes):
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert (open_files(), children(os.getpid())) == before


async def test_few_workers_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many workers are wanted, no more start at a time than the cores can bear."""
    starting = 0
    most = 0

    class Process:
        async def wait(self) -> NoReturn:
            """Live for ever."""
            await trio.sleep_forever()

        @property
        def pid(self) -> int:
            """Return a number that no other has."""
            return id(self)

    class Living(FakeLane):
        def __init__(self) -> None:
            super().__init__()
            self.process = Process()

    @asynccontextmanager
    async def open_slowly(algorithm: Algorithm) -> AsyncIterator[FakeLane]:
        nonlocal starting, most
        starting += 1
        most = max(most, starting)
        await wait_all_tasks_blocked()
        starting -= 1
        yield Living()

    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("trio_services.workers.open_worker", open_slowly)
    async with open_process_workers(workers=20) as workers:
        assert workers.statistics().lanes == 20
    assert most == 6


async def test_restarts_are_tried_again_with_pauses(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When replacements fail to start, they are tried for ever, less and less often, and logged."""
    attempts: list[float] = []

    class Process:
        pid = 1

        async def wait(self) -> int:
            """Die at once."""
            await trio.lowlevel.checkpoint()
            return 1

    class ShortLived(FakeLane):
        process = Process()
        used = False
        killed = False

    @asynccontextmanager
    async def open_once(algorithm: Algorithm) -> AsyncIterator[FakeLane]:
        await trio.lowlevel.checkpoint()
        attempts.append(trio.current_time())
        if len(attempts) > 3:
            raise WorkerStartError("worker 1 did not become ready")
        yield ShortLived()

    monkeypatch.setattr("trio_services.workers.open_worker", open_once)
    with caplog.at_level(logging.WARNING), trio.move_on_after(60):
        async with open_process_workers() as workers:
            await trio.sleep_forever()
    pauses = [after - before for before, after in pairwise(attempts)]
    assert pauses[:4] == pytest.approx([FIRST_BACKOFF * 2**n for n in range(4)])
    assert pauses[-1] == pytest.approx(5)
    assert "did not become ready; the next attempt is in 5.0 s" in caplog.text
    assert workers.statistics().pids == ()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_worker_dies_with_a_killed_server() -> None:
    """When the server is killed, a worker in the middle of a job is gone soon after."""
    program = f"""
import sys, trio
sys.path.insert(0, {str(ROOT)!r})
from tests.sorting import BURN, sort, wait_until_read
from trio.testing import wait_all_tasks_blocked
from trio_services.sans_io.sort_jobs import Algorithm
from trio_services.worker_process import open_worker
async def main():
    async with open_worker(Algorithm.GNOME) as worker, trio.open_nursery() as nursery:
        nursery.start_soon(sort, worker, BURN)
        await wait_all_tasks_blocked()
        await wait_until_read(worker.peer)
        print(worker.process.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            pidfd = os.pidfd_open(int(server.stdout.readline()))
        finally:
            server.kill()
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    gone = poll.poll(GUARD * 1000)
    os.close(pidfd)
    assert gone
