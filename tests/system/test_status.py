"""The status page of the real program: its options, its copies, and what it is when it is not."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.status.http_client import fetch
from tests.system.processes import copies, needs_proc
from tests.system.serving import (
    ENDLESS_LIST,
    LONG_GRACE,
    PATIENCE,
    PROGRAM,
    Server,
    addresses,
    environment,
    in_flight,
    run_program,
    serving,
    sort_raw,
)
from trio_services.settings import DEFAULT_STATUS, Address

STATUS = ("--status", "127.0.0.1:0")
WITHOUT_THE_EXTRA = (
    sys.executable,
    "-c",
    "import sys\n"
    "sys.modules.update(dict.fromkeys(('h11', 'starlette', 'prometheus_client')))\n"
    "from trio_services.cli import main; sys.argv[0] = 'trio-services'; main()",
)
"""The program where what the page is made with is not installed."""


def status_of(server: Server) -> Address:
    """Return where the page of a server is, from its ready file."""
    return Address(*json.loads(server.ready_file.read_text())["status"][0])


async def state(server: Server) -> dict[str, object]:
    """Return the state that the page of a server shows."""
    found: dict[str, object] = (await fetch(status_of(server), "/state.json")).json()
    return found


async def test_page() -> None:
    """The page is where the ready file and the log say, and the services are in its tree."""
    async with serving(*STATUS) as server:
        where = status_of(server)
        await server.said(f"status on {where}")
        assert (await fetch(where, "/")).body.startswith(b"<!doctype html>")
        assert await addresses(server.dns, "alpha.example") == ["192.0.2.10"]
        assert (await sort_raw(server.sort, b"[2,1]")) == b"[1,2]"
        shown = await state(server)
        assert shown["pid"] == server.process.pid
        answer = await fetch(where, "/sort", body=b"[3,1,2]")
        assert answer.body == b"[1,2,3]"


async def test_no_page() -> None:
    """With --no-status, or `status = false`, there is none, and nothing is said of it."""
    async with serving("--no-status") as server:
        assert "status" not in json.loads(server.ready_file.read_text())
        assert not any("status" in line for line in server.lines)


async def test_settings(tmp_path: Path) -> None:
    """The table of the settings file is obeyed, and options go before it."""
    config = tmp_path / "settings.toml"
    config.write_text('[status]\naddress = "127.0.0.1:1"\ncontrol = true\nstreams = 1\n')
    async with serving("--config", f"{config}", *STATUS) as server:
        assert (await state(server))["control"] is True


async def test_an_address_in_use() -> None:
    """One that was asked for and is taken ends the start in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = await run_program("serve", "--no-dns", "--sort", "127.0.0.1:0", "--status", address)
    assert done.status == 2
    assert done.err == (
        f"trio-services: cannot listen on {address} (TCP): address already in use\n"
    )


async def test_a_second_server_needs_no_option() -> None:
    """If the default address is taken, the page is on a port that is free, as the log says."""
    with socket.socket() as taken:
        with suppress(OSError):  # somebody else has it: as good
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((DEFAULT_STATUS.host, DEFAULT_STATUS.port))
            taken.listen()
        arguments = ["--no-dns", "--sort", "127.0.0.1:0", "--sort-in", "inline"]
        process = await trio.lowlevel.open_process(
            [*PROGRAM, "serve", *arguments, "--ready-file", "/dev/stdout"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        server = Server(process, Path())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.read_log)
            [line] = await server.said("status on 127.0.0.1:")
            process.terminate()
            assert await server.ended() == 0
    assert not line.endswith(f":{DEFAULT_STATUS.port}")


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_without_the_extra(processes: str) -> None:
    """Everything else is served, and one line says what is missing and how to get it."""
    options = (*STATUS, "--processes", processes)
    async with serving(*options, program=WITHOUT_THE_EXTRA) as server:
        [line] = await server.said("no status page")
        assert "trio-services[status]" in line
        assert "starlette" in line
        assert "status" not in json.loads(server.ready_file.read_text())
        assert await addresses(server.dns, "alpha.example") == ["192.0.2.10"]
        server.process.terminate()
        assert await server.ended() == 0
        assert len([line for line in server.lines if "no status page" in line]) == 1


async def test_the_end_does_not_wait_for_pages() -> None:
    """Open pages, and clients that said nothing, are no work in flight."""
    async with serving(*STATUS, "--grace", LONG_GRACE) as server:
        where = status_of(server)
        async with await trio.open_tcp_stream(where.host, where.port) as stream:
            await stream.send_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert await stream.receive_some()
            server.process.terminate()
            assert await server.ended() == 0


@needs_proc
async def test_copies() -> None:
    """The parent has one page for all: counters are summed, trees stand below its own."""
    async with serving(*STATUS, "--processes", "2", "--status-control") as server:
        where = status_of(server)
        for _ in range(10):
            await addresses(server.dns, "alpha.example", tcp=True)
        shown = (await fetch(where, "/state.json")).json()
        assert shown["pid"] == server.process.pid
        assert sorted(each["pid"] for each in shown["copies"]) == copies(server.process.pid)
        assert shown["dns"]["queries"] == 10
        names = [row["name"] for row in shown["tree"]["tasks"]]
        assert names.count("dns tcp") == 2
        assert (await fetch(where, "/readyz")).status == 200
        assert (await fetch(where, "/sort", body=b"[2,1]")).body == b"[1,2]"
        metrics = (await fetch(where, "/metrics")).body.decode()
        assert 'trio_services_up{copy="2"} 1.0' in metrics


@needs_proc
async def test_a_copy_that_is_stopped_is_missing() -> None:
    """It is shown so, the others are shown all the same, and it is back when it goes on."""
    async with serving(*STATUS, "--processes", "2") as server:
        where = status_of(server)
        [stopped, _] = copies(server.process.pid)
        os.kill(stopped, signal.SIGSTOP)
        try:
            shown = (await fetch(where, "/state.json")).json()
            missing = {each["pid"]: "missing" in each for each in shown["copies"]}
            assert missing.pop(stopped) is True
            assert list(missing.values()) == [False]
            assert (await fetch(where, "/readyz")).status == 503
            assert (await fetch(where, "/healthz")).status == 200
        finally:
            os.kill(stopped, signal.SIGCONT)
        with trio.fail_after(PATIENCE):
            while (await fetch(where, "/readyz")).status != 200:
                pass


@needs_proc
async def test_a_copy_that_died_is_told_of() -> None:
    """The page says that it died, and shows its successor."""
    async with serving(*STATUS, "--processes", "2") as server:
        where = status_of(server)
        [died, _] = copies(server.process.pid)
        os.kill(died, signal.SIGKILL)
        await server.said("ended with SIGKILL")
        with trio.fail_after(PATIENCE):
            while (await fetch(where, "/readyz")).status != 200:
                pass
        shown = (await fetch(where, "/state.json")).json()
        assert died not in [each["pid"] for each in shown["copies"]]
        assert any("SIGKILL" in each["text"] for each in shown["recent"])


@pytest.mark.parametrize("processes", [1, 2])
async def test_sigusr1(processes: int) -> None:
    """The task tree is written to the log, of copies too, and nothing ends."""
    async with serving("--processes", str(processes)) as server:
        server.process.send_signal(signal.SIGUSR1)
        await server.said("what is running:", processes + (processes > 1))
        await server.said("dns udp .*serve_dns_udp", processes)
        assert await addresses(server.dns, "alpha.example") == ["192.0.2.10"]


async def test_trace(tmp_path: Path) -> None:
    """What tasks did is in the file when the server has ended."""
    path = tmp_path / "trace.json"
    async with serving("--trace", f"{path}") as server:
        assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"
        assert not path.exists()
        server.process.terminate()
        assert await server.ended() == 0
    names = {event["args"].get("name") for event in json.loads(path.read_text())["traceEvents"]
             if "args" in event}  # fmt: skip
    assert {"dns udp", "sort connection"} <= names
    assert os.listdir(tmp_path) == [path.name]


async def test_a_trace_that_cannot_be_written() -> None:
    """It is told in one line before anything is served; nor can copies be traced."""
    quiet = ("serve", "--no-status", "--no-dns", "--sort", "127.0.0.1:0")
    done = await run_program(*quiet, "--trace", "missing/trace.json")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "missing/trace.json: No such file" in done.err
    done = await run_program(*quiet, "--trace", "trace.json", "--processes", "2")
    assert (done.status, done.err.count("\n")) == (2, 1)


async def test_tree() -> None:
    """`trio-services tree` prints the tree of a running server, or its JSON."""
    async with serving(*STATUS, "--algorithm", "gnome") as server:
        where = str(status_of(server))
        async with in_flight(server, ENDLESS_LIST):
            shown = await run_program("tree", "--status", where)
            assert shown.status == 0
            lines = shown.out.splitlines()
            at = next(index for index, line in enumerate(lines) if "sort connection" in line)
            assert "sort job" in lines[at + 2]
            frames = await run_program("tree", "--status", where, "--frames")
            assert "serve_dns_udp" in frames.out
        document = await run_program("tree", "--status", where, "--json")
        assert {row["name"] for row in json.loads(document.out)["tasks"]} >= {"dns udp", "sort"}


async def test_tree_that_is_watched() -> None:
    """With --watch it is drawn until Ctrl-C, which is a fine end; that of the server is told."""
    for end, status in (("Ctrl-C", 0), ("the server's", 2)):
        async with serving(*STATUS) as server:
            terminal, theirs = pty.openpty()
            with open(theirs, "wb") as screen, open(terminal, "rb", buffering=0):  # noqa: ASYNC230
                watcher = await trio.lowlevel.open_process(
                    [*PROGRAM, "tree", "--status", str(status_of(server)), "--watch"],
                    stdin=subprocess.DEVNULL,
                    stdout=screen,
                    stderr=subprocess.PIPE,
                    env=environment(TERM="xterm", COLUMNS="100", LINES="50"),
                )
                assert watcher.stderr
                drawn = b""
                with trio.fail_after(PATIENCE):
                    while drawn.count(b"dns udp") < 2:
                        await trio.lowlevel.wait_readable(terminal)
                        drawn += os.read(terminal, 65536)
                    if end == "Ctrl-C":
                        watcher.send_signal(signal.SIGINT)
                    else:
                        server.process.kill()
                    assert await watcher.wait() == status
                    said = b"".join([bytes(data) async for data in watcher.stderr])
        assert said == b"" if end == "Ctrl-C" else said.startswith(b"trio-services: no status page")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no task tree"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "no status page"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "403"),
        (b"220 welcome to FTP\r\n", "no status page"),
        (b"", "no status page"),
    ],
)
async def test_tree_of_something_else(answer: bytes, words: str) -> None:
    """Whatever is there instead of the page is told in one line, with status 2."""

    async def answer_once(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer_once, 0)
        port = listeners[0].socket.getsockname()[1]
        done = await run_program("tree", "--status", f"127.0.0.1:{port}")
        nursery.cancel_scope.cancel()
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert words in done.err


async def test_variants_have_no_page() -> None:
    """Where nothing of that kind is there, asking for it is refused in one line."""
    for variant in ("asyncio_services", "anyio_services"):
        for option in (("--status", "127.0.0.1:0"), ("--trace", "trace.json")):
            done = await trio.run_process(
                [sys.executable, "-m", variant, "serve", "--no-dns", "--sort", "127.0.0.1:0",
                 *option],
                check=False, capture_stderr=True,
                env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
            )  # fmt: skip
            assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
            assert b"status" in done.stderr
