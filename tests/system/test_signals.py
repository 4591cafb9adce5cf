"""Signals: drain, then cancel, and leave nothing behind."""

import os
import signal
from collections.abc import Callable

import pytest
import trio

from tests.system.processes import children, needs_proc, wait_busy, wait_gone, workers
from tests.system.serving import (
    ENDLESS_LIST,
    LONG_GRACE,
    PATIENCE,
    addresses,
    in_flight,
    is_closed,
    read_all,
    serving,
    sort_raw,
    sort_request,
    was_cut_off,
)

STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
GNOME = ("--algorithm", "gnome")
IN_FLIGHT = "1 connections in flight"


@STOPS
async def test_ends_at_once_with_status_0(number: signal.Signals) -> None:
    """A server with nothing to do ends at the first signal, and takes its ready file along."""
    async with serving("--grace", LONG_GRACE) as server:
        server.process.send_signal(number)
        assert await server.ended() == 0
        assert list(server.folder.iterdir()) == []


@needs_proc
@pytest.mark.parametrize(
    ("send", "number"),
    [(os.kill, signal.SIGTERM), (os.kill, signal.SIGINT), (os.killpg, signal.SIGINT)],
    ids=["SIGTERM", "SIGINT", "Ctrl-C"],
)
async def test_answers_what_is_in_flight(
    send: Callable[[int, int], None], number: signal.Signals
) -> None:
    """A list that a worker has is sorted and replied to after the first signal.

    A terminal sends SIGINT to every process of the group, and no worker may die of it.
    """
    async with serving(*GNOME, "--grace", LONG_GRACE) as server:
        [worker] = workers(server.process.pid)
        os.kill(worker, signal.SIGSTOP)  # so that it cannot be done before the signal
        async with in_flight(server, b"[%s]" % b",".join([b"2"] * 999 + [b"1"])) as stream:
            send(server.process.pid, number)
            await server.said(IN_FLIGHT)
            os.kill(worker, signal.SIGCONT)
            assert await read_all(stream) == b"[%s]" % b",".join([b"1"] + [b"2"] * 999)
        assert await server.ended() == 0


@needs_proc
async def test_grace_passes() -> None:
    """A job that outlives the grace period is cancelled with its worker; the status is still 0."""
    async with serving(*GNOME, "--grace", "0.1") as server:
        async with in_flight(server, ENDLESS_LIST) as stream:
            [worker] = workers(server.process.pid)
            await wait_busy(worker)
            server.process.send_signal(signal.SIGTERM)
            assert await was_cut_off(stream)
        assert await server.ended() == 0
        await wait_gone(worker)
        assert list(server.folder.iterdir()) == []


@pytest.mark.parametrize("place", ["auto", "thread"])
@STOPS
async def test_second_signal_cancels_at_once(number: signal.Signals, place: str) -> None:
    """Whoever signals twice does not wait for the grace period, wherever lists are sorted."""
    options = ("--algorithm", "gnome", "--sort-in", place, "--workers", "2")
    async with serving(*options, "--grace", LONG_GRACE) as server:
        async with in_flight(server, ENDLESS_LIST) as stream:
            server.process.send_signal(number)
            await server.said("no longer accepting")
            server.process.send_signal(signal.SIGTERM)
            assert await was_cut_off(stream)
        assert await server.ended() == 0


async def test_idle_connections_are_closed_at_once() -> None:
    """Nobody who has not begun to ask is waited for."""
    async with serving("--grace", LONG_GRACE) as server:
        async with (
            await trio.open_tcp_stream(server.dns.host, server.dns.port) as dns,
            await trio.open_tcp_stream(server.sort.host, server.sort.port) as sort,
        ):
            # Accepted in order: once later ones are served, these two are idle connections.
            assert await addresses(server.dns, "alpha.example", tcp=True) == ["192.0.2.10"]
            assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"
            server.process.send_signal(signal.SIGTERM)
            assert await is_closed(dns)
            assert await is_closed(sort)
        assert await server.ended() == 0


async def test_stops_accepting() -> None:
    """While what is in flight is answered, nobody new gets in, and the ready file is gone."""
    async with serving("--grace", LONG_GRACE) as server:
        dns, sort = server.dns, server.sort
        async with await trio.open_tcp_stream(sort.host, sort.port) as stream:
            await stream.send_all(sort_request(b"[2,1]")[:9])
            assert await sort_raw(sort, b"[2,1]") == b"[1,2]"
            server.process.send_signal(signal.SIGTERM)
            await server.said(IN_FLIGHT)
            assert list(server.folder.iterdir()) == []
            for address in (dns, sort):
                with pytest.raises(OSError, match="all attempts to connect"):
                    await trio.open_tcp_stream(address.host, address.port)
            await stream.send_all(sort_request(b"[2,1]")[9:])
            with trio.fail_after(PATIENCE):
                assert await read_all(stream) == b"[1,2]"
        assert await server.ended() == 0


@needs_proc
async def test_killed_server_takes_its_workers_along() -> None:
    """After kill -9 of the server, a worker in the middle of a job ends by itself."""
    async with serving(*GNOME) as server, in_flight(server, ENDLESS_LIST):
        [worker] = children(server.process.pid)
        await wait_busy(worker)
        server.process.kill()
        await wait_gone(worker)
        assert await server.ended() == -signal.SIGKILL
        assert [file.name for file in server.folder.iterdir()] == ["ready.json"]
