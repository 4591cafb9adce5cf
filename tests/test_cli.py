"""The command line: its options, exit statuses, and one line for each mistake.

Real processes, since a status and a line on standard error are what is promised.
"""

import json
import os
import re
import socket
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from typer.testing import CliRunner

from tests.system.serving import (
    PATIENCE,
    PROGRAM,
    Finished,
    addresses,
    has_ipv6,
    run,
    run_program,
    serving,
    sort_raw,
)
from trio_services import __version__, cli, listeners
from trio_services.settings import Address

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")

FREE = ("--dns", "127.0.0.1:0", "--sort", "127.0.0.1:0", "--no-status")


def is_one_line(done: Finished, *parts: str) -> bool:
    """Tell whether a command failed with status 2 and one line that has all `parts`."""
    return (
        (done.status, done.out) == (2, "")
        and done.err.count("\n") == 1
        and done.err.startswith("trio-services: ")
        and all(part in done.err for part in parts)
    )


async def test_help_and_version() -> None:
    """The commands and all options of `serve` are described; the version is that of the package."""
    assert (await run_program("--version")).out == f"trio-services {__version__}\n"
    overview = await run_program("--help")
    for command in ("serve", "sleepers", "query", "sort"):
        assert command in overview.out
    options = await run_program("serve", "--help")
    for option in (
        *("--dns", "--sort", "--no-dns", "--no-sort", "--zone", "--hosts", "--default-address"),
        *("--algorithm", "--sort-in", "--workers", "--allow-half-close", "--grace", "--processes"),
        *("--config", "--ready-file", "--log-level", "--log-requests"),
        *("--status", "--no-status", "--status-control", "--trace"),
    ):
        assert re.search(rf"{option}\b", options.out), option


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
async def test_help_is_light(arguments: list[str]) -> None:
    """Asking for help imports nothing that is slow to import."""
    show = (
        "import sys\n"
        "from trio_services.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    loaded = (await run(sys.executable, "-c", show, *arguments)).err.split()
    assert "typer" in loaded
    assert not {"trio", "dns", "numpy", "simdjson", "asyncio"} & set(loaded)


WRONG = {
    "dns without a port": (["--dns", "127.0.0.1"], "127.0.0.1"),
    "port out of range": (["--dns", "127.0.0.1:65536"], "65536"),
    "port not a number": (["--sort", "127.0.0.1:http"], "http"),
    "IPv6 without brackets": (["--dns", "::1:0"], "::1:0"),
    "not of this machine": (["--dns", "192.0.2.1:0"], "cannot listen on 192.0.2.1:0"),
    "no such host": (["--sort", "no-such-host.invalid:0"], "no-such-host.invalid:0"),
    "host too long": (["--sort", f"{'x' * 70}.invalid:0"], "cannot listen on xxx"),
    "NUL in a host": (["--sort", "a\x01b:0"], "cannot listen on"),
    "default address": (["--default-address", "here"], "'here'"),
    "default address none and more": (
        ["--default-address", "none", "--default-address", "192.0.2.1"],
        "none",
    ),
    "no such zone file": (["--zone", "missing.zone"], "missing.zone: No such file"),
    "zone is a folder": (["--zone", "."], ".: not a file but a directory, pipe or device"),
    "no such hosts file": (["--hosts", "missing"], "missing: No such file"),
    "bad origin": (["--zone", "missing.zone=a..b"], "missing.zone"),
    "no such config": (["--config", "missing.toml"], "missing.toml: No such file"),
    "nothing to serve": (["--no-dns", "--no-sort"], "nothing to serve"),
    "no address of a status page": (["--status", ""], "'' is not HOST:PORT"),
    "ready file in no folder": (["--ready-file", "missing/ready"], "missing/ready: No such file"),
    "ready file is a folder": (["--ready-file", "."], "cannot write the ready file .: "),
}


def main_in(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *arguments: str,
) -> Finished:
    """Run `trio-services` in this process, which it does not change: it is to end soon."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["trio-services", *arguments])
    monkeypatch.setattr(listeners, "raise_open_file_limit", lambda: 0)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert isinstance(exit_.value.code, int)
    written = capfd.readouterr()
    return Finished(exit_.value.code, written.out, written.err)


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_at_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    """A value that cannot be used ends `serve` with status 2 and one line that names it."""
    options, named = WRONG[mistake]
    done = main_in(tmp_path, monkeypatch, capfd, "serve", *FREE, *options)
    assert is_one_line(done, named), done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--grace", "-1"],
        ["--grace", "soon"],
        ["--grace", "nan"],
        ["--workers", "0"],
        ["--processes", "0"],
        ["--algorithm", "bogo"],
        ["--sort-in", "cloud"],
        ["--log-level", "loud"],
        ["--no-such-option"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    """A wrong option ends `serve` with status 2 and says which one it was."""
    done = main_in(tmp_path, monkeypatch, capfd, "serve", *FREE, *options)
    assert (done.status, done.out) == (2, "")
    assert options[0].lstrip("-") in done.err


CONFIGS = {
    "not TOML": ("[dns", "Expected ']'"),
    "not UTF-8": ("\udcff", "utf-8"),
    "no such key": ("[sort]\nsize = 1\n", "sort.size"),
    "no such table": ("[web]\n", "web"),
    "wrong type": ("grace = 'long'\n", "grace: expected a number, not 'long'"),
    "boolean for a number": ("processes = true\n", "processes"),
    "zero": ("[sort]\nread_deadline = 0\n", "read_deadline must be greater than 0"),
    "negative": ("[dns]\ntcp_idle = -1\n", "tcp_idle"),
    "not a number": ("grace = nan\n", "grace"),
    "bad address": ("[dns]\naddresses = ['here']\n", "dns.addresses: 'here'"),
    "table for a list": ("[dns.zones]\n", "dns.zones"),
    "bad algorithm": ("[sort]\nalgorithm = 'bogo'\n", "sort.algorithm"),
}


@pytest.mark.parametrize("mistake", CONFIGS)
def test_mistakes_in_the_config(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    """A mistake in the settings file is one line with its name and the key; status 2."""
    text, named = CONFIGS[mistake]
    config = tmp_path / "bad.toml"
    config.write_bytes(text.encode(errors="surrogateescape"))
    done = main_in(tmp_path, monkeypatch, capfd, "serve", *FREE, "--config", f"{config}")
    assert is_one_line(done, f"{config}: ", named), done


async def test_config(tmp_path: Path) -> None:
    """Settings come from the file, file names are relative to it, and options go before it."""
    (tmp_path / "hosts").write_text("192.0.2.50 printer\n")
    config = tmp_path / "trio-services.toml"
    config.write_text(
        'log_requests = true\n[dns]\nhosts = ["hosts"]\ndefault_addresses = ["192.0.2.200"]\n'
        "[sort]\nmax_payload = 5\n"
    )
    options = ("--config", f"{config}", "--default-address", "192.0.2.201")
    async with serving(*options) as server:
        assert await addresses(server.dns, "printer") == ["192.0.2.50"]
        assert await addresses(server.dns, "elsewhere.test") == ["192.0.2.201"]
        assert b'"too-large"' in await sort_raw(server.sort, b"[2,1,3]")
        await server.said("udp printer. A")


async def test_service_that_the_config_leaves_out(tmp_path: Path) -> None:
    """`sort = false` runs no sort server, unless --sort asks for one."""
    config = tmp_path / "dns-only.toml"
    config.write_text("sort = false\n")
    done = await run_program("serve", "--no-dns", "--config", f"{config}")
    assert is_one_line(done, "nothing to serve")
    async with serving("--config", f"{config}") as server:  # which says --sort
        assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_address_in_use(kind: socket.SocketKind, processes: str) -> None:
    """An address in use ends the start with status 2 and one line that names it."""
    with socket.socket(type=kind) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = await run_program(
            *("serve", "--no-status", "--dns", address, "--no-sort", "--processes", processes)
        )
    name = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    assert is_one_line(done, f"cannot listen on {address} ({name}): address already in use"), done


async def test_two_servers_do_not_share_a_port() -> None:
    """A second server on the ports of a running one does not start, also with copies."""
    async with serving("--processes", "2") as server:
        for options in (["--sort", str(server.sort)], ["--dns", str(server.dns), "--no-sort"]):
            done = await run_program("serve", "--no-status", "--dns", "127.0.0.1:0", *options)
            assert is_one_line(done, "already in use"), done


@pytest.mark.parametrize("option", ["--ready-file", "--trace"])
def test_what_is_no_file_is_not_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    option: str,
) -> None:
    """Where a device or a pipe is, nothing is written, though a superuser could."""
    os.mkfifo(tmp_path / "pipe")
    done = main_in(tmp_path, monkeypatch, capfd, "serve", *FREE, option, "pipe")
    assert done.status == 2
    assert done.err.splitlines()[-1].endswith("pipe: not a file but a directory, pipe or device")
    assert [each.is_fifo() for each in tmp_path.iterdir()] == [True]


async def test_ready_file() -> None:
    """The ready file is one JSON object with the process and all addresses, and nothing else."""
    async with serving("--dns", "127.0.0.1:0", "--dns", "127.0.0.1:0") as server:
        assert [file.name for file in server.folder.iterdir()] == ["ready.json"]
        text = server.ready_file.read_text()
        ready = json.loads(text)
        assert text.count("\n") == 1
        assert list(ready) == ["pid", "dns", "sort"]
        assert ready["pid"] == server.process.pid
        assert len(ready["dns"]) == 2
        assert len(ready["sort"]) == 1
        for host, port in ready["dns"] + ready["sort"]:
            assert host == "127.0.0.1"
            assert port > 0


@pytest.mark.parametrize("service", ["dns", "sort"])
async def test_leaving_out_a_service(service: str) -> None:
    """--no-dns and --no-sort run the other service alone, and the ready file says so."""
    async with serving(f"--no-{service}") as server:
        ready = json.loads(server.ready_file.read_text())
        assert set(ready) == {"pid", "dns", "sort"} - {service}


@needs_ipv6
async def test_ipv6() -> None:
    """`[::1]:0` listens on IPv6, over UDP and TCP, and is told with the address alone."""
    async with serving("--dns", "[::1]:0", "--sort", "[::1]:0") as server:
        assert json.loads(server.ready_file.read_text())["dns"][0] == ["::1", server.dns.port]
        for tcp in (False, True):
            assert await addresses(server.dns, "alpha.example", tcp=tcp) == ["192.0.2.10"]
        assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"
        asked = await run_program("query", "alpha.example", "--server", f"{server.dns}")
        assert asked.out == "alpha.example. 300 IN A 192.0.2.10\n"
        assert any(f"dns on [::1]:{server.dns.port}" in line for line in server.lines)


@needs_ipv6
async def test_all_addresses() -> None:
    """0.0.0.0 and [::] can share a port, and answers come from the address that was asked."""
    async with serving("--no-sort", "--dns", "[::]:0") as server:
        both = server.dns.port
        async with serving("--no-sort", "--dns", f"0.0.0.0:{both}") as other:
            assert other.dns.port == both
            for host in ("127.0.0.1", "127.0.0.2", "::1"):
                for tcp in (False, True):
                    asked = await addresses(Address(host, both), "alpha.example", tcp=tcp)
                    assert asked == ["192.0.2.10"]


SAY_READY = """
import sys, trio_services.app as app
real = app.announced
def announced(*args):
    print("announced", file=sys.stderr, flush=True)
    return real(*args)
app.announced = announced
from trio_services.cli import main
main()
"""


async def test_log_level() -> None:
    """With --log-level error a server that runs well says nothing at all."""
    program = (sys.executable, "-c", SAY_READY)
    async with serving("--log-level", "error", program=program, ready=False) as server:
        await server.said("announced")
        server.process.terminate()
        assert await server.ended() == 0
        assert server.lines == ["announced"]


QUERIES = {
    "answer": (["alpha.example"], 0, "alpha.example. 300 IN A 192.0.2.10\n", ""),
    "type": (["example", "MX"], 0, "example. 300 IN MX 10 mail.example.\n", ""),
    "lower case": (["example", "mx"], 0, "example. 300 IN MX 10 mail.example.\n", ""),
    "final dot": (["alpha.example."], 0, "alpha.example. 300 IN A 192.0.2.10\n", ""),
    "tcp": (["alpha.example", "--tcp"], 0, "alpha.example. 300 IN A 192.0.2.10\n", ""),
    "chain": (
        ["www.example"],
        0,
        "www.example. 300 IN CNAME alpha.example.\nalpha.example. 300 IN A 192.0.2.10\n",
        "",
    ),
    "NXDOMAIN": (["no.example"], 1, "", "no.example A: NXDOMAIN\n"),
    "NODATA": (["gamma.example", "AAAA"], 1, "", "gamma.example AAAA: NODATA\n"),
    "refused": (["example", "AXFR"], 2, "", "example AXFR: REFUSED\n"),
    "no type": (["alpha.example", "NONE-SUCH"], 2, "", "trio-services: alpha.example NONE-SUCH: "),
    "no name": (["a..b"], 2, "", "trio-services: a..b A: "),
    "long label": (["x" * 64], 2, "", "trio-services: "),
    "not ASCII": (["grüße.example"], 1, "", "grüße.example A: NXDOMAIN\n"),
}


async def test_query() -> None:
    """Status 0 for an answer, 1 for NXDOMAIN or NODATA, said which, and 2 for neither."""
    async with serving("--no-sort") as server, trio.open_nursery() as nursery:

        async def check(arguments: list[str], status: int, out: str, err: str) -> None:
            done = await run_program("query", *arguments, "--server", f"{server.dns}")
            assert (done.status, done.out) == (status, out), (arguments, done)
            assert done.err.startswith(err), (arguments, done)
            assert done.err.count("\n") == (1 if err else 0), (arguments, done)

        for case in QUERIES.values():
            nursery.start_soon(check, *case)


async def test_query_as_json() -> None:
    """--json prints the whole reply, with the same statuses."""
    async with serving("--no-sort") as server:
        done = await run_program("query", "www.example", "--json", "--server", f"{server.dns}")
        reply = json.loads(done.out)
        assert (done.status, reply["verdict"], reply["rcode"]) == (0, "answer", "NOERROR")
        assert reply["answer"][1] == "alpha.example. 300 IN A 192.0.2.10"
        assert reply["transport"] == "udp"
        done = await run_program(
            "query", "no.example", "--json", "--tcp", "--server", f"{server.dns}"
        )
        reply = json.loads(done.out)
        assert (done.status, reply["verdict"], reply["transport"]) == (1, "NXDOMAIN", "tcp")
        assert reply["authority"] != []


IMPATIENT = (
    "import functools, trio_services.dns_client as client\n"
    "client.query = functools.partial(client.query, timeout=0.05)\n"
    "from trio_services.cli import main\n"
    "main()\n"
)


async def test_query_without_a_reply() -> None:
    """A server that says nothing is a timeout: one line, status 2."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = await run(
            sys.executable, "-c", IMPATIENT, "query", "alpha.example", "--server", address
        )
    assert is_one_line(done, f"no reply from {address}"), done


async def test_query_of_nobody() -> None:
    """A connection that is refused is said at once: one line, status 2."""
    with socket.socket() as closed:  # bound and not listening: nobody else gets the port
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        done = await run_program("query", "alpha.example", "--tcp", "--server", address)
        assert is_one_line(done, f"no reply from {address}"), done
        done = await run_program("sort", "--server", address, stdin=b"[2,1]")
        assert is_one_line(done, f"cannot connect to {address}"), done


@pytest.mark.parametrize("reply", [b"", b"x", bytes(12), b"\xff" * 40], ids=len)
async def test_query_with_a_malformed_reply(reply: bytes) -> None:
    """Bytes that are no reply are one line and status 2, never a traceback."""
    async with trio.open_nursery() as nursery:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as liar:
            await liar.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{liar.getsockname()[1]}"

            async def lie() -> None:
                packet, peer = await liar.recvfrom(512)
                await liar.sendto(packet[:2] + b"\x84" + reply, peer)

            nursery.start_soon(lie)
            done = await run(
                sys.executable, "-c", IMPATIENT, "query", "alpha.example", "--server", address
            )
        nursery.cancel_scope.cancel()
    assert is_one_line(done, address), done


@pytest.mark.parametrize("command", ["query", "sort"])
async def test_clients_with_a_bad_address(command: str) -> None:
    """`--server` is read like every other address: one line, status 2."""
    names = ["alpha.example"] if command == "query" else []
    done = await run_program(command, *names, "--server", "127.0.0.1", stdin=b"[]")
    assert is_one_line(done, "'127.0.0.1' is not HOST:PORT"), done


LINES = b"\n".join(b"%d" % number for number in range(100_000, 0, -1))

SORTS = {
    "file": (["list.json"], b"", b"[1,1.0,2.5,3]\n"),
    "input": (["-"], b" [3, 1, 2.50, 1.0]\n", b"[1,1.0,2.5,3]\n"),
    "input by default": ([], b'["b","a"]', b'["a","b"]\n'),
    "nothing to sort": ([], b"[]", b"[]\n"),
    "lines from a file": (["--lines", "list.txt"], b"", b"1\n1.0\n2.5\n3\n"),
    "lines from input": (["--lines"], b"3\n1\n\n2.50\n1.0", b"1\n1.0\n2.5\n3\n"),
    "no lines": (["--lines"], b"", b""),
    "many lines": (["--lines"], LINES, b"\n".join(LINES.split()[::-1]) + b"\n"),
}

BAD_SORTS = {
    "not JSON": ([], b"[1,", " not-json: "),
    "mixed": ([], b'[1,"a"]', " not-sortable: "),
    "not numbers": (["--lines"], b"1\nx\n", " line 2: 'x' is no number"),
    "no such file": (["missing"], b"", " missing: No such file"),
    "folder": (["."], b"", " .: Is a directory"),
}


async def test_sort(tmp_path: Path) -> None:
    """JSON or lines, from a file or from input, and back in the same form; a server's error, or a
    file that cannot be read, is one line and status 2.
    """
    (tmp_path / "list.json").write_text(" [3, 1, 2.50, 1.0]\n")
    (tmp_path / "list.txt").write_text("3\n1\n\n2.50\n1.0")

    async with serving("--no-dns") as server, trio.open_nursery() as nursery:
        sort = partial(run_program, "sort", "--server", f"{server.sort}", folder=tmp_path)

        async def check(arguments: list[str], stdin: bytes, out: bytes) -> None:
            done = await sort(*arguments, stdin=stdin)
            assert (done.status, done.out, done.err) == (0, out.decode(), ""), arguments

        async def check_bad(arguments: list[str], stdin: bytes, reason: str) -> None:
            assert is_one_line(await sort(*arguments, stdin=stdin), reason), arguments

        for case in SORTS.values():
            nursery.start_soon(check, *case)
        for bad_case in BAD_SORTS.values():
            nursery.start_soon(check_bad, *bad_case)


async def test_sort_with_a_server_that_hangs_up() -> None:
    """A reply that was cut off is not taken for a list: one line, status 2."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def cut_off(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(b"[1,2")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, cut_off, listeners)
        done = await run_program("sort", "--server", address, stdin=b"[2,1,3]")
        nursery.cancel_scope.cancel()
    assert is_one_line(done, "neither a list nor an error"), done


def sleepers(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return what `trio-services sleepers` prints, on a clock that does not wait."""
    clock = partial(trio.testing.MockClock, autojump_threshold=0)
    monkeypatch.setattr(trio, "run", lambda *args: partial(RUN, clock=clock())(*args))
    result = CliRunner().invoke(cli.app, ["sleepers", *arguments])
    assert result.exit_code == 0
    return result.output


RUN = trio.run


def test_sleepers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five sleep, "Done" comes after all of them, and the timeline after that."""
    lines = sleepers(monkeypatch).splitlines()
    done = lines.index("Done")
    assert sum("awakens" in line for line in lines[:done]) == 5 + 1
    assert sum("█" in line for line in lines[done:]) == 5 + 1


def test_sleepers_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """--seed repeats the same delays, --max-delay bounds them, --count may be 0."""
    seeded = [sorted(sleepers(monkeypatch, "--seed", seed)) for seed in ("1", "1", "2")]
    assert seeded[0] == seeded[1] != seeded[2]
    assert "sleeps for 0.00 s" in sleepers(monkeypatch, "--max-delay", "0")
    assert "Sleeper" not in sleepers(monkeypatch, "--count", "0")


async def test_ctrl_c_while_sleeping() -> None:
    """Ctrl-C ends the sleepers with status 130 and no traceback."""
    process = await trio.lowlevel.open_process(
        [*PROGRAM, "sleepers", "--max-delay", "3600", "--seed", "1"], stdout=-1, stderr=-1
    )
    assert process.stdout
    assert process.stderr
    with trio.fail_after(PATIENCE):
        await process.stdout.receive_some()
        process.send_signal(2)
        assert await process.wait() == 130
        assert await process.stderr.receive_some() == b""
    await process.stdout.aclose()
    await process.stderr.aclose()
