"""Every variant in a process of its own, all owned by one nursery.

Each variant is a task: it starts the process, waits until it is ready and then until it ends, and
does not end before the process has. So stopping is cancelling the nursery: each task asks its
process to end, waits, and kills what is left of its group. `kill -9` of the lab is the warden's.
"""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import trio
from rich.console import Console
from rich.live import Live

from services_lab.ready import announced, as_json
from services_lab.table import Row, draw
from services_lab.usage import measure
from services_lab.variants import Variant
from services_lab.warden import STOP_GRACE, note_path, signal_group
from trio_services.app import obey_signals
from trio_services.settings import Address

REFRESH_INTERVAL = 1.0
"""Seconds between two pictures: looking at thirty processes takes 50 ms of CPU."""

READY_INTERVAL = 0.05
"""Seconds between two looks for a ready file, which appears after half a second or so."""


async def run_side_by_side(
    variants: Sequence[Variant], console: Console, *, ready_file: str | None = None
) -> None:
    """Run `variants` until SIGINT or SIGTERM, and show them on `console`.

    Args:
        variants: What to run; those that cannot run here are shown with the reason.
        console: A terminal gets a picture that moves, anything else one when all are ready.
        ready_file: Written when all are ready that can be: `{"pid": …, "variants": {NAME:
            {"pid": …, "dns": [HOST, PORT], "sort": [HOST, PORT]}}}`.

    Cancellation: ends every variant first.
    """
    rows = [Row(variant, problem=variant.missing()) for variant in variants]
    groups: set[int] = set()

    def kill_all() -> None:
        for group in groups:
            signal_group(group, signal.SIGKILL)

    async def reload() -> None:
        """Do nothing: SIGHUP is not asked for."""

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_folder() as folder, trio.open_nursery() as everything:
            async with trio.open_nursery() as running:
                obey = partial(obey_signals, reload=reload, cancel=kill_all)
                everything.start_soon(obey, signals, running.cancel_scope)
                async with trio.open_nursery() as starting:
                    for row in rows:
                        if not row.problem:
                            starting.start_soon(running.start, run_variant, row, folder, groups)
                    if console.is_terminal:
                        running.start_soon(show_live, rows, console)
                if not console.is_terminal:
                    await trio.to_thread.run_sync(update, rows, None)
                    console.print(draw(rows, console.width))
                with announced(ready_file, {row.variant.name: _told(row) for row in rows}):
                    await trio.sleep_forever()
            everything.cancel_scope.cancel()


def _told(row: Row) -> dict[str, object]:
    if row.problem:
        return {"problem": row.problem}
    return {"pid": row.pid, **as_json(row.addresses)}


@asynccontextmanager
async def open_folder() -> AsyncIterator[Path]:
    """Yield a folder for ready files, logs and notes, which goes away however this process ends."""
    folder = Path(mkdtemp(prefix="services-lab-"))
    warden = await trio.lowlevel.open_process(
        [sys.executable, "-m", "services_lab.warden", str(folder)],
        stdin=subprocess.PIPE,
        process_group=0,  # Ctrl-C in a terminal is for the lab
    )
    assert warden.stdin
    try:
        yield folder
    finally:
        with trio.CancelScope(shield=True):
            await warden.stdin.aclose()
            await warden.wait()


async def run_variant(
    row: Row,
    folder: Path,
    groups: set[int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one variant until it ends, and keep `row` up to date; started when it is ready.

    Cancellation: SIGTERM, then SIGKILL after STOP_GRACE, to it and to whatever it leaves behind.
    """
    name = row.variant.name
    ready_file = folder / f"{name}.json"
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            row.variant.arguments(str(ready_file)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    note = note_path(folder, name)
    note.write_text(str(process.pid))
    groups.add(process.pid)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wait_ready, row, ready_file, task_status)
            status = await process.wait()
            nursery.cancel_scope.cancel()
        was_ready = bool(row.addresses)
        row.problem = f"ended with status {status}: {_last_line(log)}"
        row.addresses.clear()
        if not was_ready:
            task_status.started()
    finally:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(STOP_GRACE):
                process.terminate()
                await process.wait()
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        groups.remove(process.pid)
        note.unlink()


async def _wait_ready(row: Row, ready_file: Path, task_status: trio.TaskStatus[None]) -> None:
    path = trio.Path(ready_file)
    while not await path.exists():  # noqa: ASYNC110 - another process writes it
        await trio.sleep(READY_INTERVAL)
    ready = json.loads(await path.read_text())
    row.pid = ready["pid"]
    row.addresses |= {name: Address(*ready[name][0]) for name in row.variant.services}
    task_status.started()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


async def show_live(rows: Sequence[Row], console: Console) -> None:
    """Draw `rows` on a terminal again and again; Ctrl-C is said to end it."""
    before: float | None = None
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            now = trio.current_time()
            await trio.to_thread.run_sync(update, rows, now - before if before else None)
            before = now
            live.update(draw(rows, console.width), refresh=True)
            await trio.sleep(REFRESH_INTERVAL)


def update(rows: Sequence[Row], interval: float | None) -> None:
    """Measure what every row uses; `interval` is the time since the last measurement, if any."""
    for row in rows:
        before, row.usage = row.usage, None if row.pid is None else measure(row.pid)
        if interval and before and row.usage:
            row.load = (row.usage.cpu - before.cpu) / interval
