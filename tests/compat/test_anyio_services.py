"""The AnyIO variant on each of its backends: what its own files add to the shared contract.

Plain test functions that call `anyio.run`: pytest's own loop is Trio, and these are about the
others too. What all variants promise is in `tests/contract`.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_process
import psutil
import pytest
from anyio.abc import SocketListener, SocketStream
from anyio_services import app, cli, workers
from anyio_services.connections import Connections, Handler, Stream, accept_all
from anyio_services.five_sleepers import run_sleepers
from anyio_services.sort_worker import NICENESS
from anyio_services.workers import Workers, open_workers
from trio.testing import MockClock

from tests.system.serving import ENDLESS_LIST, environment
from trio_services import workers as trio_workers
from trio_services.listeners import bind_copies
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.settings import Address, ConnectionLimits, Place, ServeSettings, SortSettings

COMPAT = Path(cli.__file__).parents[1]

BACKENDS = [
    pytest.param(
        backend,
        marks=pytest.mark.skipif(find_spec(backend) is None, reason=f"{backend} is not installed"),
    )
    for backend in cli.Backend
]

GUARD = 60
"""Seconds after which a test of real processes is taken for hung; none takes two."""

MANY = ConnectionLimits(total=100, per_address=100)
NOBODY = ConnectionLimits(total=0, per_address=0)

REFUSAL = b"too many"

Run = Callable[..., Any]


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run an async function on a backend of AnyIO, for a while at most."""

    async def guarded(function: Callable[[], Any]) -> Any:
        with anyio.fail_after(GUARD):
            return await function()

    return partial(cli.run_on(request.param), guarded)


# Services and signals.


INLINE = ServeSettings(
    dns=None, sort=SortSettings(addresses=(Address("127.0.0.1", 0),), sort_in=Place.INLINE)
)


def test_it_ends_when_until_returns(run: Run) -> None:
    """Whoever embeds the services can end them without a signal."""

    async def check() -> None:
        [sockets] = bind_copies(INLINE)
        end = anyio.Event()
        async with anyio.create_task_group() as nursery:
            await nursery.start(partial(app.serve, INLINE, sockets, None, until=end.wait))
            end.set()

    run(check)


def test_signals_are_obeyed_while_workers_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose workers do not get ready ends at the first signal."""

    async def check() -> None:
        waiting = anyio.Event()

        @asynccontextmanager
        async def never_warm(**_: object) -> AsyncIterator[None]:
            waiting.set()
            await anyio.sleep_forever()
            yield

        monkeypatch.setattr(app, "open_workers", never_warm)
        [sockets] = bind_copies(INLINE)
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(app.serve, INLINE, sockets, None)
            await waiting.wait()
            signal.raise_signal(signal.SIGTERM)

    run(check)


def test_signals_do_not_pile_up(run: Run) -> None:
    """Many SIGHUPs during a reload are answered by one more; the second SIGTERM cancels."""

    async def check() -> None:
        send, signals = anyio.create_memory_object_stream[int](100)
        go_on, cancelled, again = anyio.Event(), anyio.Event(), anyio.Event()
        first = anyio.Event()
        reloads = 0

        async def reload() -> None:
            nonlocal reloads
            reloads += 1
            (again if first.is_set() else first).set()
            await go_on.wait()

        accepting = anyio.CancelScope()
        with send, signals:
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(
                    partial(app.obey_signals, reload=reload, cancel=cancelled.set),
                    signals,
                    accepting,
                )
                send.send_nowait(signal.SIGHUP)
                await first.wait()
                for _ in range(50):
                    send.send_nowait(signal.SIGHUP)
                send.send_nowait(signal.SIGTERM)
                with accepting:
                    await anyio.sleep_forever()
                assert reloads == 1
                assert not cancelled.is_set()
                go_on.set()
                await again.wait()
                send.send_nowait(signal.SIGTERM)
                await cancelled.wait()
                assert reloads == 2
                nursery.cancel_scope.cancel()

    run(check)


# Connections.


@asynccontextmanager
async def serving(
    handler: Handler, limits: ConnectionLimits = MANY
) -> AsyncIterator[tuple[Connections, Callable[[], Any]]]:
    """Yield connections, and a function that opens one over TCP and returns its client."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = await SocketListener.from_socket(sock)
        async with listener, anyio.create_task_group() as everything:
            served = Connections("test", everything, limits, handler, refusal=REFUSAL)
            everything.start_soon(accept_all, listener, served.admit)
            yield served, partial(anyio.connect_tcp, *sock.getsockname())
            everything.cancel_scope.cancel()


async def echo(stream: Stream, connections: Connections) -> None:
    """Send back what comes until the client stops."""
    async for data in stream:
        await stream.send(data)


async def read_all(client: SocketStream) -> bytes:
    """Return what the server sends until it closes."""
    return b"".join([data async for data in client])


def test_a_connection_is_served_and_closed(run: Run) -> None:
    """A handler gets a stream, which is closed when the handler returns."""

    async def check() -> None:
        async with serving(echo) as (served, connect), await connect() as client:
            await client.send(b"hello")
            await client.send_eof()
            assert await read_all(client) == b"hello"
            assert served.statistics().accepted == 1
            assert served.statistics().open == 0

    run(check)


def test_a_refusal_arrives_although_bytes_are_unread(run: Run) -> None:
    """A client that has sent its request before it was refused reads why."""

    async def check() -> None:
        async with serving(echo, NOBODY) as (served, connect), await connect() as client:
            await client.send(b"request")
            assert await read_all(client) == REFUSAL
            assert served.statistics().refused == 1
            assert served.statistics().open == 0

    run(check)


def test_a_crash_is_contained(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """An exception ends its connection and is logged once; siblings live."""

    async def crash_on_demand(stream: Stream, connections: Connections) -> None:
        async for data in stream:
            if data == b"crash":
                raise ValueError("a bug")
            await stream.send(data)

    async def check() -> None:
        async with serving(crash_on_demand) as (served, connect), await connect() as survivor:
            for _ in range(2):
                async with await connect() as client:
                    await client.send(b"crash")
                    assert await read_all(client) == b""
            await survivor.send(b"still here")
            assert await survivor.receive() == b"still here"
            assert served.statistics().crashed == 2

    run(check)
    assert caplog.messages == ["unexpected error in test connection"]


def test_draining_closes_the_idle_and_leaves_the_busy(run: Run) -> None:
    """A connection without a request is closed; one with a request ends when it is served."""

    async def check() -> None:
        finish, busy = anyio.Event(), anyio.Event()

        async def patient(stream: Stream, connections: Connections) -> None:
            with connections.patience() as patience:
                patience.wait_for_request(GUARD)
                await stream.receive()
                patience.allow(GUARD)
                busy.set()
                await finish.wait()
                await stream.send(b"done")
                patience.wait_for_request(GUARD)
                await stream.receive()
            assert patience.expired

        async with (
            serving(patient) as (served, connect),
            await connect() as idle,
            await connect() as working,
        ):
            await working.send(b"work")
            await busy.wait()
            served.drain()
            assert await read_all(idle) == b""
            finish.set()
            assert await read_all(working) == b"done"
            assert served.statistics().open == 0

    run(check)


def test_nothing_is_read_that_nobody_receives(run: Run) -> None:
    """A client whose handler does not receive fills the kernel's buffers, and not our memory."""

    async def check() -> None:
        stop = anyio.Event()
        sent = 0

        async def deaf(stream: Stream, connections: Connections) -> None:
            await stop.wait()

        async with serving(deaf) as (_, connect), await connect() as client:
            with anyio.move_on_after(0.3):
                while True:
                    await client.send(bytes(2**20))
                    sent += 2**20
            stop.set()
        assert sent < 64 * 2**20

    run(check)


# Workers.


async def sort(pool: Workers, data: bytes) -> bytes:
    """Sort `data` as a list that has arrived."""
    with Payload(len(data)) as payload:
        payload.append(data)
        return bytes(await pool.sort(payload))


async def sort_for_error(pool: Workers, data: bytes) -> ErrorCode:
    """Return the code of the error that sorting `data` ends in."""
    with pytest.raises(SortError) as caught:
        await sort(pool, data)
    return caught.value.code


async def wait_busy(worker: psutil.Process) -> None:
    """Wait until a process uses the CPU."""
    before = sum(worker.cpu_times()[:2])
    while sum(worker.cpu_times()[:2]) < before + 0.03:  # noqa: ASYNC110 - there are no events
        await anyio.sleep(0.01)


open_process_workers = partial(
    open_workers,
    place=Place.PROCESS,
    algorithm=Algorithm.GNOME,
    workers=1,
    job_deadline=GUARD,
    max_waiting=10,
)


@pytest.mark.parametrize("place", Place)
def test_sorts_everywhere(run: Run, place: Place) -> None:
    """Every place gives the same results and the same errors, short or long."""

    async def check() -> None:
        long = b"[" + b"1," * SHARE_ABOVE + b"0]"
        async with open_process_workers(
            place=place, algorithm=Algorithm.AUTO, workers=2, max_waiting=0
        ) as pool:
            assert await sort(pool, b"[3,1,2]") == b"[1,2,3]"
            assert await sort(pool, long) == b"[0" + b",1" * SHARE_ABOVE + b"]"
            assert await sort(pool, b"[1e5,2]" + b" " * SHARE_ABOVE) == b"[2,100000.0]"
            assert await sort_for_error(pool, b"[1,null]") == ErrorCode.NOT_SORTABLE
            assert await sort_for_error(pool, b"[" * SHARE_ABOVE * 2) == ErrorCode.NOT_SORTABLE
            assert await sort_for_error(pool, b"") == ErrorCode.NOT_JSON

    run(check)


def test_killed_while_sorting_fails_one_request(run: Run) -> None:
    """kill -9 fails the request that was being sorted, and the next one succeeds."""

    async def check() -> None:
        async with open_process_workers() as pool, anyio.create_task_group() as requests:
            [worker] = psutil.Process().children()

            async def fail() -> None:
                assert await sort_for_error(pool, ENDLESS_LIST) == ErrorCode.WORKER_FAILED

            requests.start_soon(fail)
            await wait_busy(worker)
            worker.kill()
            assert await sort(pool, b"[2,1]") == b"[1,2]"
            assert pool.statistics().errors == {ErrorCode.WORKER_FAILED: 1}

    run(check)


def test_a_cancelled_job_is_killed(run: Run) -> None:
    """Cancelling a request ends its process, and the next request has another."""

    async def check() -> None:
        async with open_process_workers() as pool:
            [worker] = psutil.Process().children()
            async with anyio.create_task_group() as requests:
                requests.start_soon(sort, pool, ENDLESS_LIST)
                await wait_busy(worker)
                requests.cancel_scope.cancel()
            assert not worker.is_running()
            assert await sort(pool, b"[2,1]") == b"[1,2]"

    run(check)


@pytest.mark.parametrize("error", [anyio.BrokenWorkerProcess, ProcessLookupError])
def test_a_worker_that_does_not_start_fails_its_request(
    run: Run, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a worker cannot be replaced, the client is told, be its list short or long.

    The library raises either error. (It does not close what it had opened for that process, so no
    real one is started here.)
    """

    async def fail(*arguments: object, **options: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    async def check() -> None:
        async with open_process_workers() as pool:
            monkeypatch.setattr(anyio.to_process, "run_sync", fail)
            for data in (b"[2,1]", b"[2,1]" + b" " * SHARE_ABOVE):
                assert await sort_for_error(pool, data) == ErrorCode.WORKER_FAILED
            assert pool.statistics().running == 0

    run(check)


def test_a_deadline_ends_the_job(run: Run) -> None:
    """A job that outlives its deadline ends in a timeout, and so does its process."""

    async def check() -> None:
        async with open_process_workers(job_deadline=0.3) as pool:
            [worker] = psutil.Process().children()
            assert await sort_for_error(pool, ENDLESS_LIST) == ErrorCode.TIMEOUT
            assert not worker.is_running()

    run(check)


def test_a_cancelled_gnome_sort_leaves_its_thread(run: Run) -> None:
    """A cancelled gnome sort stops burning its core, and its lane is free again."""

    async def check() -> None:
        async with open_process_workers(place=Place.THREAD) as pool:
            with anyio.move_on_after(0.1):
                await sort(pool, ENDLESS_LIST)
            assert await sort(pool, b"[2,1]") == b"[1,2]"

    run(check)


def test_busy_when_too_many_wait(run: Run) -> None:
    """One request more than may wait is refused at once."""

    async def check() -> None:
        async with open_process_workers(max_waiting=1) as pool:
            async with anyio.create_task_group() as requests:
                requests.start_soon(sort, pool, ENDLESS_LIST)
                # Trio starts tasks in random order; the short one would be done before we look.
                await anyio.wait_all_tasks_blocked()
                requests.start_soon(sort, pool, b"[2,1]")
                await anyio.wait_all_tasks_blocked()
                statistics = pool.statistics()
                assert (statistics.running, statistics.waiting) == (1, 1)
                assert await sort_for_error(pool, b"[4,3]") == ErrorCode.BUSY
                requests.cancel_scope.cancel()
            assert pool.statistics().running == 0

    run(check)


def test_busy_when_no_lane_is_free_in_time(run: Run) -> None:
    """A list waits for a lane as long as it may then take, and no longer."""

    async def check() -> None:
        async with (
            open_process_workers(job_deadline=0.3) as pool,
            anyio.create_task_group() as requests,
        ):
            codes: list[ErrorCode] = []

            async def note() -> None:
                codes.append(await sort_for_error(pool, ENDLESS_LIST))

            requests.start_soon(note)
            requests.start_soon(note)
        assert sorted(codes) in (
            [ErrorCode.BUSY, ErrorCode.TIMEOUT],
            [ErrorCode.TIMEOUT, ErrorCode.TIMEOUT],  # the first ended just before
        )

    run(check)


def test_a_warm_worker_is_nice_and_deaf_to_ctrl_c(run: Run) -> None:
    """A worker yields to the loop; what reaches it from the terminal does not become a reply."""

    async def check() -> None:
        async with open_process_workers() as pool:
            [worker] = psutil.Process().children()
            assert worker.nice() == min(psutil.Process().nice() + NICENESS, 19)
            worker.send_signal(signal.SIGINT)
            assert await sort(pool, b"[2,1]") == b"[1,2]"

    run(check)


def test_no_process_outlives_the_loop(run: Run) -> None:
    """When the loop has ended, idle workers have too, with their descriptors."""
    gc.collect()  # what other tests left to be closed
    before = len(os.listdir("/dev/fd"))

    async def check() -> None:
        async with open_process_workers(workers=2):
            assert len(psutil.Process().children()) == 2

    run(check)
    assert psutil.Process().children() == []
    assert len(os.listdir("/dev/fd")) == before


def test_the_same_list_is_short() -> None:
    """Which lists are sorted on the loop is the same as in `trio_services`."""
    for name in ("INLINE_MAX_BYTES", "GNOME_INLINE_MAX_BYTES"):
        assert getattr(workers, name) == getattr(trio_workers, name)


# The program.


def test_sleepers_are_waited_for() -> None:
    """ "Done" is said last, though the parent wakes before the others."""
    said: list[str] = []
    clock = {"clock": MockClock(autojump_threshold=0)}
    naps = anyio.run(run_sleepers, [3, 1], said.append, backend="trio", backend_options=clock)
    assert said[-3:] == ["Parent awakens and waits for its tasks", "Sleeper 1 awakens", "Done"]
    assert [nap.sleeper for nap in naps] == ["Parent", "Sleeper 1", "Sleeper 2"]


def test_a_server_on_asyncio_does_not_load_trio() -> None:
    """Only the backend that was chosen is imported."""
    program = (
        "import sys, anyio, anyio_services.app, anyio_services.cli as cli\n"
        "cli.run_on(cli.Backend.ASYNCIO)(anyio.sleep, 0)\n"
        "sys.exit('trio' in sys.modules)"
    )
    assert python("-c", program).returncode == 0


def test_copies_are_refused() -> None:
    """`--processes 2` is one line and status 2: only `trio-services` runs copies."""
    done = python("-m", "anyio_services", "serve", "--processes", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trio-services: processes: only trio-services runs more than one\n"


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with the packages of `compat` to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(PYTHONPATH=os.pathsep.join([str(COMPAT), str(COMPAT.parent)])),
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD,
    )
