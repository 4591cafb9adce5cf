"""What the originals do instead: each flaw is asserted as a flaw, so that it stays an exhibit.

The numbers are those of the table of differences between asyncio and Trio.
"""

import json
import os
import signal
import struct

import dns.message
import dns.opcode
import psutil
import pytest
import trio

from tests.contract.dns_promises import GARBAGE, ask, records, replies
from tests.contract.promises import Subject, at_work, descendants, until
from tests.contract.sort_promises import SHORT, SHORT_SORTED, use
from tests.system.processes import wait_busy
from tests.system.serving import (
    ENDLESS_LIST,
    PATIENCE,
    Server,
    addresses,
    is_closed,
    sort_raw,
    sort_request,
)

A_WHILE = 0.3
"""Seconds after which a deadline of 0.1 would have passed."""

# --- DNS


async def everything_is_an_address(subject: Subject) -> None:
    """Whatever type is asked for, the answer is an A record."""
    for name, record_type in [
        ("alpha.example", "AAAA"),
        ("example", "MX"),
        ("beta.example", "TXT"),
    ]:
        query = dns.message.make_query(name, record_type)
        [reply] = await replies(subject.server.dns, query.to_wire())
        assert [each.split()[0] for each in records(dns.message.from_wire(reply))] == ["A"]


async def every_name_exists(subject: Subject) -> None:
    """A name that its zone does not hold has the default address."""
    assert await addresses(subject.server.dns, "nowhere.example") == ["127.0.0.1"]


async def edns_is_ignored(subject: Subject) -> None:
    """A query with EDNS gets a reply without."""
    assert (await ask(subject.server.dns, "alpha.example", "A", edns=True)).edns == -1


async def malformed_packets_raise(subject: Subject) -> None:
    """A packet that ends within its name raises in the callback, which is logged; it goes on."""
    async with subject.serving() as server:
        assert await replies(server.dns, GARBAGE["a label longer than the packet"]) == []
        await server.said("IndexError")
        assert await addresses(server.dns, "alpha.example") == ["192.0.2.10"]


async def replies_are_answered(subject: Subject) -> None:
    """A packet that is a reply gets a reply, and so on: two servers never stop."""
    reply = dns.message.make_response(dns.message.make_query("alpha.example", "A")).to_wire()
    assert len(await replies(subject.server.dns, reply)) == 1


async def every_operation_is_a_query(subject: Subject) -> None:
    """A NOTIFY is answered with an address."""
    notify = dns.message.make_query("example", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    [reply] = await replies(subject.server.dns, notify.to_wire())
    assert reply[2:4] == b"\x81\x80"
    assert reply[6:8] == b"\0\1"


async def no_tcp(subject: Subject) -> None:
    """Nobody listens on TCP."""
    server = subject.server.dns
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(server.host, server.port)


# --- sort


async def first_client_waits_for_ever(subject: Subject) -> None:
    """The first client gets its list but never the end: workers hold copies of its connection."""
    async with (
        subject.serving() as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        await stream.send_all(sort_request(SHORT))
        with trio.fail_after(PATIENCE):
            reply = await stream.receive_some()
        assert json.loads(reply) == SHORT_SORTED
        assert await sort_raw(server.sort, SHORT) == reply  # a later client sees its end
        await assert_open(stream)
        for worker in descendants(server):
            os.kill(worker, signal.SIGKILL)
        assert await is_closed(stream)  # it was the workers who kept it open


async def assert_open(stream: trio.SocketStream) -> None:
    """Check that nothing comes, not even the end, for a while."""
    with trio.move_on_after(A_WHILE) as waiting:
        await stream.receive_some()
    assert waiting.cancelled_caught


async def an_end_without_a_word(subject: Subject) -> None:
    """Whatever is wrong with a list, the client sees the end and nothing else; the log, why."""
    async with subject.serving() as server:
        await use(server)
        for payload in (b"[1,", b'[1,"a"]'):
            assert await sort_raw(server.sort, payload) == b""
        await server.said("JSONDecodeError")
        await server.said("TypeError")
        await use(server)


async def any_object_is_a_list(subject: Subject) -> None:
    """Lists of lists are sorted, and so are booleans."""
    assert json.loads(await sort_raw(subject.server.sort, b"[[2],[1]]")) == [[1], [2]]
    assert json.loads(await sort_raw(subject.server.sort, b"[true,false]")) == [False, True]


async def no_limit(subject: Subject) -> None:
    """A list of 8 EiB is waited for."""
    await stays_open(subject.server, struct.pack("!Q", 2**63) + b"[")


async def no_deadline(subject: Subject) -> None:
    """A list that does not arrive is waited for, for ever."""
    await stays_open(subject.server, sort_request(SHORT)[:9])


async def stays_open(server: Server, sent: bytes) -> None:
    """Check that a client that has sent this much is neither answered nor hung up on."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
        await stream.send_all(sent)
        await use(server)
        await assert_open(stream)


async def cut_off_in_silence(subject: Subject) -> None:
    """A list whose sender stops within it ends in an end, and a traceback in the log."""
    async with subject.serving() as server:
        await use(server)
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(sort_request(SHORT)[:-1])
            await stream.send_eof()
            assert await is_closed(stream)
        await server.said("IncompleteReadError")


async def vanishing_clients_are_logged(subject: Subject) -> None:
    """A client that leaves early is a traceback in the log."""
    async with subject.serving() as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(b"\0\0\0\0")
        await server.said("IncompleteReadError")
        await use(server)


async def everybody_gets_in(subject: Subject) -> None:
    """There is no cap on connections."""
    server = subject.server
    streams = [await trio.open_tcp_stream(server.sort.host, server.sort.port) for _ in range(200)]
    await use(server)
    for stream in streams:
        await stream.aclose()


async def jobs_run_on(subject: Subject) -> None:
    """The job of a client that has left burns its core to the end."""
    async with subject.serving() as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(sort_request(ENDLESS_LIST))
            worker = await at_work(server)
        await use(server)  # accepted later: the server has seen the other leave
        await wait_busy(worker)


async def broken_pool(subject: Subject) -> None:
    """kill -9 of one worker fails its list, all other lists, and all that come, in silence."""
    async with subject.serving() as server:
        await use(server)
        async with (
            await trio.open_tcp_stream(server.sort.host, server.sort.port) as first,
            await trio.open_tcp_stream(server.sort.host, server.sort.port) as second,
        ):
            await first.send_all(sort_request(ENDLESS_LIST))
            victim = await at_work(server)
            await second.send_all(sort_request(ENDLESS_LIST))
            if len(descendants(server)) > 1:
                await at_work(server, besides=victim)
            os.kill(victim, signal.SIGKILL)
            assert await is_closed(first)
            assert await is_closed(second)
        assert await sort_raw(server.sort, SHORT) == b""
        await server.said("BrokenProcessPool")


# --- life


async def sigterm_is_a_crash(subject: Subject) -> None:
    """SIGTERM kills it on the spot; its ready file, its workers and its port stay behind.

    The workers hold copies of the listening socket, so clients get in and are never served.
    """
    async with subject.serving() as server:
        if "sort" in subject.variant.services:
            await use(server)
        workers = [psutil.Process(pid) for pid in descendants(server)]
        server.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await server.process.wait() == -signal.SIGTERM
        assert server.ready_file.exists()
        assert all(worker.is_running() for worker in workers)
        if workers:
            async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
                await assert_open(stream)


async def sighup_is_a_crash(subject: Subject) -> None:
    """SIGHUP kills it on the spot."""
    async with subject.serving() as server:
        server.process.send_signal(signal.SIGHUP)
        assert await server.ended() == -signal.SIGHUP


async def workers_outlive_it(subject: Subject) -> None:
    """After kill -9 of the server, its workers wait for ever for a list that nobody will send."""
    async with subject.serving() as server:
        await use(server)
        orphans = [psutil.Process(pid) for pid in descendants(server)]
        assert orphans
        server.process.kill()
        with trio.fail_after(PATIENCE):
            await server.process.wait()
        await until(lambda: all(orphan.ppid() != server.process.pid for orphan in orphans))
        assert all(orphan.is_running() for orphan in orphans)


async def address_in_use_is_a_traceback(subject: Subject) -> None:
    """An address in use is a traceback, and status 1."""
    server = subject.server
    [service] = subject.variant.services
    ended = await subject.run("--port", str(getattr(server, service).port))
    assert ended.status == 1
    assert "Traceback" in ended.err
    assert "ddress already in use" in ended.err


async def draining_is_not_known(subject: Subject) -> None:
    """SIGTERM ends connections, begun or not, and whatever a worker does is for nobody."""
    async with subject.serving() as server:
        await use(server)  # before there is a connection that workers could keep open
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(sort_request(SHORT)[:9])
            await use(server)  # accepted later, so ours has been accepted
            server.process.send_signal(signal.SIGTERM)
            assert await is_closed(stream)
        with trio.fail_after(PATIENCE):
            assert await server.process.wait() == -signal.SIGTERM
