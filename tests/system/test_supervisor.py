"""`--processes`: copies on the same ports, kept alive and ended by one parent."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.system.processes import copies, needs_proc, wait_gone
from tests.system.serving import (
    ENDLESS_LIST,
    LONG_GRACE,
    PATIENCE,
    Server,
    addresses,
    in_flight,
    read_all,
    run_program,
    serving,
    sort_raw,
    sort_request,
    was_cut_off,
)
from tests.system.test_reload import write_zone
from trio_services.listeners import bind_copies
from trio_services.settings import Address, DnsSettings, ServeSettings
from trio_services.supervisor import CopyStartError, supervise

pytestmark = needs_proc

COPIES = ("--processes", "2")
LOGGED = ("--log-requests",)

MANY = 64
"""Enough datagrams or connections that each of two copies gets some: they are spread by a hash."""


async def answering(server: Server, service: str) -> set[int]:
    """Send requests to `service` (`dns` or `sort`); return which processes logged one."""
    logger = re.compile(rf"\[(\d+)\] trio_services\.{service}: ")
    before = len(server.lines)

    async def ask() -> None:
        if service == "dns":
            assert await addresses(server.dns, "alpha.example") == ["192.0.2.10"]
        else:
            assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(ask)
    await server.said(logger.pattern, MANY)
    return {int(found[1]) for line in server.lines[before:] if (found := logger.search(line))}


async def test_copies_share_the_ports() -> None:
    """Each copy answers on the one UDP and the one TCP port; ready means that all of them do."""
    async with serving(*COPIES, *LOGGED) as server:
        ready = json.loads(server.ready_file.read_text())
        assert ready["pid"] == server.process.pid
        assert [len(ready[service]) for service in ("dns", "sort")] == [1, 1]
        running = copies(server.process.pid)
        assert len(running) == 2
        assert await answering(server, "dns") == set(running)
        assert await answering(server, "sort") == set(running)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert list(server.folder.iterdir()) == []


async def test_killed_copy_is_replaced() -> None:
    """A copy that dies is started again on the same ports, and no request is lost meanwhile."""
    async with serving(*COPIES, *LOGGED) as server:
        victim, survivor = copies(server.process.pid)
        dns, sort = server.dns, server.sort
        os.kill(victim, signal.SIGKILL)
        await wait_gone(victim)
        async with trio.open_nursery() as nursery:
            for _ in range(MANY):  # some of them wait in the dead copy's sockets for the next one
                nursery.start_soon(addresses, dns, "alpha.example")
                nursery.start_soon(sort_raw, sort, b"[2,1]")
        assert await server.said(r"copy \d ended with SIGKILL, restart in 0.1 s")
        [successor] = set(copies(server.process.pid)) - {survivor}
        assert await answering(server, "dns") >= {survivor, successor}
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_drains_every_copy() -> None:
    """One SIGTERM to the parent: each copy answers what it has, nobody new gets in, status 0."""
    async with serving(*COPIES, "--grace", LONG_GRACE, "--sort-in", "inline") as server:
        sort = server.sort
        streams = [await trio.open_tcp_stream(sort.host, sort.port) for _ in range(MANY)]
        for stream in streams:
            await stream.send_all(sort_request(b"[2,1]")[:-1])
        for _ in range(MANY):  # accepted in order by each copy: these see those accepted
            assert await sort_raw(sort, b"[2,1]") == b"[1,2]"
        server.process.send_signal(signal.SIGTERM)
        await server.said("connections in flight", len(copies(server.process.pid)))
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(sort.host, sort.port)
        for stream in streams:
            await stream.send_all(b"]")
            assert await read_all(stream) == b"[1,2]"
            await stream.aclose()
        assert await server.ended() == 0


async def test_a_service_manager_that_signals_every_process() -> None:
    """SIGTERM to the parent and to each copy, in whichever order, is one: nothing is cut off."""
    async with serving(*COPIES, "--grace", LONG_GRACE, "--sort-in", "inline") as server:
        sort, running = server.sort, copies(server.process.pid)
        streams = [await trio.open_tcp_stream(sort.host, sort.port) for _ in range(MANY)]
        for stream in streams:
            await stream.send_all(sort_request(b"[2,1]")[:-1])
        for _ in range(MANY):
            assert await sort_raw(sort, b"[2,1]") == b"[1,2]"
        for pid in running:
            os.kill(pid, signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        await server.said("connections in flight", len(running))
        for pid in running:
            os.kill(pid, signal.SIGTERM)
        for stream in streams:
            await stream.send_all(b"]")
            assert await read_all(stream) == b"[1,2]"
            await stream.aclose()
        assert await server.ended() == 0
        assert not any("while draining" in line for line in server.lines)


async def test_second_signal_reaches_the_copies() -> None:
    """A second signal to the parent cancels what its copies have in flight."""
    options = ("--algorithm", "gnome", "--sort-in", "process", "--workers", "2")
    async with serving(*COPIES, *options, "--grace", LONG_GRACE) as server:
        async with in_flight(server, ENDLESS_LIST) as stream:
            server.process.send_signal(signal.SIGTERM)
            await server.said("no longer accepting", 3)
            server.process.send_signal(signal.SIGTERM)
            assert await was_cut_off(stream)
        assert await server.ended() == 0


async def test_ctrl_c_in_a_terminal() -> None:
    """SIGINT to the whole process group reaches the parent only, which drains its copies."""
    async with serving(*COPIES) as server:
        os.killpg(server.process.pid, signal.SIGINT)
        assert await server.ended() == 0
        assert not any("Traceback" in line for line in server.lines)


async def test_copies_end_with_their_parent() -> None:
    """After kill -9 of the parent, copies and their workers drain and end by themselves."""
    async with serving(*COPIES) as server:
        orphans = copies(server.process.pid)
        server.process.kill()
        for orphan in orphans:
            await wait_gone(orphan)
        assert await server.ended() == -signal.SIGKILL
        assert len(await server.said("the parent is draining or gone")) == 2


async def test_reload_reaches_every_copy(tmp_path: Path) -> None:
    """SIGHUP to the parent makes each copy read its zones anew."""
    zone = tmp_path / "test.zone"
    write_zone(zone)
    async with serving(*COPIES, "--no-sort", "--zone", f"{zone}") as server:
        write_zone(zone, address="192.0.2.8")
        server.process.send_signal(signal.SIGHUP)
        told = await server.said("zones reloaded", 2)
        assert {int(line.split("[")[1].split("]")[0]) for line in told} == set(
            copies(server.process.pid)
        )
        for _ in range(MANY):
            assert await addresses(server.dns, "www.test") == ["192.0.2.8"]


async def test_mistake_at_start(tmp_path: Path) -> None:
    """With copies too, a zone file with a mistake is one line and status 2, not once for each."""
    zone = tmp_path / "test.zone"
    zone.write_text("www A 192.0.2.1\n")
    done = await run_program(
        "serve", *COPIES, "--dns", "127.0.0.1:0", "--no-sort", "--zone", f"{zone}"
    )
    assert done.status == 2
    assert done.err.count("\n") == 1


async def test_a_copy_that_cannot_start_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that ends before it was ever ready is an error, not restarted for ever."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    settings = ServeSettings(
        dns=DnsSettings(addresses=(Address("127.0.0.1", 0),)), sort=None, processes=2
    )
    with trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as raised:
        await supervise(settings, bind_copies(settings), None)
    assert raised.group_contains(CopyStartError, match="status 1 before it was ready")


async def test_a_copy_is_restarted_while_its_files_are_bad(tmp_path: Path) -> None:
    """A copy that crashes after a zone file was broken serves the zones that were good last."""
    zone = tmp_path / "test.zone"
    write_zone(zone, address="192.0.2.1")
    async with serving(*COPIES, *LOGGED, "--zone", str(zone)) as server:
        zone.write_text("broken", encoding="utf-8")
        victim, _ = copies(server.process.pid)
        os.kill(victim, signal.SIGKILL)
        await server.said("restart in 0.1 s")
        await server.said(": dns on ", 4)  # the parent, two copies, and the third
        for _ in range(MANY):
            assert await addresses(server.dns, "www.test") == ["192.0.2.1"]
        server.process.send_signal(signal.SIGHUP)
        await server.said("zones not reloaded, the old ones are served on: ")
