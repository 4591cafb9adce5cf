"""What every variant promises to whoever operates it: start, ready, signals, exit status."""

import json
import os
import signal

import trio

from tests.contract.dns_promises import KNOWN
from tests.contract.promises import Subject, at_work, descendants, promise
from tests.contract.sort_promises import GNOME, SHORT, SHORT_SORTED, sorted_by, use
from tests.system.processes import wait_gone
from tests.system.serving import (
    ENDLESS_LIST,
    LONG_GRACE,
    PATIENCE,
    addresses,
    is_closed,
    read_all,
    sort_request,
)
from trio_services.settings import Address

INLINE = ("--no-dns", "--sort-in", "inline", "--grace", LONG_GRACE)

OTHERS_OFF = {"dns": ("--no-sort",), "sort": ("--no-dns",)}


async def until_refused(address: Address) -> None:
    """Wait until nobody listens on `address`."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                stream = await trio.open_tcp_stream(address.host, address.port)
            except OSError:
                return
            await stream.aclose()


@promise("any")
async def ready_file(subject: Subject) -> None:
    """The ready file names the process, and where each service listens."""
    server = subject.server
    ready = json.loads(server.ready_file.read_text())
    assert ready.keys() == {"pid", *subject.variant.services}
    assert ready["pid"] == server.process.pid
    if "dns" in ready:
        assert await addresses(server.dns, "alpha.example") == [KNOWN["alpha.example"]]
    if "sort" in ready:
        await use(server)


@promise("any")
async def sigterm(subject: Subject) -> None:
    """A server with nothing to do ends at SIGTERM with status 0, and takes its ready file along."""
    async with subject.serving() as server:
        if "sort" in subject.variant.services:
            await use(server)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert not server.ready_file.exists()


@promise("any")
async def ctrl_c(subject: Subject) -> None:
    """Ctrl-C, SIGINT to every process of the group, ends it with status 0 and no traceback."""
    async with subject.serving() as server:
        if "sort" in subject.variant.services:
            await use(server)
        os.killpg(server.process.pid, signal.SIGINT)
        assert await server.ended() == 0
        assert not any("Traceback" in line for line in server.lines)


@promise("any")
async def kill_9(subject: Subject) -> None:
    """After kill -9 of the server, its workers end by themselves."""
    async with subject.serving() as server:
        if "sort" in subject.variant.services:
            await use(server)
        orphans = descendants(server)
        server.process.kill()
        for orphan in orphans:
            await wait_gone(orphan)


@promise("any")
async def address_in_use(subject: Subject) -> None:
    """An address in use is one line, which names it, and status 2."""
    server = subject.server
    service = subject.variant.services[0]
    taken = getattr(server, service)
    ended = await subject.run(f"--{service}", str(taken), *OTHERS_OFF[service])
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert str(taken) in ended.err
    assert "address already in use" in ended.err


@promise("sort")
async def drain(subject: Subject) -> None:
    """After SIGTERM nobody new gets in, and a list that has begun is received and sorted."""
    async with (
        subject.serving(*INLINE) as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        address = server.sort
        await stream.send_all(sort_request(SHORT)[:9])
        assert await sorted_by(server, SHORT) == SHORT_SORTED  # accepted later: ours has begun
        server.process.send_signal(signal.SIGTERM)
        await until_refused(address)
        await stream.send_all(sort_request(SHORT)[9:])
        with trio.fail_after(PATIENCE):
            assert json.loads(await read_all(stream)) == SHORT_SORTED
        assert await server.ended() == 0


@promise("sort")
async def drain_of_a_job(subject: Subject) -> None:
    """After SIGTERM a list that a worker has is sorted and replied to."""
    async with (
        subject.serving(*GNOME) as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        values = list(range(2000, 0, -1))
        await stream.send_all(sort_request(json.dumps(values).encode()))
        await at_work(server)
        server.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert json.loads(await read_all(stream)) == values[::-1]
        assert await server.ended() == 0


@promise("sort")
async def idle_connections(subject: Subject) -> None:
    """At SIGTERM connections that have not begun are closed at once, whatever the grace period."""
    async with (
        subject.serving(*INLINE) as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        assert await sorted_by(server, SHORT) == SHORT_SORTED
        server.process.send_signal(signal.SIGTERM)
        assert await is_closed(stream)
        assert await server.ended() == 0


@promise("sort")
async def grace(subject: Subject) -> None:
    """A job that outlives the grace period is cancelled with its worker; the status is still 0."""
    async with (
        subject.serving(*GNOME, "--grace", "0.1") as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        await stream.send_all(sort_request(ENDLESS_LIST))
        await at_work(server)
        server.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert b'"busy"' in await read_all(stream)
        assert await server.ended() == 0


@promise("sort")
async def last_word(subject: Subject) -> None:
    """A client that is cut off within its list, at the end of the grace period, is told `busy`."""
    async with (
        subject.serving("--no-dns", "--sort-in", "inline", "--grace", "0.1") as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        await stream.send_all(sort_request(SHORT)[:9])
        assert await sorted_by(server, SHORT) == SHORT_SORTED  # accepted later: ours has begun
        server.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert b'"busy"' in await read_all(stream)
        assert await server.ended() == 0


@promise("sort")
async def second_signal(subject: Subject) -> None:
    """A second signal cancels at once what the grace period would still wait for."""
    async with (
        subject.serving(*GNOME) as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        address = server.sort
        await stream.send_all(sort_request(ENDLESS_LIST))
        await at_work(server)
        server.process.send_signal(signal.SIGTERM)
        await until_refused(address)
        server.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert b'"busy"' in await read_all(stream)
        assert await server.ended() == 0


@promise("sort")
async def client_leaves_while_draining(subject: Subject) -> None:
    """While it drains, a client that leaves is not waited for."""
    async with subject.serving(*GNOME) as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            address = server.sort
            await stream.send_all(sort_request(ENDLESS_LIST))
            await at_work(server)
            server.process.send_signal(signal.SIGTERM)
            await until_refused(address)
        assert await server.ended() == 0


@promise("dns", about_option=True)
async def copies(subject: Subject) -> None:
    """--processes 2 serves from two processes on the same ports."""
    async with subject.serving("--no-sort", "--processes", "2") as server:
        assert len(descendants(server)) == 2
        assert await addresses(server.dns, "alpha.example") == [KNOWN["alpha.example"]]
