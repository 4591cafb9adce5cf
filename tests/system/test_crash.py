"""What happens when something fails that must not: in a service, in a connection, in a worker."""

import os
import signal
import sys

import pytest
import trio

from tests.system.processes import needs_proc, wait_busy, wait_gone, workers
from tests.system.serving import (
    ENDLESS_LIST,
    LONG_GRACE,
    addresses,
    in_flight,
    is_closed,
    read_all,
    serving,
    sort_raw,
    was_cut_off,
)

GNOME = ("--algorithm", "gnome", "--grace", LONG_GRACE)
TOO_LONG_FOR_THE_LOOP = b"[%s]" % b",".join([b"3"] * 499 + [b"1"])
SORTED = b"[%s]" % b",".join([b"1"] + [b"3"] * 499)


def with_patch(patch: str) -> tuple[str, ...]:
    """Return a command that is `trio-services` after the statements of `patch`."""
    return (sys.executable, "-c", f"{patch}\nfrom trio_services.cli import main\nmain()")


FAILING_SERVICE = """
import trio, trio_services.app as app
real = app.serve_{service}
async def serve_until_asked(*args, **kwargs):
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(__import__("signal").SIGUSR1) as asked:
            await nursery.start(real, *args[:2])
            kwargs["task_status"].started()
            async for _ in asked:
                raise LookupError("a bug in the service")
app.serve_{service} = serve_until_asked
"""

FAILING_CONNECTION = """
import trio_services.app as app
real, calls = app.handle_{service}_stream, []
async def fail_once(stream, *args, **kwargs):
    calls.append(stream)
    if len(calls) == 1:
        await stream.receive_some(1)
        raise LookupError("a bug in the handler")
    await real(stream, *args, **kwargs)
app.handle_{service}_stream = fail_once
"""

FAILING_START = """
import trio_services.app as app
async def fail(*args, task_status):
    raise LookupError("a bug in the service")
app.serve_sort = fail
"""


@needs_proc
@pytest.mark.parametrize("service", ["sort", "dns_udp", "dns_tcp"])
async def test_service_crashes(service: str) -> None:
    """A service that fails ends everything, in spite of what is in flight, and says why: status 1,
    siblings cancelled, workers gone, and a report that begins with the reason.
    """
    patched = with_patch(FAILING_SERVICE.format(service=service))
    async with serving(*GNOME, program=patched) as server:
        [worker] = workers(server.process.pid)
        async with in_flight(server, ENDLESS_LIST) as stream:
            server.process.send_signal(signal.SIGUSR1)
            assert await was_cut_off(stream)
        assert await server.ended() == 1
        await wait_gone(worker)
        assert list(server.folder.iterdir()) == []
        report = [line for line in server.lines if "CRITICAL" in line]
        assert report[0].endswith("a service failed: LookupError: a bug in the service")
        assert any("ExceptionGroup" in line for line in server.lines)
        assert sum("LookupError: a bug in" in line for line in server.lines) == 2  # and in place


async def test_service_does_not_start() -> None:
    """A service that fails before it listens ends the start with the same report and status 1."""
    async with serving(program=with_patch(FAILING_START), ready=False) as server:
        assert await server.ended() == 1
        assert any("LookupError: a bug in the service" in line for line in server.lines)
        assert not server.ready_file.exists()


async def test_sort_connection_crashes() -> None:
    """An exception in one connection ends that one, is logged once, and nobody else notices."""
    async with serving(program=with_patch(FAILING_CONNECTION.format(service="sort"))) as server:
        assert await sort_raw(server.sort, b"[2,1]") == b""
        for _ in range(3):
            assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"
        await server.said("unexpected error in sort connection")
        await server.said("LookupError: a bug in the handler")
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert sum("unexpected error" in line for line in server.lines) == 1


async def test_dns_connection_crashes() -> None:
    """The same over TCP for DNS; UDP goes on meanwhile."""
    async with serving(program=with_patch(FAILING_CONNECTION.format(service="dns"))) as server:
        async with await trio.open_tcp_stream(server.dns.host, server.dns.port) as stream:
            await stream.send_all(b"x")
            assert await is_closed(stream)
        for tcp in (False, True):
            assert await addresses(server.dns, "alpha.example", tcp=tcp) == ["192.0.2.10"]
        await server.said("unexpected error in dns tcp connection")
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0


@needs_proc
async def test_worker_is_killed_at_work() -> None:
    """kill -9 of a worker fails the list that it sorts, with `worker-failed`, and no other."""
    async with serving(*GNOME) as server:
        [worker] = workers(server.process.pid)
        async with in_flight(server, ENDLESS_LIST) as stream:
            await wait_busy(worker)
            os.kill(worker, signal.SIGKILL)
            assert b'"worker-failed"' in await read_all(stream)
        assert await sort_raw(server.sort, TOO_LONG_FOR_THE_LOOP) == SORTED
        assert worker not in workers(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert list(server.folder.iterdir()) == []


@needs_proc
async def test_worker_is_killed_before_it_reads() -> None:
    """A worker that dies before it has read its list fails none: another one sorts it."""
    async with serving(*GNOME) as server:
        [worker] = workers(server.process.pid)
        os.kill(worker, signal.SIGSTOP)
        async with in_flight(server, TOO_LONG_FOR_THE_LOOP) as stream:
            os.kill(worker, signal.SIGKILL)
            assert await read_all(stream) == SORTED


@needs_proc
async def test_worker_is_killed_idle() -> None:
    """A worker that dies idle is replaced before anybody asks."""
    async with serving(*GNOME) as server:
        [worker] = workers(server.process.pid)
        os.kill(worker, signal.SIGKILL)
        await server.said(f"worker {worker} (ended|was)")
        assert await sort_raw(server.sort, TOO_LONG_FOR_THE_LOOP) == SORTED


@needs_proc
async def test_client_leaves() -> None:
    """The worker of a client that hangs up is free for the next one, however long the job was."""
    async with serving(*GNOME) as server:
        [worker] = workers(server.process.pid)
        async with in_flight(server, ENDLESS_LIST):
            await wait_busy(worker)
        assert await sort_raw(server.sort, TOO_LONG_FOR_THE_LOOP) == SORTED


@needs_proc
async def test_large_lists_leave_no_file_behind() -> None:
    """A list that is handed over in a shared file leaves none, not even if its worker is killed."""
    async with serving(*GNOME) as server:
        [worker] = workers(server.process.pid)
        async with in_flight(server, ENDLESS_LIST):
            await wait_busy(worker)
            assert [file.name for file in server.folder.iterdir()] == ["ready.json"]
            os.kill(worker, signal.SIGKILL)
            server.process.kill()
        assert await server.ended() == -signal.SIGKILL
        assert [file.name for file in server.folder.iterdir()] == ["ready.json"]
