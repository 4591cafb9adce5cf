"""What the sort server promises: its protocol, its errors, its limits, and its workers."""

import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.contract.promises import (
    LOOK_INTERVAL,
    Subject,
    at_work,
    descendants,
    promise,
    until,
    written,
)
from tests.system.processes import wait_busy
from tests.system.serving import (
    ENDLESS_LIST,
    PATIENCE,
    Server,
    read_all,
    sort_raw,
    sort_request,
)

GNOME = ("--no-dns", "--algorithm", "gnome", "--sort-in", "process", "--grace", "600")
"""Sorting that takes as long as a test likes, in a process that it can look at."""

SHORT, SHORT_SORTED = b"[3,1,2]", [1, 2, 3]


def connect(server: Server) -> socket.socket:
    """Connect as a client of the book does: blocking."""
    return socket.create_connection((server.sort.host, server.sort.port), timeout=PATIENCE)


def book_client(server: Server, values: object) -> object:
    """Have a list sorted by a client of the book: blocking, and reading until the end."""
    with connect(server) as sock:
        payload = json.dumps(values).encode()
        sock.sendall(struct.pack("!Q", len(payload)))
        sock.sendall(payload)
        reply = b""
        while data := sock.recv(65536):
            reply += data
    return json.loads(reply)


async def sorted_by(server: Server, payload: bytes) -> object:
    """Have a list sorted, and return what comes back, decoded."""
    return json.loads(await sort_raw(server.sort, payload))


async def use(server: Server) -> None:
    """Have a list sorted by a client that knows where a list ends, so that workers have worked."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
        await stream.send_all(sort_request(SHORT))
        reply = b""
        with trio.fail_after(PATIENCE):
            while not reply.endswith(b"]"):
                data = await stream.receive_some()
                assert data, "no list came back"
                reply += data
    assert json.loads(reply) == SHORT_SORTED


async def error_of(server: Server, payload: bytes) -> str:
    """Send a list that cannot be sorted, and return the code of the error."""
    reply = json.loads(await sort_raw(server.sort, payload))
    assert list(reply) == ["error"]
    assert sorted(reply["error"]) == ["code", "message"]
    return str(reply["error"]["code"])


@promise("sort")
async def book_clients(subject: Subject) -> None:
    """A client of the book gets its list sorted, and then the end of the stream."""
    lists: list[list[Any]] = [
        [],
        [3, 1, 2],
        [2.5, -1, 10**6],
        ["b", "a", "c"],
        list(range(300, 0, -1)),
    ]
    for values in lists:
        found = await trio.to_thread.run_sync(book_client, subject.server, values)
        assert found == sorted(values)


@promise("sort")
async def first_client(subject: Subject) -> None:
    """The very first client sees the end of its stream like any other."""
    async with subject.serving() as server:
        assert await trio.to_thread.run_sync(book_client, server, [3, 1, 2]) == [1, 2, 3]


@promise("sort")
async def exact_numbers(subject: Subject) -> None:
    """Integers of any size are exact, and equal elements keep their order and their spelling."""
    reply = await sort_raw(subject.server.sort, b"[%d, 1.0, 1, %d, 0.1]" % (2**70, 2**70 - 1))
    assert reply.replace(b" ", b"") == b"[0.1,1.0,1,%d,%d]" % (2**70 - 1, 2**70)


@promise("sort")
async def long_list(subject: Subject) -> None:
    """A list of a megabyte comes back whole."""
    values = [1, 0, *range(2, 150_000)]  # in order but for two: quick by any algorithm
    assert await sorted_by(subject.server, json.dumps(values).encode()) == sorted(values)


@promise("sort")
async def list_in_pieces(subject: Subject) -> None:
    """A list may arrive a byte at a time."""
    async with await trio.open_tcp_stream(
        subject.server.sort.host, subject.server.sort.port
    ) as stream:
        for byte in sort_request(SHORT):
            await stream.send_all(bytes([byte]))
        with trio.fail_after(PATIENCE):
            assert json.loads(await read_all(stream)) == SHORT_SORTED


@promise("sort")
async def clients_that_vanish(subject: Subject) -> None:
    """Clients that reset their connection at any point disturb nobody, and leave no traceback."""
    server = subject.server
    before = len(server.lines)
    request = sort_request(b"[%s]" % b",".join([b"1"] * 5000))
    for sent in (0, 1, 8, 9, 1000, len(request)):
        with connect(server) as sock:
            sock.sendall(request[:sent])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert await sorted_by(server, SHORT) == SHORT_SORTED
    assert server.lines[before:] == []


@promise("sort")
async def not_json(subject: Subject) -> None:
    """What is not JSON is said to be: `not-json`."""
    for payload in (b"[1,", b'["\xff"]', b"", b"[1] [2]"):
        assert await error_of(subject.server, payload) == "not-json"


@promise("sort")
async def not_sortable(subject: Subject) -> None:
    """What has no order is said to have none: `not-sortable`."""
    for payload in (b'{"a":1}', b'[1,"a"]', b"[[2],[1]]", b"[true]"):
        assert await error_of(subject.server, payload) == "not-sortable"


@promise("sort")
async def too_large(subject: Subject) -> None:
    """A list that is announced as too large is refused before it is sent: `too-large`."""
    await announce_too_much(subject.server)


async def announce_too_much(server: Server) -> None:
    """Announce a list that is too large, and check that it is refused at once."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
        await stream.send_all(struct.pack("!Q", 2**63))
        with trio.fail_after(PATIENCE):
            assert b'"too-large"' in await stream.receive_some()


@promise("sort")
async def cut_off(subject: Subject) -> None:
    """A list whose sender stops within it is answered with `not-json`, and forgotten."""
    server = subject.server.sort
    async with await trio.open_tcp_stream(server.host, server.port) as stream:
        await stream.send_all(sort_request(SHORT)[:-1])
        await stream.send_eof()
        with trio.fail_after(PATIENCE):
            assert b'"not-json"' in await read_all(stream)


@promise("sort")
async def slow_sender(subject: Subject) -> None:
    """A list that does not arrive in time is answered with `timeout`, begun or not."""
    with written("[sort]\nread_deadline = 0.1\nidle_deadline = 0.1\n") as config:
        async with subject.serving(
            "--no-dns", "--sort-in", "inline", "--config", f"{config}"
        ) as server:
            for sent in (0, 4, 9):
                async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
                    if sent:
                        await stream.send_all(sort_request(SHORT)[:sent])
                    with trio.fail_after(PATIENCE):
                        assert b'"timeout"' in await stream.receive_some()


@promise("sort")
async def slow_job(subject: Subject) -> None:
    """A list that takes too long is answered with `timeout`, and its worker is free again."""
    with written("[sort]\njob_deadline = 0.2\n") as config:
        async with subject.serving(*GNOME, "--config", f"{config}") as server:
            assert await error_of(server, ENDLESS_LIST) == "timeout"
            # The deadline is also that of waiting for a worker, and to replace one takes about as
            # long: a machine that is busy may need several. (AnyIO starts it in the job's time.)
            with trio.fail_after(PATIENCE):
                while (found := await sorted_by(server, SHORT)) != SHORT_SORTED:
                    assert isinstance(found, dict)
                    assert found["error"]["code"] in {"busy", "timeout"}


@promise("sort")
async def too_many_connections(subject: Subject) -> None:
    """A client beyond the cap is told `busy`, and the ones inside are served on."""
    with written("[sort]\nconnections = 1\n") as config:
        async with (
            subject.serving("--no-dns", "--sort-in", "inline", "--config", f"{config}") as server,
            await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
        ):
            assert await error_of(server, SHORT) == "busy"
            await stream.send_all(sort_request(SHORT))
            with trio.fail_after(PATIENCE):
                assert json.loads(await read_all(stream)) == SHORT_SORTED


@promise("sort", about_option=True)
async def too_many_lists(subject: Subject) -> None:
    """A list for which no worker will be free soon is told `busy`."""
    with written("[sort]\nmax_waiting = 0\n") as config:
        async with (
            subject.serving(*GNOME, "--config", f"{config}") as server,
            await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
        ):
            await stream.send_all(sort_request(ENDLESS_LIST))
            await at_work(server)
            assert await error_of(server, SHORT) == "busy"


@promise("sort", about_option=True)
async def half_close(subject: Subject) -> None:
    """With --allow-half-close a client that closes its sending side gets its reply."""
    async with (
        subject.serving("--no-dns", "--sort-in", "process", "--allow-half-close") as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream,
    ):
        await stream.send_all(sort_request(SHORT))
        await stream.send_eof()
        with trio.fail_after(PATIENCE):
            assert json.loads(await read_all(stream)) == SHORT_SORTED


@promise("sort")
async def client_leaves(subject: Subject) -> None:
    """The job of a client that leaves ends with it, and its worker is free for the next."""
    async with subject.serving(*GNOME) as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(sort_request(ENDLESS_LIST))
            await at_work(server)
        assert await sorted_by(server, SHORT) == SHORT_SORTED


@promise("sort")
async def worker_killed_at_work(subject: Subject) -> None:
    """kill -9 of a worker fails the list that it sorts: `worker-failed`; the next is sorted."""
    async with subject.serving(*GNOME) as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(sort_request(ENDLESS_LIST))
            os.kill(await at_work(server), signal.SIGKILL)
            with trio.fail_after(PATIENCE):
                assert b'"worker-failed"' in await read_all(stream)
        assert await sorted_by(server, SHORT) == SHORT_SORTED


@promise("sort")
async def worker_killed_beside_another(subject: Subject) -> None:
    """kill -9 of a worker fails no list of another worker."""
    async with (
        subject.serving(*GNOME, "--workers", "2") as server,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as first,
        await trio.open_tcp_stream(server.sort.host, server.sort.port) as second,
    ):
        await first.send_all(sort_request(ENDLESS_LIST))
        victim = await at_work(server)
        await second.send_all(sort_request(ENDLESS_LIST))
        other = await at_work(server, besides=victim)
        os.kill(victim, signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            await read_all(first)
        await wait_busy(other)


@promise("sort")
async def worker_killed_idle(subject: Subject) -> None:
    """kill -9 of an idle worker costs at most one list, and no list after that."""
    async with subject.serving("--no-dns", "--sort-in", "process") as server:
        assert await sorted_by(server, SHORT) == SHORT_SORTED
        before = set(descendants(server))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not before & set(descendants(server)), LOOK_INTERVAL)
        await sort_raw(server.sort, SHORT)
        assert await sorted_by(server, SHORT) == SHORT_SORTED


@promise("sort", about_option=True)
async def worker_killed_before_it_reads(subject: Subject) -> None:
    """A worker that is killed before it has read its list fails none: another one sorts it."""
    async with list_for_the_dead(subject) as reply:
        assert json.loads(reply) == SHORT_SORTED


@asynccontextmanager
async def list_for_the_dead(subject: Subject) -> AsyncIterator[bytes]:
    """Hand a list to a worker that is stopped and then killed; yield what the client gets."""
    async with subject.serving(*GNOME) as server:
        assert await sorted_by(server, SHORT) == SHORT_SORTED
        workers = descendants(server)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(sort_request(SHORT))
            for _ in range(3):  # answered without a worker, and accepted later: ours has begun
                await announce_too_much(server)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            with trio.fail_after(PATIENCE):
                yield await read_all(stream)
