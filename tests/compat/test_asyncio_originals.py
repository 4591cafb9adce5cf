"""The originals run as programs, and show those of their flaws that have no server form.

What their servers promise, and the flaws that a client can see, are in the contract.
"""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from asyncio_originals import five_sleepers
from asyncio_originals.sort_server import gnome_sort

from tests.compat.jumping_clock import run_jumping
from tests.system.serving import PATIENCE, ROOT, environment, sort_request
from trio_services.dns_client import query
from trio_services.settings import Address


@asynccontextmanager
async def running(folder: Path, service: str, *options: str) -> AsyncIterator[Address]:
    """Run an original on a free port; end it, and the workers that it leaves behind."""
    ready_file = folder / "ready.json"
    arguments = [service, "--port", "0", "--ready-file", str(ready_file), *options]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "asyncio_originals", *arguments],
        env=environment(PYTHONPATH=os.pathsep.join(map(str, (ROOT, ROOT / "compat")))),
        stdout=subprocess.PIPE,
        process_group=0,
    )
    try:
        with trio.fail_after(PATIENCE):
            while not ready_file.exists():
                assert process.poll() is None
                await trio.sleep(0.01)
        ready = json.loads(ready_file.read_text())
        assert ready.keys() == {"pid", service}
        assert ready["pid"] == process.pid
        [(host, port)] = ready[service]
        yield Address(host, port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout
        with trio.CancelScope(shield=True):
            assert await process.stdout.receive_some() == b""
            await process.wait()
            await process.stdout.aclose()


async def test_dns_program(tmp_path: Path) -> None:
    """The DNS server says where it listens in its ready file, prints nothing, and answers."""
    async with running(tmp_path, "dns") as server:
        reply = await query("beta.example", "A", server, timeout=PATIENCE)
    assert reply.records == ["beta.example. 60 IN A 192.0.2.20"]


async def test_sort_program(tmp_path: Path) -> None:
    """The sort server sorts by `sorted` too, which is what benchmarks compare with."""
    async with running(tmp_path, "sort", "--sort", "builtin") as server:
        with trio.fail_after(PATIENCE):
            async with await trio.open_tcp_stream(server.host, server.port) as stream:
                await stream.send_all(sort_request(b"[3, 1, 2]"))
                reply = b""
                while not reply.endswith(b"]"):  # its first client never sees the end (19)
                    reply += await stream.receive_some()
    assert reply == b"[1, 2, 3]"


def test_gnome_sort() -> None:
    """The gnome sorts."""
    assert gnome_sort([3, 1, 2, 1]) == [1, 1, 2, 3]
    assert gnome_sort([]) == []


def test_sleepers(capsys: pytest.CaptureFixture[str]) -> None:
    """The parent waits for its sleepers, since somebody has written that it does."""
    run_jumping(five_sleepers.run_sleepers([3.0, 0.5]))
    assert capsys.readouterr().out.splitlines() == [
        "Parent creates 2 tasks",
        "Parent sleeps for 2.00 s while they run",
        "Sleeper 1 sleeps for 3.00 s",
        "Sleeper 2 sleeps for 0.50 s",
        "Sleeper 2 awakens",
        "Parent awakens and waits for its tasks",
        "Sleeper 1 awakens",
        "Done",
    ]


def test_failed_sleeper_is_not_missed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flaw 2: a sleeper fails, the parent says "Done", and only the garbage collector objects."""
    said: list[str] = []

    async def fail(number: int, delay: float) -> None:
        raise ValueError("cannot sleep")

    async def main() -> None:
        def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            said.append(context["message"])

        asyncio.get_running_loop().set_exception_handler(note)
        await five_sleepers.run_sleepers([1.0])
        assert capsys.readouterr().out.endswith("Done\n")
        gc.collect()

    monkeypatch.setattr(five_sleepers, "sleep_and_tell", fail)
    run_jumping(main())
    assert said == ["Task exception was never retrieved"]


def test_cancelled_parent_leaves_its_sleepers(capsys: pytest.CaptureFixture[str]) -> None:
    """A parent that is cancelled is gone, and its sleepers sleep on."""

    async def main() -> None:
        parent = asyncio.create_task(five_sleepers.run_sleepers([3.0]))
        await asyncio.sleep(1)
        parent.cancel()
        await asyncio.wait([parent])
        await asyncio.sleep(3)

    run_jumping(main())
    assert capsys.readouterr().out.splitlines()[-1] == "Sleeper 1 awakens"
