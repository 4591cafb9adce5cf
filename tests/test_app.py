"""The nursery, in this process, on loopback: ready, reload, drain, grace, crash."""

import json
import math
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.streams import read_all
from trio_services import app, sort_server
from trio_services.app import drain, serve
from trio_services.connections import Connections, Stream
from trio_services.dns_client import Reply, query
from trio_services.listeners import Sockets, bind_copies
from trio_services.sans_io.length_prefix import dns_frame, sort_prefix
from trio_services.sans_io.payload import Payload
from trio_services.settings import (
    Address,
    ConnectionLimits,
    DnsSettings,
    Place,
    ServeSettings,
    SettingsError,
    SortSettings,
)
from trio_services.sort_client import sort_list
from trio_services.startup import zones_for

ANY_PORT = (Address("127.0.0.1", 0),)
CUT_OFF = b'{"error":{"code":"busy","message":"the server is stopping"}}'
"""What a client is told whose list will not be sorted any more."""

SETTINGS = ServeSettings(
    dns=DnsSettings(addresses=ANY_PORT),
    sort=SortSettings(addresses=ANY_PORT, sort_in=Place.INLINE),
    grace=30.0,
)


@dataclass
class Running:
    """Services that run in this process."""

    sockets: Sockets
    dns: Address | None
    sort: Address | None
    ended: trio.Event

    async def ask(self, name: str, *, tcp: bool = False) -> Reply:
        """Ask our DNS server for an address."""
        assert self.dns
        return await query(name, "A", self.dns, tcp=tcp)

    async def connect_sort(self) -> trio.SocketStream:
        """Connect to our sort service."""
        assert self.sort
        return await trio.open_tcp_stream(self.sort.host, self.sort.port)


@asynccontextmanager
async def running(settings: ServeSettings = SETTINGS) -> AsyncIterator[Running]:
    """Run the services until the block is left, or a signal has ended them."""
    zones = zones_for(settings.dns) if settings.dns else None
    [sockets] = bind_copies(settings)
    with sockets, trio.fail_after(30):
        addresses = {name: Address(*where[0]) for name, where in sockets.addresses().items()}
        ended = trio.Event()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await serve(settings, sockets, zones, task_status=task_status)
            ended.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield Running(sockets, addresses.get("dns"), addresses.get("sort"), ended)
            nursery.cancel_scope.cancel()


async def test_everything_is_served_side_by_side() -> None:
    """DNS over both transports and the sort service answer from one nursery."""
    async with running() as services:
        assert services.sort
        for tcp in (False, True):
            reply = await services.ask("alpha.example", tcp=tcp)
            assert [record.split()[-1] for record in reply.records] == ["192.0.2.10"]
        reply = await services.ask("any.name.at.all")
        assert [record.split()[-1] for record in reply.records] == ["127.0.0.1"]
        assert await sort_list(b"[3,1,2]", services.sort) == b"[1,2,3]"


@pytest.mark.parametrize("left_out", ["dns", "sort"])
async def test_a_service_can_be_left_out(left_out: str) -> None:
    """Either service runs without the other."""
    settings = replace(SETTINGS, dns=None) if left_out == "dns" else replace(SETTINGS, sort=None)
    async with running(settings) as services:
        if left_out == "dns":
            assert services.dns is None
            assert services.sort
            assert await sort_list(b"[2,1]", services.sort) == b"[1,2]"
        else:
            assert services.sort is None
            assert (await services.ask("alpha.example")).exit_status == 0


async def test_ready_file(tmp_path: Path) -> None:
    """The file says who listens where while that is so, and nothing else is left behind."""
    path = tmp_path / "ready.json"
    async with running(replace(SETTINGS, ready_file=str(path))) as services:
        await trio.testing.wait_all_tasks_blocked()
        assert services.dns
        assert services.sort
        assert json.loads(path.read_text()) == {
            "pid": os.getpid(),
            "dns": [["127.0.0.1", services.dns.port]],
            "sort": [["127.0.0.1", services.sort.port]],
        }
        assert os.listdir(tmp_path) == [path.name]
    assert os.listdir(tmp_path) == []


async def test_a_ready_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is told as a setting that is wrong, and nothing is served."""
    settings = replace(SETTINGS, ready_file=str(tmp_path / "missing" / "ready.json"))
    with pytest.RaisesGroup(SettingsError, flatten_subgroups=True):
        async with running(settings):
            await trio.sleep_forever()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_idle_services_at_once(number: signal.Signals) -> None:
    """Nobody waits for connections on which nothing is under way."""
    async with running() as services:
        assert services.dns
        idle = await services.connect_sort()
        idle_dns = await trio.open_tcp_stream(services.dns.host, services.dns.port)
        await trio.testing.wait_all_tasks_blocked()
        signal.raise_signal(number)
        assert await read_all(idle) == b""
        assert await read_all(idle_dns) == b""
        await services.ended.wait()
        await idle.aclose()
        await idle_dns.aclose()


async def test_drain_answers_what_is_in_flight_and_accepts_nothing() -> None:
    """After a signal a list that has begun is sorted; a new client is refused by the kernel."""
    async with running() as services:
        async with await services.connect_sort() as client:
            await client.send_all(sort_prefix(5) + b"[2,")
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            while services.sockets.sort[0].fileno() != -1:
                await trio.lowlevel.checkpoint()
            with pytest.raises(OSError, match="failed"):
                await services.connect_sort()
            assert not services.ended.is_set()
            await client.send_all(b"1]")
            assert await read_all(client) == b"[1,2]"
        await services.ended.wait()


async def test_drain_answers_a_dns_message_that_has_begun() -> None:
    """Also a DNS connection gets its reply, and is closed after it."""
    message = bytes.fromhex("123401000001000000000000 05616c706861076578616d706c6500 00010001")
    async with running() as services:
        assert services.dns
        async with await trio.open_tcp_stream(services.dns.host, services.dns.port) as client:
            await client.send_all(dns_frame(message)[:5])
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            while services.sockets.dns[0].fileno() != -1:
                await trio.lowlevel.checkpoint()
            await client.send_all(dns_frame(message)[5:])
            reply = await read_all(client)
            assert reply[2:4] == message[:2]
            assert reply.endswith(bytes([192, 0, 2, 10]))
        await services.ended.wait()


async def test_grace_of_nothing_cancels_at_once() -> None:
    """When the grace period is over, what is in flight is cut off, and told so."""
    async with running(replace(SETTINGS, grace=0.0)) as services:
        async with await services.connect_sort() as client:
            await client.send_all(sort_prefix(5) + b"[2,")
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            assert await read_all(client) == CUT_OFF
        await services.ended.wait()


@pytest.mark.parametrize(("needed", "expected"), [(3.0, 3.0), (math.inf, 10.0)])
async def test_grace_is_a_deadline(
    needed: float, expected: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Draining ends when the last connection is done, or at the deadline."""

    async def handler(stream: Stream, connections: Connections) -> None:
        await trio.sleep(needed)

    client, server = socket.socketpair()
    with client:
        async with trio.open_nursery() as in_flight:
            limits = ConnectionLimits(total=1, per_address=1)
            connections = Connections("test", in_flight, limits, handler)
            connections.admit(server, ())
            drain([connections], in_flight, 10.0)
    assert trio.current_time() == expected
    assert connections.statistics().open == 0


async def test_a_second_signal_cancels_at_once() -> None:
    """Who asks twice does not wait for the grace period."""
    async with running() as services:
        async with await services.connect_sort() as client:
            await client.send_all(sort_prefix(5) + b"[2,")
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            while services.sockets.sort[0].fileno() != -1:
                await trio.lowlevel.checkpoint()
            assert not services.ended.is_set()
            signal.raise_signal(signal.SIGINT)
            assert await read_all(client) == CUT_OFF
        await services.ended.wait()


async def test_cancellation_ends_everything_without_draining() -> None:
    """Whoever runs the services in a nursery of their own can cancel them like any task."""
    async with running() as services:
        client = await services.connect_sort()
        await client.send_all(sort_prefix(5) + b"[2,")
        await trio.testing.wait_all_tasks_blocked()
    assert not services.ended.is_set()
    assert await read_all(client) == CUT_OFF
    await client.aclose()


@pytest.mark.parametrize("kind", ["udp", "dns", "sort"])
async def test_a_service_that_crashes_takes_its_siblings_along(kind: str) -> None:
    """A failure of a service leaves as a group, after everything else has been cancelled."""
    client: trio.SocketStream | None = None
    with pytest.RaisesGroup(trio.ClosedResourceError, flatten_subgroups=True):
        async with running() as services:
            client = await services.connect_sort()
            await client.send_all(sort_prefix(5) + b"[2,")
            await trio.testing.wait_all_tasks_blocked()
            [sock] = getattr(services.sockets, kind)
            trio.lowlevel.notify_closing(sock)
            sock.close()
            await trio.sleep_forever()
    assert client
    assert await read_all(client) == CUT_OFF
    await client.aclose()


async def test_a_connection_that_crashes_is_contained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug that one list finds ends that connection, is logged once, and stops nobody."""

    class BuggyPayload(Payload):
        def append(self, data: bytes) -> None:
            if data == b"[666]":
                raise ZeroDivisionError
            super().append(data)

    monkeypatch.setattr(sort_server, "Payload", BuggyPayload)
    async with running() as services:
        assert services.sort
        for _ in range(3):
            async with await services.connect_sort() as client:
                await client.send_all(sort_prefix(5) + b"[666]")
                assert await read_all(client) == b""
        assert await sort_list(b"[2,1]", services.sort) == b"[1,2]"
        assert (await services.ask("alpha.example")).exit_status == 0
    assert [message for message in caplog.messages if "error" in message] == [
        "unexpected error in sort connection"
    ]


async def test_sighup_reloads_the_zones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the files say now is served; with a mistake in them, what they said before."""
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 host.example\n")
    settings = replace(
        SETTINGS, sort=None, dns=DnsSettings(addresses=ANY_PORT, hosts=(str(hosts),))
    )

    async def address_of(services: Running) -> str:
        return (await services.ask("host.example")).records[0].split()[-1]

    async with running(settings) as services:
        assert await address_of(services) == "192.0.2.1"
        hosts.write_text("192.0.2.2 host.example\n")
        signal.raise_signal(signal.SIGHUP)
        while await address_of(services) == "192.0.2.1":
            pass
        assert await address_of(services) == "192.0.2.2"

        hosts.write_text("192.0.2.3 host.example\nnonsense\n")
        signal.raise_signal(signal.SIGHUP)
        while "zones not reloaded" not in caplog.text:
            assert await address_of(services) == "192.0.2.2"
        assert f"{hosts}:2" in caplog.text
        assert await address_of(services) == "192.0.2.2"


async def test_a_reload_that_hangs_does_not_keep_us_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A zone file on a file system that does not answer costs the reload, not the shutdown."""
    reading, answered = threading.Event(), threading.Event()

    def hang(dns: DnsSettings) -> None:
        reading.set()
        answered.wait()

    async with running(replace(SETTINGS, sort=None)) as services:
        monkeypatch.setattr(app, "zones_for", hang)
        signal.raise_signal(signal.SIGHUP)
        await trio.to_thread.run_sync(reading.wait)
        signal.raise_signal(signal.SIGTERM)
        try:
            await services.ended.wait()
        finally:
            answered.set()


async def test_signals_are_obeyed_while_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose workers do not get ready ends at the first signal."""
    monkeypatch.setattr(app, "open_workers", never_warm)
    settings = replace(SETTINGS, dns=None)
    [sockets] = bind_copies(settings)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, settings, sockets, None)
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)


@asynccontextmanager
async def never_warm(**_: object) -> AsyncIterator[None]:
    """Stand in for workers that do not get ready."""
    await trio.sleep_forever()
    yield


async def test_reloads_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many SIGHUPs come during a reload, one more reload answers them all."""
    reloads = 0
    go_on = trio.Event()

    async def slow_reload(*_: object) -> None:
        nonlocal reloads
        reloads += 1
        await go_on.wait()

    monkeypatch.setattr(app, "reload_zones", slow_reload)
    async with running(SETTINGS) as services:
        for _ in range(50):
            signal.raise_signal(signal.SIGHUP)
            await trio.testing.wait_all_tasks_blocked()
        assert reloads == 1
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert reloads == 2
        signal.raise_signal(signal.SIGTERM)
        await services.ended.wait()
