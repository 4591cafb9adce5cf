"""SIGHUP, and zone files that cannot be served."""

import signal
from pathlib import Path

import pytest

from tests.system.serving import addresses, run_program, serving

ZONE = """\
$ORIGIN test.
$TTL 60
@   SOA ns hostmaster 1 2 3 4 5
    NS  ns
ns  A   192.0.2.1
www A   {address}
"""

MISTAKES = {
    "syntax": (ZONE + "mail A 192.0.2.999\n", 7),
    "no such type": (ZONE + "mail AAAAA ::1\n", 7),
    "beside a CNAME": (ZONE + "www CNAME ns\n", 7),
}


def write_zone(path: Path, text: str = ZONE, address: str = "192.0.2.7") -> None:
    """Write a zone in which www.test has `address`."""
    path.write_text(text.format(address=address))


async def test_reload_serves_what_the_files_say_now(tmp_path: Path) -> None:
    """After SIGHUP the answers are those of the files as they are now, over UDP and TCP."""
    zone, hosts = tmp_path / "test.zone", tmp_path / "hosts"
    write_zone(zone)
    hosts.write_text("192.0.2.50 printer\n")
    async with serving("--no-sort", "--zone", f"{zone}", "--hosts", f"{hosts}") as server:
        assert await addresses(server.dns, "www.test") == ["192.0.2.7"]
        assert await addresses(server.dns, "printer") == ["192.0.2.50"]
        write_zone(zone, address="192.0.2.8")
        hosts.write_text("192.0.2.51 printer\n")
        server.process.send_signal(signal.SIGHUP)
        await server.said("zones reloaded")
        for tcp in (False, True):
            assert await addresses(server.dns, "www.test", tcp=tcp) == ["192.0.2.8"]
            assert await addresses(server.dns, "printer", tcp=tcp) == ["192.0.2.51"]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_mistake_at_reload(tmp_path: Path, mistake: str) -> None:
    """A mistake is logged as one line with file and line number; the old zone is served on."""
    text, line = MISTAKES[mistake]
    zone = tmp_path / "test.zone"
    write_zone(zone)
    async with serving("--no-sort", "--zone", f"{zone}") as server:
        before = len(server.lines)
        write_zone(zone, text, address="192.0.2.8")
        server.process.send_signal(signal.SIGHUP)
        await server.said(f"ERROR .*not reloaded.*: {zone}:{line}: .")
        assert len(server.lines) == before + 1
        assert await addresses(server.dns, "www.test") == ["192.0.2.7"]
        write_zone(zone, address="192.0.2.9")
        server.process.send_signal(signal.SIGHUP)
        await server.said("zones reloaded")
        assert await addresses(server.dns, "www.test") == ["192.0.2.9"]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_mistake_at_start(tmp_path: Path, mistake: str) -> None:
    """A zone file with a mistake ends the start with status 2 and the same one line."""
    text, line = MISTAKES[mistake]
    zone = tmp_path / "test.zone"
    write_zone(zone, text)
    done = await run_program("serve", "--dns", "127.0.0.1:0", "--no-sort", "--zone", f"{zone}")
    assert done.status == 2
    assert done.err.startswith(f"trio-services: {zone}:{line}: ")
    assert done.err.count("\n") == 1
    assert done.out == ""


async def test_reload_without_files_or_dns() -> None:
    """SIGHUP is harmless where there is nothing to read anew."""
    async with serving("--no-dns") as server:
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_missing_file(tmp_path: Path) -> None:
    """A zone file that vanished is a mistake like any other: one line, and the old zone."""
    zone = tmp_path / "test.zone"
    write_zone(zone)
    async with serving("--no-sort", "--zone", f"{zone}") as server:
        zone.unlink()
        server.process.send_signal(signal.SIGHUP)
        await server.said(f"not reloaded.*: {zone}: No such file")
        assert await addresses(server.dns, "www.test") == ["192.0.2.7"]
