"""Workers: where sorting runs, and what is left when it goes wrong."""

import errno
import fcntl
import gc
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.system.processes import children
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import VECTOR_MIN_BYTES, Algorithm, ErrorCode, SortError
from trio_services.settings import Place
from trio_services.sort_worker import HEADER, NICENESS
from trio_services.worker_process import (
    FINISH_GRACE,
    WorkerLostError,
    WorkerProcess,
    WorkerStartError,
    describe_end,
    open_worker,
)
from trio_services.workers import (
    FIRST_BACKOFF,
    GNOME_INLINE_MAX_BYTES,
    INLINE_MAX_BYTES,
    Workers,
    open_workers,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")

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


# Where lists are sorted.


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("place", Place)
async def test_sorts_everywhere(place: Place, algorithm: Algorithm) -> None:
    """Every place gives the same results and the same errors, short or long."""
    before = open_files()
    long = b"[" + b"1," * SHARE_ABOVE + b"0]"
    with trio.fail_after(GUARD):
        async with open_workers(
            place=place, algorithm=algorithm, workers=2, job_deadline=GUARD, max_waiting=0
        ) as workers:
            assert await sort(workers, b"[3,1,2]") == b"[1,2,3]"
            assert await sort(workers, b" " * SHARE_ABOVE + b'["b","a"]') == b'["a","b"]'
            assert await sort(workers, b"[]") == b"[]"
            # gnome sort of this list takes few steps: only the last element moves
            assert await sort(workers, long) == b"[0" + b",1" * SHARE_ABOVE + b"]"
            assert await sort(workers, b"[1e5,2]" + b" " * SHARE_ABOVE) == b"[2,100000.0]"
            assert await sort_for_error(workers, b"[1,null]") == ErrorCode.NOT_SORTABLE
            assert await sort_for_error(workers, b"[" * SHARE_ABOVE * 2) == ErrorCode.NOT_SORTABLE
            assert await sort_for_error(workers, b"") == ErrorCode.NOT_JSON
    assert open_files() == before


async def test_results_may_be_longer_than_lists() -> None:
    """A result that outgrows the shared file of its list arrives whole."""
    data = json.dumps([1] * SHARE_ABOVE).replace("1", "1e9").encode()
    with trio.fail_after(GUARD):
        async with open_process_workers(algorithm=Algorithm.TIMSORT) as workers:
            result = await sort(workers, data)
    assert len(result) > len(data)
    assert json.loads(result) == [1e9] * SHARE_ABOVE


@pytest.mark.parametrize("place", [Place.THREAD, Place.PROCESS])
async def test_sorts_like_sorted_everywhere(place: Place) -> None:
    """Any list of numbers or strings comes back as sorted() has it, from threads and processes."""
    floats = st.floats(allow_nan=False, allow_infinity=False)
    lists = st.one_of(
        st.lists(st.one_of(st.integers(), floats)),
        st.lists(floats, min_size=1),
        st.lists(st.text(st.characters(exclude_categories=()))),
    )

    async def check(workers: Workers, values: list[Any]) -> None:
        reply = json.loads(await sort(workers, json.dumps(values).encode()))
        assert list(map(repr, reply)) == list(map(repr, sorted(values)))

    with trio.fail_after(GUARD):
        async with open_process_workers(place=place, algorithm=Algorithm.VECTOR) as workers:

            @settings(max_examples=50, deadline=None, database=None)
            @given(values=lists)
            def check_any(values: list[Any]) -> None:
                trio.from_thread.run(check, workers, values)

            await trio.to_thread.run_sync(check_any)


@pytest.mark.parametrize(
    ("place", "algorithm", "inline_max"),
    [
        (Place.AUTO, Algorithm.AUTO, INLINE_MAX_BYTES),
        (Place.AUTO, Algorithm.GNOME, GNOME_INLINE_MAX_BYTES),
        (Place.INLINE, Algorithm.AUTO, 1_000_000),
        (Place.THREAD, Algorithm.AUTO, -1),
        (Place.PROCESS, Algorithm.AUTO, -1),
    ],
)
async def test_sorts_short_lists_at_once(
    place: Place, algorithm: Algorithm, inline_max: int
) -> None:
    """Lists that are not worth a hand-over are sorted without any await, others never."""
    with trio.fail_after(GUARD):
        async with open_process_workers(place=place, algorithm=algorithm) as workers:
            for size in (inline_max, inline_max + 1):
                if size < 2 or size > 1_000_000:
                    continue
                data = b"[" + b" " * (size - 2) + b"]"
                with Payload(size) as payload:
                    payload.append(data)
                    if size <= inline_max:
                        assert workers.sort_nowait(payload) == b"[]"
                        assert workers.statistics().inline == 1
                    else:
                        with pytest.raises(trio.WouldBlock):
                            workers.sort_nowait(payload)
            with Payload(2) as payload:
                payload.append(b"[]")
                if inline_max < 0:
                    with pytest.raises(trio.WouldBlock):
                        workers.sort_nowait(payload)


@pytest.mark.parametrize("data", [b"[98765432109876543210,0.5]", b"[1,]", b'["\\ud800"]'])
async def test_the_exact_reader_is_not_for_the_loop(data: bytes) -> None:
    """A list that is short and yet slow to read goes to a lane, unless there is none."""
    with trio.fail_after(GUARD), Payload(len(data)) as payload:
        payload.append(data)
        async with open_process_workers(place=Place.AUTO, algorithm=Algorithm.AUTO) as workers:
            with pytest.raises(trio.WouldBlock):
                workers.sort_nowait(payload)
            assert workers.statistics().inline == 0
        async with open_process_workers(place=Place.INLINE, algorithm=Algorithm.AUTO) as workers:
            with suppress(SortError):
                assert workers.sort_nowait(payload)


def test_the_loop_never_loads_the_vector_path() -> None:
    """No list that AUTO sorts on the loop imports numpy there: a stall of 60 ms."""
    assert INLINE_MAX_BYTES < VECTOR_MIN_BYTES


async def test_threads_are_used_where_they_run_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTO starts no processes on a Python without the GIL."""
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    async with open_process_workers(place=Place.AUTO, workers=3) as workers:
        statistics = workers.statistics()
    assert statistics.lanes == 3
    assert statistics.pids == ()


# Whose turn it is, with lanes that do as they are told.


async def test_waits_its_turn() -> None:
    """Requests get lanes in the order in which they came."""
    lane = FakeLane()
    workers = fake_workers(lane)
    async with trio.open_nursery() as nursery:
        for number in b"12345":
            nursery.start_soon(sort, workers, bytes([number]))
            await wait_all_tasks_blocked()
        statistics = workers.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (1, 1, 4)
        for _ in range(5):
            lane.finish.release()
    assert b"".join(lane.jobs) == b"12345"
    assert workers.statistics().done == 5


async def test_busy_when_too_many_wait() -> None:
    """One request more than may wait is refused at once."""
    workers = fake_workers(FakeLane(), max_waiting=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        nursery.start_soon(sort, workers, b"2")
        await wait_all_tasks_blocked()
        assert await sort_for_error(workers, b"3") == ErrorCode.BUSY
        assert workers.statistics().errors == {ErrorCode.BUSY: 1}
        nursery.cancel_scope.cancel()


async def test_busy_when_no_lane_is_free_in_time(autojump_clock: MockClock) -> None:
    """A request that finds no lane within the deadline is refused."""
    workers = fake_workers()
    start = trio.current_time()
    assert await sort_for_error(workers, b"1") == ErrorCode.BUSY
    assert trio.current_time() - start == pytest.approx(10)


async def test_timeout_when_it_takes_too_long(autojump_clock: MockClock) -> None:
    """The deadline of a job counts from when it has its lane, and the lane goes back."""
    lane = FakeLane()
    workers = fake_workers(lane)
    codes: list[tuple[ErrorCode, int]] = []
    start = trio.current_time()

    async def note_error(data: bytes) -> None:
        code = await sort_for_error(workers, data)
        codes.append((code, round(trio.current_time() - start)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note_error, b"1")
        await trio.sleep(5)
        nursery.start_soon(note_error, b"2")
    assert codes == [(ErrorCode.TIMEOUT, 10), (ErrorCode.TIMEOUT, 20)]
    assert workers.statistics().running == 0


async def test_cancelled_waiting_loses_no_lane() -> None:
    """A request that gives up waiting neither takes a lane nor keeps one from others."""
    lane = FakeLane()
    workers = fake_workers(lane)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        await wait_all_tasks_blocked()
        with trio.CancelScope() as waiting:
            nursery.start_soon(sort, workers, b"2")
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as inner:
                inner.start_soon(sort, workers, b"3")
                await wait_all_tasks_blocked()
                lane.finish.release()
                waiting.cancel()
        lane.finish.release()
    assert lane.jobs == [b"1", b"2"]
    assert workers.statistics().waiting == 0


async def test_cancelled_before_it_began_begins_nothing() -> None:
    """A request in a cancelled scope does not take a lane, which it would have to kill."""
    lane = FakeLane()
    with trio.CancelScope() as scope:
        scope.cancel()
        await sort(fake_workers(lane), b"1")
    assert scope.cancelled_caught
    assert lane.jobs == []


async def test_lost_lanes_are_passed_over() -> None:
    """A request outlives any number of workers that died before they read it."""
    good = FakeLane()
    good.finish.release()
    workers = fake_workers(FakeLane(lost=True), FakeLane(lost=True), good)
    assert await sort(workers, b"1") == b"sorted 1"


async def test_removed_lanes_are_not_given_out() -> None:
    """A lane that is taken away is never used again, idle or busy; the others keep their order."""
    lanes = [FakeLane(), FakeLane(), FakeLane()]
    workers = fake_workers(*lanes)
    workers.remove_lane(lanes[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        await wait_all_tasks_blocked()
        nursery.start_soon(sort, workers, b"2")
        await wait_all_tasks_blocked()
        workers.remove_lane(lanes[0])
        for lane in lanes * 2:
            lane.finish.release()
    assert await sort(workers, b"3") == b"sorted 3"
    assert [lane.jobs for lane in lanes] == [[b"1"], [], [b"2", b"3"]]
    assert workers.statistics().lanes == 1


async def test_closing_sends_the_waiting_away() -> None:
    """When the workers close, requests that wait are refused, and so are later ones."""
    workers = fake_workers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort_for_error, workers, b"1")
        await wait_all_tasks_blocked()
        workers.close()
    assert await sort_for_error(workers, b"2") == ErrorCode.BUSY
    assert workers.statistics().errors == {ErrorCode.BUSY: 2}


async def test_a_lane_that_comes_back_after_closing_is_dropped() -> None:
    """A job that ends after the workers were closed still has its result."""
    lane = FakeLane()
    workers = fake_workers(lane)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        await wait_all_tasks_blocked()
        workers.close()
        lane.finish.release()
    assert workers.statistics().done == 1


# Threads.


async def test_cancelled_gnome_sort_leaves_its_thread() -> None:
    """A cancelled gnome sort stops burning its core, and its lane is free again."""
    with trio.fail_after(GUARD):
        async with open_process_workers(place=Place.THREAD) as workers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sort, workers, BURN)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert await sort(workers, b"[2,1]") == b"[1,2]"


# One worker process: what its death means depends on what it had read.


async def test_death_after_reading_fails_the_request() -> None:
    """A worker that is killed while it sorts fails its request."""
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.GNOME) as worker:
            async with trio.open_nursery() as nursery:

                async def fail() -> None:
                    with pytest.raises(SortError) as caught:
                        await sort(worker, BURN)
                    assert caught.value.code == ErrorCode.WORKER_FAILED

                nursery.start_soon(fail)
                await wait_all_tasks_blocked()
                await wait_until_read(worker.peer)
                os.kill(worker.process.pid, signal.SIGKILL)
            assert not worker.usable
            assert not worker.killed


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not tell")
@pytest.mark.parametrize("data", [b"[2,1]", BURN], ids=["in the socket", "in a shared file"])
async def test_death_before_reading_loses_nothing(data: bytes) -> None:
    """A worker that dies with the request unread says so: it may go to another."""
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.GNOME) as worker:
            os.kill(worker.process.pid, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:

                async def lose() -> None:
                    with pytest.raises(WorkerLostError):
                        await sort(worker, data)

                nursery.start_soon(lose)
                await wait_all_tasks_blocked()
                os.kill(worker.process.pid, signal.SIGKILL)
            with pytest.raises(WorkerLostError):
                await sort(worker, data)


async def test_cancelling_kills_a_long_job() -> None:
    """A job that is cancelled frees its core."""
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.GNOME) as worker:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sort, worker, BURN)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert worker.killed
            assert await worker.process.wait() == -signal.SIGKILL


async def test_cancelling_lets_a_short_job_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled job that ends sooner than a new worker starts leaves its worker as it was."""
    monkeypatch.setattr("trio_services.worker_process.FINISH_GRACE", GUARD)
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.TIMSORT) as worker:
            os.kill(worker.process.pid, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sort, worker, b"[2,1]")
                await wait_all_tasks_blocked()
                os.kill(worker.process.pid, signal.SIGCONT)
                nursery.cancel_scope.cancel()
            assert worker.usable
            assert await sort(worker, b"[4,3]") == b"[3,4]"


@pytest.mark.parametrize("stopped", [True, False], ids=["unread", "being read"])
async def test_cancelling_a_half_sent_request_ends_its_worker(stopped: bool) -> None:
    """A worker that has half a request takes no other list: it would read that as the rest."""
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.TIMSORT) as worker:
            worker.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            os.kill(worker.process.pid, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sort, worker, b"[" + b" " * (SHARE_ABOVE - 2) + b"]")
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                if not stopped:
                    os.kill(worker.process.pid, signal.SIGCONT)
            assert worker.killed
            with pytest.raises(WorkerLostError):
                await sort(worker, b"[2,1]")
            assert await worker.process.wait() == -signal.SIGKILL


async def test_a_worker_that_says_too_much_is_ended() -> None:
    """Two replies to one list fail that list; the second never goes to the next client."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        async with open_worker(Algorithm.TIMSORT) as running:
            worker = WorkerProcess(running.process, ours)
            theirs.sendall((HEADER.pack(False, 3) + b"[1]") * 2)
            with trio.fail_after(GUARD), pytest.raises(SortError) as caught:
                await sort(worker, b"[2]")
            assert caught.value.code == ErrorCode.WORKER_FAILED
            assert not worker.usable


class Unmappable(Payload):
    """A payload in a file, for whose result there is no descriptor left."""

    def view(self, size: int | None = None) -> memoryview:
        """Fail as mmap does."""
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_result_that_cannot_be_mapped_is_not_the_next_ones() -> None:
    """When there is no descriptor for a result, that request fails, and the next gets its own."""
    with trio.fail_after(GUARD), Unmappable(5, share_above=0) as payload:
        payload.append(b"[3,1]")
        async with open_worker(Algorithm.TIMSORT) as worker:
            with pytest.raises(OSError, match="Too many open files"):
                await worker.sort(payload)
            assert await sort(worker, b"[2,1]") == b"[1,2]"


async def test_worker_is_nice_and_alone_in_its_group() -> None:
    """A worker yields to the loop, and does not hear Ctrl-C."""
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.AUTO) as worker:
            pid = worker.process.pid
            niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(niceness, 19)
            assert os.getpgid(pid) == pid
            os.kill(pid, signal.SIGINT)
            assert await sort(worker, b"[2,1]") == b"[1,2]"


async def test_a_worker_that_is_stopped_while_it_reads_goes_on() -> None:
    """A request that arrives in pieces, with a stop between them, is read to its end."""
    data = b"[" + b" " * 20_000 + b"2,1]"
    request = HEADER.pack(False, len(data)) + data
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.TIMSORT) as worker:
            for piece in (request[:5], request[5:15_000]):
                assert worker.peer.send(piece) == len(piece)
                await wait_until_read(worker.peer)
                os.kill(worker.process.pid, signal.SIGSTOP)
                os.waitid(os.P_PID, worker.process.pid, os.WSTOPPED)  # noqa: ASYNC222 (at once)
                os.kill(worker.process.pid, signal.SIGCONT)
                os.waitid(os.P_PID, worker.process.pid, os.WCONTINUED)  # noqa: ASYNC222 (at once)
            worker.peer.send(request[15_000:])
            await trio.lowlevel.wait_readable(worker.peer)
            assert worker.peer.recv(100) == HEADER.pack(False, 5) + b"[1,2]"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_worker_keeps_nothing_of_its_jobs() -> None:
    """After long jobs, good and bad, a worker has no file and no mapping left of them."""
    with trio.fail_after(GUARD):
        async with open_worker(Algorithm.AUTO) as worker:
            proc = Path(f"/proc/{worker.process.pid}")
            before = len(list((proc / "fd").iterdir()))
            await sort(worker, b"[" + b"1," * SHARE_ABOVE + b"0]")
            with pytest.raises(SortError):
                await sort(worker, b"[" * SHARE_ABOVE * 2)
            assert await sort(worker, b"[1]") == b"[1]"  # it has let go of the jobs before
            assert len(list((proc / "fd").iterdir())) == before
            assert "sort-payload" not in (proc / "maps").read_text()
            assert "sort-payload" not in (proc.parent / "self/maps").read_text()


def test_worker_never_imports_trio() -> None:
    """A worker starts quickly because it does not load what only the server needs."""
    program = (
        "import sys, trio_services.sort_worker as worker; worker.load_vector_path();"
        "sys.exit('trio' in sys.modules or 'typer' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert result.returncode == 0


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


@no_worker_starts
async def test_no_worker_without_files_or_processes(
    place: str, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system has none left of is named, and nothing stays open."""
    before = open_files()
    monkeypatch.setattr(place, failure)
    with pytest.raises(WorkerStartError, match="no worker can be started: "):
        async with open_worker(Algorithm.AUTO):
            pytest.fail("opened")
    assert open_files() == before


# Supervised processes.


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


async def test_no_file_for_a_result_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for whose result there is no descriptor left is told to come again."""

    async def fail(worker: WorkerProcess, payload: Payload) -> NoReturn:
        await trio.lowlevel.checkpoint()
        fail_socketpair()

    monkeypatch.setattr(FakeLane, "sort", fail)
    workers = fake_workers(FakeLane())
    assert await sort_for_error(workers, b"1") == ErrorCode.BUSY
    assert workers.statistics().running == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "ended with status 1"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-signal.SIGRTMAX + 1, f"was killed by signal {signal.SIGRTMAX - 1}"),
    ],
)
def test_ends_are_told_in_words(status: int, words: str) -> None:
    """The log names the signal that ended a worker."""
    assert describe_end(status) == words


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
from tests.test_workers import *
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
