"""One worker process: what its death means depends on what it had read."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.sorting import BURN, GUARD, ROOT, no_worker_starts, open_files, sort, wait_until_read
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.sort_worker import HEADER, NICENESS
from trio_services.worker_process import (
    WorkerLostError,
    WorkerProcess,
    WorkerStartError,
    describe_end,
    open_worker,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


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
