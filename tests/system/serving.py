"""The real program, in processes of its own, and the few things that tests do with it.

Nothing here waits for a time. What the program logs is read as it comes, and tests wait for a line
of it. Workers and copies share its standard error, so the end of that pipe is the end of every
process of the server: leaving `serving` waits for it, and so each test that uses it also tests
that no process is left behind.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from trio_services.dns_client import query
from trio_services.settings import Address

ROOT = Path(__file__).parents[2]

PROGRAM = (sys.executable, "-m", "trio_services")

PATIENCE = 60.0
"""Seconds after which whatever is waited for is taken as never to come; no test waits that long
unless it fails."""

LONG_GRACE = "600"
"""A grace period that a test does not live to see: what ends before, ended for another reason."""

ENDLESS_LIST = json.dumps(list(range(100_000, 0, -1))).encode()
"""Ten minutes of gnome sort."""


@dataclass(slots=True)
class Server:
    """A running `trio-services serve`.

    Attributes:
        process: The process that was started.
        folder: The ready file's, and the program's for temporary files; else empty.
        lines: What it has written to standard error up to now.
    """

    process: trio.Process
    folder: Path
    lines: list[str] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)
    _silent: bool = False

    @property
    def ready_file(self) -> Path:
        """Where the program says that it is ready."""
        return self.folder / "ready.json"

    @property
    def dns(self) -> Address:
        """The first address of the DNS server, from the ready file."""
        return self._address("dns")

    @property
    def sort(self) -> Address:
        """The first address of the sort server, from the ready file."""
        return self._address("sort")

    def _address(self, service: str) -> Address:
        return Address(*json.loads(self.ready_file.read_text())[service][0])

    def ports(self) -> dict[str, int]:
        """Return the first port of each service that runs, and of the status page."""
        ready = json.loads(self.ready_file.read_text())
        services = ("dns", "sort", "status")
        return {service: ready[service][0][1] for service in services if service in ready}

    async def news(self) -> None:
        """Wait for a further line, or for the end."""
        assert not self._silent, "it has ended"
        await self._news.wait()

    async def said(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until `times` lines match `pattern`, and return those that do.

        Raises:
            AssertionError: The server has ended without saying so.
        """
        with trio.fail_after(PATIENCE):
            while len(found := [line for line in self.lines if re.search(pattern, line)]) < times:
                assert not self._silent, f"ended without {times} times {pattern!r}"
                await self._news.wait()
        return found

    async def ended(self) -> int:
        """Wait until every process of the server is gone; return the exit status of the first."""
        with trio.fail_after(PATIENCE):
            status = await self.process.wait()
            while not self._silent:
                await self._news.wait()
        return status

    async def read_log(self) -> None:
        """Read standard error until nobody can write to it any more."""
        assert self.process.stderr
        rest = b""
        async for data in self.process.stderr:
            *whole, rest = (rest + data).split(b"\n")
            self.lines += [line.decode() for line in whole]
            self._tell()
        if rest:
            self.lines.append(rest.decode())
        self._silent = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def serving(
    *options: str,
    program: Sequence[str] = PROGRAM,
    cwd: Path | None = None,
    ready: bool = True,
) -> AsyncIterator[Server]:
    """Run `trio-services serve` on free ports, with one worker unless `options` say otherwise.

    Args:
        options: Further options.
        program: What to run with the arguments of `trio-services`.
        cwd: Where it runs; by default in `Server.folder`.
        ready: Whether to wait until it is.

    On leaving, every process of the server is gone, or the test fails. Its log is added to any
    exception as a note.
    """
    arguments = ["--workers", "1", *options]
    for service in ("--dns", "--sort"):
        if service not in options:
            arguments += [service, "127.0.0.1:0"]
    if "--status" not in options:
        arguments.append("--no-status")
    with TemporaryDirectory() as folder:
        process = await trio.lowlevel.open_process(
            [*program, "serve", "--ready-file", f"{folder}/ready.json", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=cwd or folder,
            env=environment(TMPDIR=folder),
            process_group=0,
        )
        server = Server(process, Path(folder))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.read_log)
                try:
                    if ready:  # the parent's own line: copies that it supervises write theirs
                        await server.said(rf"\[{process.pid}\] trio_services: \w+ on ")
                    yield server
                finally:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await server.ended()
        except BaseException as error:
            error.add_note("\n".join(["the server's log:", *server.lines]))
            raise


def environment(**extra: str) -> dict[str, str]:
    """Return a small environment in which the package is found in every folder."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        **extra,
    }


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str


async def run(*command: str, stdin: bytes = b"", folder: Path | None = None) -> Finished:
    """Run a command to its end."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            command,
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=folder,
            env=environment(),
        )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


async def run_program(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> Finished:
    """Run `trio-services` to its end."""
    return await run(*PROGRAM, *arguments, stdin=stdin, folder=folder)


async def addresses(server: Address, name: str, *, tcp: bool = False) -> list[str]:
    """Ask for the IPv4 addresses of a name."""
    reply = await query(name, "A", server, tcp=tcp, timeout=PATIENCE)
    return [record.split()[-1] for record in reply.records]


def sort_request(payload: bytes) -> bytes:
    """Return what a client of the sort service sends."""
    return struct.pack("!Q", len(payload)) + payload


async def sort_raw(server: Address, payload: bytes) -> bytes:
    """Have a list sorted by a client that sends, reads until the end, and knows no more."""
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream(server.host, server.port) as stream:
            await stream.send_all(sort_request(payload))
            return await read_all(stream)


@asynccontextmanager
async def in_flight(server: Server, payload: bytes) -> AsyncIterator[trio.SocketStream]:
    """Send a list, and be inside when the server has begun to read it.

    Connections are accepted in order, so once a later one has its reply, ours has begun. The later
    one's list is so short that it needs no worker, or with `--sort-in` a second one.
    """
    address = server.sort
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        await stream.send_all(sort_request(payload))
        assert await sort_raw(address, b"[2,1]") == b"[1,2]"
        yield stream


async def read_all(stream: trio.SocketStream) -> bytes:
    """Read until the other side ends the stream, in order or not."""
    received = b""
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass  # a reset ends it too; what is missing then is for the caller to see
    return received


async def is_closed(stream: trio.SocketStream) -> bool:
    """Wait for the other side to close; tell whether it did, without a further word."""
    with trio.fail_after(PATIENCE):
        return not await read_all(stream)


async def was_cut_off(stream: trio.SocketStream) -> bool:
    """Wait for the sort server to close; tell whether it said that it is stopping."""
    with trio.fail_after(PATIENCE):
        return b'"the server is stopping"' in await read_all(stream)


def has_ipv6() -> bool:
    """Tell whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
