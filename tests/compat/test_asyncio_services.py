"""What is asyncio's own about the services on asyncio: the contract holds all the rest."""

import asyncio
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from asyncio_services import app, worker_process
from asyncio_services.connections import Connections, Handler
from asyncio_services.dns_server import serve_dns_tcp, serve_dns_udp
from asyncio_services.five_sleepers import draw_timeline, run_sleepers
from asyncio_services.workers import Workers, open_workers

from tests.compat.jumping_clock import run_jumping
from tests.system.serving import ENDLESS_LIST, PATIENCE, ROOT, environment
from trio_services.listeners import Sockets, bind_copies
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import Algorithm, ErrorCode, SortError
from trio_services.settings import (
    Address,
    ConnectionLimits,
    DnsSettings,
    Place,
    ServeSettings,
    SortSettings,
)

OPEN = partial(
    open_workers,
    place=Place.PROCESS,
    algorithm=Algorithm.GNOME,
    workers=1,
    job_deadline=PATIENCE,
    max_waiting=10,
)

INLINE = SortSettings(addresses=(Address("127.0.0.1", 0),), sort_in=Place.INLINE)

RUN_WITHOUT_TRIO = """
import asyncio, os, signal, sys
from asyncio_services import app, cli, five_sleepers
from trio_services.listeners import bind_copies
from trio_services.settings import Address, DnsSettings, ServeSettings, SortSettings
from trio_services.startup import zones_for

async def main():
    free = (Address("127.0.0.1", 0),)
    settings = ServeSettings(
        dns=DnsSettings(addresses=free), sort=SortSettings(addresses=free, workers=1)
    )
    with bind_copies(settings)[0] as sockets:
        async with asyncio.TaskGroup() as nursery:
            started = asyncio.get_running_loop().create_future()
            nursery.create_task(
                app.serve(settings, sockets, zones_for(settings.dns), task_status=started)
            )
            await started
            os.kill(os.getpid(), signal.SIGTERM)

asyncio.run(main())
print("loaded:", *sorted({"trio", "anyio", "sniffio"} & set(sys.modules)))
"""


def run_soon(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on asyncio, and fail if it does not end."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    """Let the others run until `condition()` is true."""
    while not condition():  # noqa: ASYNC110 - statistics have no events
        await asyncio.sleep(0)


def payload_of(data: bytes) -> Payload:
    """Return a complete payload."""
    payload = Payload(len(data))
    payload.append(data)
    return payload


async def sort(workers: Workers, data: bytes) -> bytes:
    """Have a list sorted."""
    with payload_of(data) as payload:
        return bytes(await workers.sort(payload))


@asynccontextmanager
async def endless_job(workers: Workers) -> AsyncIterator[asyncio.Task[bytes]]:
    """Be inside when a lane has a list that takes ten minutes; its task is cancelled after."""
    async with asyncio.TaskGroup() as nursery:
        job = nursery.create_task(sort(workers, ENDLESS_LIST))
        await until(lambda: workers.statistics().running)
        try:
            yield job
        finally:
            job.cancel()


def test_nothing_imports_trio() -> None:
    """A process that serves on asyncio imports neither Trio nor AnyIO."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT_TRIO],
        env=environment(PYTHONPATH=os.pathsep.join(map(str, (ROOT, ROOT / "compat")))),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "loaded:\n"
    assert done.stderr == ""


def serving_sort(sockets: Sockets, **options: Any) -> Coroutine[Any, Any, None]:
    """Serve lists as `app.serve` does, sorted in place."""
    return app.serve(ServeSettings(dns=None, sort=INLINE), sockets, None, **options)


def test_it_ends_when_until_returns() -> None:
    """Whoever embeds the services can end them without a signal."""

    async def check() -> None:
        [sockets] = bind_copies(ServeSettings(dns=None, sort=INLINE))
        end = asyncio.Event()
        async with asyncio.TaskGroup() as nursery:
            started = asyncio.get_running_loop().create_future()
            nursery.create_task(serving_sort(sockets, until=end.wait, task_status=started))
            await started
            end.set()

    run_soon(check)


def test_signals_are_obeyed_while_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose workers do not get ready ends at the first signal."""
    waiting = asyncio.Event()

    @asynccontextmanager
    async def never_warm(**_: object) -> AsyncIterator[None]:
        waiting.set()
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(app, "open_workers", never_warm)

    async def check() -> None:
        [sockets] = bind_copies(ServeSettings(dns=None, sort=INLINE))
        async with asyncio.TaskGroup() as nursery:
            nursery.create_task(serving_sort(sockets))
            await waiting.wait()
            signal.raise_signal(signal.SIGTERM)

    run_soon(check)


def test_signals_do_not_pile_up() -> None:
    """Many SIGHUPs during a reload are answered by one more; the second SIGTERM cancels."""

    async def check() -> None:
        signals: asyncio.Queue[int] = asyncio.Queue()
        go_on, cancelled = asyncio.Event(), asyncio.Event()
        reloads = 0

        async def reload() -> None:
            nonlocal reloads
            reloads += 1
            await go_on.wait()

        accepting = asyncio.create_task(asyncio.sleep(PATIENCE))
        obey = app.obey_signals(signals, accepting, reload=reload, cancel=cancelled.set)
        obeying = asyncio.create_task(obey)
        signals.put_nowait(signal.SIGHUP)
        await until(lambda: reloads)
        for _ in range(50):
            signals.put_nowait(signal.SIGHUP)
        signals.put_nowait(signal.SIGTERM)
        await asyncio.wait([accepting])
        assert reloads == 1
        assert not cancelled.is_set()
        go_on.set()
        await until(lambda: reloads == 2)
        signals.put_nowait(signal.SIGTERM)
        await cancelled.wait()
        assert reloads == 2
        obeying.cancel()
        await asyncio.wait([obeying])

    run_soon(check)


def test_sleepers() -> None:
    """Done comes last, and the timeline has a line for each."""
    said: list[str] = []
    naps = run_jumping(run_sleepers([3.0, 0.5], said.append))
    assert said[-1] == "Done"
    assert [nap.sleeper for nap in naps] == ["Parent", "Sleeper 1", "Sleeper 2"]
    assert [nap.ended for nap in naps] == pytest.approx([2.0, 3.0, 0.5])
    assert draw_timeline(naps).count("\n") == 3


def test_sleeper_that_fails_ends_the_others() -> None:
    """Unlike the original's, a task that fails is missed at once, and its siblings end."""

    def say(line: str) -> None:
        if line == "Sleeper 2 awakens":
            raise ValueError(line)

    async def main() -> float:
        with pytest.raises(ExceptionGroup):
            await run_sleepers([60.0, 0.5], say)
        return asyncio.get_running_loop().time()

    assert run_jumping(main()) == pytest.approx(0.5)


@pytest.mark.parametrize("count", [3, SHARE_ABOVE // 4], ids=["pickled", "shared"])
@pytest.mark.parametrize("place", [Place.PROCESS, Place.THREAD, Place.INLINE])
def test_every_place_sorts(place: Place, count: int) -> None:
    """Lists come back sorted from wherever they were sorted, and no process is left."""
    values = [random.Random(count).randrange(10**6) for _ in range(count)]

    async def main() -> None:
        async with OPEN(place=place, algorithm=Algorithm.AUTO) as workers:
            assert json.loads(await sort(workers, json.dumps(values).encode())) == sorted(values)
            with pytest.raises(SortError, match="not-json"):
                await sort(workers, b"[1,")
        assert multiprocessing.active_children() == []

    run_soon(main)


def test_cancelled_job_frees_its_core() -> None:
    """A job that is cancelled takes its worker along, and the next list has a new one."""

    async def main() -> None:
        async with OPEN() as workers:
            [before] = workers.statistics().pids
            async with endless_job(workers) as job:
                job.cancel()
            assert await sort(workers, b"[2,1]") == b"[1,2]"
            statistics = workers.statistics()
            assert statistics.replaced == 1
            assert before not in statistics.pids

    run_soon(main)


def test_short_job_is_not_worth_a_worker() -> None:
    """A job that is cancelled and over at once leaves its worker alive."""

    async def main() -> None:
        async with OPEN(algorithm=Algorithm.TIMSORT) as workers:
            before = workers.statistics().pids
            job = asyncio.create_task(sort(workers, b"[2,1]"))
            await until(lambda: workers.statistics().running)
            job.cancel()
            await asyncio.wait([job])
            assert job.cancelled()
            assert await sort(workers, b"[2,1]") == b"[1,2]"
            assert workers.statistics().pids == before

    run_soon(main)


def test_killed_worker_fails_its_list_only() -> None:
    """A pool of one process is broken by its death; the others know nothing of it."""

    async def main() -> None:
        async with OPEN(workers=2) as workers:
            job = asyncio.create_task(sort(workers, ENDLESS_LIST))
            await until(lambda: workers.statistics().running)
            # The other lane is idle, so that killing both fails just one list.
            for pid in workers.statistics().pids:
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(SortError) as caught:
                await job
            assert caught.value.code is ErrorCode.WORKER_FAILED
            await until(lambda: workers.statistics().replaced == 2)
            assert await sort(workers, b"[2,1]") == b"[1,2]"

    run_soon(main)


def test_replacement_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that cannot be replaced now is tried for again, and the server goes on."""
    failures = iter([OSError(errno.EMFILE, "Too many open files")])

    def pool(*args: Any, **options: Any) -> ProcessPoolExecutor:
        for error in failures:
            raise error
        return ProcessPoolExecutor(*args, **options)

    async def main() -> None:
        async with OPEN() as workers:
            monkeypatch.setattr(worker_process, "ProcessPoolExecutor", pool)
            [pid] = workers.statistics().pids
            os.kill(pid, signal.SIGKILL)
            await until(lambda: workers.statistics().replaced)
            assert await sort(workers, b"[2,1]") == b"[1,2]"

    run_soon(main)
    assert "Too many open files; the next attempt is in" in caplog.text


@pytest.mark.parametrize("place", [Place.PROCESS, Place.THREAD])
def test_deadline_of_a_job(place: Place) -> None:
    """A list that is not sorted in time is given up, and its lane sorts on."""

    async def main() -> None:
        async with OPEN(place=place, job_deadline=0.05) as workers:
            with pytest.raises(SortError, match="timeout"):
                await sort(workers, ENDLESS_LIST)
        async with OPEN(place=place) as workers:
            assert await sort(workers, b"[2,1]") == b"[1,2]"

    run_soon(main)


def test_lists_wait_for_a_lane() -> None:
    """As many lists wait as may; one more is sent away, and all when the workers are closed."""

    async def main() -> None:
        async with OPEN(max_waiting=1) as workers, endless_job(workers):
            waiting = asyncio.create_task(sort(workers, b"[2,1]"))
            await until(lambda: workers.statistics().waiting)
            with pytest.raises(SortError, match="too many lists are waiting"):
                await sort(workers, b"[2,1]")
            workers.close()
            with pytest.raises(SortError, match="the server is stopping"):
                await waiting
            with pytest.raises(SortError, match="the server is stopping"):
                await sort(workers, b"[2,1]")

    run_soon(main)


async def echo_a_line(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connections: Connections
) -> None:
    """Send a line back; crash at an empty one."""
    async with connections.patience() as patience:
        patience.wait_for_request(PATIENCE)
        first = await reader.readexactly(1)
        patience.allow(PATIENCE)
        line = first + await reader.readuntil()
        assert line.strip(), "an empty line"
        writer.write(line)
        await writer.drain()


@asynccontextmanager
async def echoing(
    *, total: int = 10, handler: Handler = echo_a_line
) -> AsyncIterator[tuple[Connections, int]]:
    """Serve `handler` on a free port."""
    settings = ServeSettings(dns=DnsSettings(addresses=(Address("127.0.0.1", 0),)), sort=None)
    with bind_copies(settings)[0] as sockets:
        async with asyncio.TaskGroup() as nursery:
            limits = ConnectionLimits(total=total, per_address=total)
            connections = Connections("echo", nursery, limits, handler, refusal=b"no\n")
            listener = sockets.dns[0]
            port = listener.getsockname()[1]
            accepting = nursery.create_task(serve_dns_tcp(listener, connections))
            yield connections, port
            accepting.cancel()


def test_crash_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that crashes is closed, counted and logged, and its siblings go on."""

    async def main() -> None:
        async with echoing() as (connections, port):
            good, bad = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            bad[1].write(b"\n\n")
            assert await bad[0].read() == b""
            good[1].write(b"hello\n")
            assert await good[0].read() == b"hello\n"
            await until(lambda: not connections.statistics().open)
            assert connections.statistics().crashed == 1
            for _, writer in (good, bad):
                writer.close()

    run_soon(main)
    assert "unexpected error in echo connection" in caplog.text


def test_one_too_many_is_refused() -> None:
    """Who is not admitted reads why, also if it has already sent its request."""

    async def main() -> None:
        async with echoing(total=1) as (connections, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            refused, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"hello\n")
            assert await refused.read() == b"no\n"
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            statistics = connections.statistics()
            assert (statistics.accepted, statistics.refused) == (1, 1)
            for each in (writer, other):
                each.close()

    run_soon(main)


def test_draining_closes_the_idle() -> None:
    """Draining closes a connection that is idle, and serves one that has begun."""

    async def main() -> None:
        async with echoing() as (connections, port):
            idle, busy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await until(lambda: connections.statistics().idle == 2)
            busy[1].write(b"hel")
            await until(lambda: connections.statistics().idle == 1)
            connections.drain()
            assert await idle[0].read() == b""
            busy[1].write(b"lo\n")
            assert await busy[0].read() == b"hello\n"
            for _, writer in (idle, busy):
                writer.close()

    run_soon(main)


def test_cancelled_before_its_first_step() -> None:
    """A connection whose task never ran is closed and counted off all the same."""
    has_run: list[object] = []
    counted: list[int] = []

    async def handler(*streams: object) -> None:
        has_run.append(streams)

    async def admit_and_end(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Connections
    ) -> None:
        limits = ConnectionLimits(total=1, per_address=1)
        try:
            async with asyncio.TaskGroup() as nursery:
                connections = Connections("never", nursery, limits, handler)
                connections.admit(reader, writer)
                counted.append(connections.statistics().open)
                raise ValueError("before anybody has run")
        except* ValueError:
            counted.append(connections.statistics().open)

    async def main() -> None:
        async with echoing(handler=admit_and_end) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()

    run_soon(main)
    assert counted == [1, 0]
    assert has_run == []


def test_udp_service_that_fails_is_missed() -> None:
    """What `respond` raises ends the service, though asyncio would log it and go on."""

    def respond(packet: bytes) -> bytes:
        raise ValueError("a bug")

    async def main() -> None:
        settings = ServeSettings(dns=DnsSettings(addresses=(Address("127.0.0.1", 0),)), sort=None)
        with bind_copies(settings)[0] as sockets:
            [sock] = sockets.udp
            with sock.dup() as client:
                client.sendto(b"query", sock.getsockname())
            with pytest.raises(ValueError, match="a bug"):
                await serve_dns_udp(sock, respond)
            assert sock.fileno() >= 0  # it was a copy that asyncio has closed

    run_soon(main)
