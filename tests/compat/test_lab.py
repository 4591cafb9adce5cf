"""The lab: every variant at once, and several in one process; nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import trio
from services_lab.variants import VARIANTS
from services_lab.warden import STOP_GRACE

from tests.contract.promises import PYTHONPATH, until
from tests.contract.sort_promises import SHORT, SHORT_SORTED
from tests.system.processes import wait_gone
from tests.system.serving import (
    PATIENCE,
    Finished,
    addresses,
    environment,
    run,
    sort_request,
)
from trio_services.settings import Address

LAB = (sys.executable, "-m", "services_lab")


class Lab:
    """A running command of the lab.

    Attributes:
        process: It.
        folder: Its ready file's, and its own for temporary files.
    """

    def __init__(self, process: trio.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder

    @property
    def ready_file(self) -> Path:
        """Where it says that it is ready."""
        return self.folder / "ready.json"

    def variants(self) -> dict[str, Any]:
        """Return what the ready file says of each variant."""
        found: dict[str, Any] = json.loads(self.ready_file.read_text())["variants"]
        return found

    def processes(self) -> list[int]:
        """Return every process below it."""
        return [each.pid for each in psutil.Process(self.process.pid).children(recursive=True)]

    async def ended(self) -> int:
        """Wait until it ends, and return its status."""
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def lab(command: str, *options: str) -> AsyncIterator[Lab]:
    """Run a command of the lab; inside it is ready. Its output is in `output` of its folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "output").open("wb") as output:
            process = await trio.lowlevel.open_process(
                [*LAB, command, "--ready-file", str(folder / "ready.json"), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(TMPDIR=name, PYTHONPATH=PYTHONPATH, COLUMNS="120"),
            )
        running = Lab(process, folder)
        try:
            await until(lambda: running.ready_file.exists() or process.poll() is not None)
            assert running.ready_file.exists(), (folder / "output").read_text()
            yield running
        finally:
            process.kill()
            await process.wait()


async def run_lab(*options: str) -> Finished:
    """Run a command of the lab to its end."""
    return await run("env", f"PYTHONPATH={PYTHONPATH}", *LAB, *options)


async def check(variant: dict[str, Any]) -> None:
    """Check that a variant answers on each of its addresses."""
    if "dns" in variant:
        assert await addresses(Address(*variant["dns"]), "alpha.example") == ["192.0.2.10"]
    if "sort" in variant:
        with trio.fail_after(PATIENCE):
            async with await trio.open_tcp_stream(*variant["sort"]) as stream:
                await stream.send_all(sort_request(SHORT))
                reply = b""
                while not reply.endswith(b"]"):  # an original's first client never sees the end
                    reply += await stream.receive_some()
        assert json.loads(reply) == SHORT_SORTED


async def test_side_by_side() -> None:
    """Every variant that can run here answers on its own ports; SIGTERM ends all of them."""
    async with lab("side-by-side") as running:
        variants = running.variants()
        assert variants.keys() == VARIANTS.keys()
        for name, variant in variants.items():
            assert ("problem" in variant) == bool(VARIANTS[name].missing()), variant
            await check(variant)
        shown = (running.folder / "output").read_text()
        for name, variant in variants.items():
            assert name in shown
            if "dns" in variant:
                assert f"127.0.0.1:{variant['dns'][1]}" in shown
        started = running.processes()
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        for pid in started:
            await wait_gone(pid)
        assert [path.name for path in running.folder.iterdir()] == ["output"]


async def test_side_by_side_is_killed() -> None:
    """After kill -9 of the lab nothing of it is left: no process, no folder."""
    chosen = ("trio", "original-sort")
    options = [word for name in chosen for word in ("--variant", name)]
    async with lab("side-by-side", *options) as running:
        variants = running.variants()
        assert tuple(variants) == chosen
        for variant in variants.values():
            await check(variant)
        started = running.processes()
        running.process.kill()
        for pid in started:
            await wait_gone(pid)
        assert sorted(path.name for path in running.folder.iterdir()) == ["output", "ready.json"]


async def test_second_signal() -> None:
    """A second signal kills what the first one has only asked to end."""
    async with lab("side-by-side", "--variant", "trio") as running:
        variant = running.variants()["trio"]["pid"]
        os.kill(variant, signal.SIGSTOP)  # so that it cannot do what it is asked
        running.process.send_signal(signal.SIGTERM)
        await until(lambda: not running.ready_file.exists())
        running.process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_GRACE / 2):
            assert await running.process.wait() == 0
        await wait_gone(variant)


async def test_a_variant_ends() -> None:
    """A variant that ends by itself disturbs no other."""
    async with lab("side-by-side", "--variant", "trio", "--variant", "original-dns") as running:
        variants = running.variants()
        os.kill(variants["original-dns"]["pid"], signal.SIGKILL)
        await wait_gone(variants["original-dns"]["pid"])
        await check(variants["trio"])
        running.process.send_signal(signal.SIGINT)
        assert await running.ended() == 0


async def test_a_variant_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant whose runtime is not installed says so, in words."""
    monkeypatch.setattr("services_lab.variants.find_spec", lambda name: None)
    assert VARIANTS["anyio-uvloop"].missing() == "anyio and uvloop not installed"
    assert VARIANTS["asyncio"].missing() is None


async def test_no_such_variant() -> None:
    """A variant that does not exist is one line, which names those that do, and status 2."""
    ended = await run_lab("side-by-side", "--variant", "nodejs")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "nodejs" in ended.err
    assert "anyio-trio" in ended.err


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("hosted", ["trio", "asyncio", "original-dns", "original-sort"]),
        ("guest", ["trio", "original-dns", "original-sort"]),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_process(command: str, names: list[str], number: signal.Signals) -> None:
    """All variants of one process answer, twice; a signal ends all with status 0, and silently."""
    if command == "hosted" and find_spec("trio_asyncio") is None:  # imported, it would stay
        pytest.skip("trio-asyncio is not installed")
    async with lab(command) as running:
        variants = running.variants()
        assert list(variants) == names
        for _ in range(2):
            for variant in variants.values():
                await check(variant)
        started = running.processes()
        running.process.send_signal(number)
        assert await running.ended() == 0
        for pid in started:
            await wait_gone(pid)
        assert [path.name for path in running.folder.iterdir()] == ["output"]
        output = (running.folder / "output").read_text()
        assert "Traceback" not in output
        assert "Warning" not in output


async def test_hosted_without_trio_asyncio() -> None:
    """Where trio-asyncio cannot be imported `hosted` says so in one line, with status 2."""
    code = (
        "import sys; sys.modules['trio_asyncio'] = None; sys.argv = ['services-lab', 'hosted'];"
        "from services_lab.cli import main; main()"
    )
    ended = await run("env", f"PYTHONPATH={PYTHONPATH}", sys.executable, "-c", code)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "trio-asyncio" in ended.err
