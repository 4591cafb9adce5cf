"""Who is running, from Linux's /proc: a server's children, and whether one is at work."""

import os
from pathlib import Path

import pytest
import trio

from tests.system.serving import PATIENCE

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="finds processes in /proc, which is Linux's"
)

POLL_INTERVAL = 0.01
"""Seconds between two looks at how much CPU time a process has had."""

BUSY_TICKS = 3
"""Clock ticks (10 ms) of CPU time that show a process to be at work, not only woken up."""


def children(parent: int, module: str = "") -> list[int]:
    """Return the processes that `parent` started, only those that run `module` if it is given."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _stat(int(folder.name))) and int(stat[1]) == parent:
            try:
                command = (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if module.encode() in command:
                found.append(int(folder.name))
    return sorted(found)


def workers(server: int) -> list[int]:
    """Return the sort workers of a server."""
    return children(server, "trio_services.sort_worker")


def copies(supervisor: int) -> list[int]:
    """Return the copies that a server with `--processes` runs."""
    return children(supervisor, "trio_services.supervisor")


async def wait_gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(PATIENCE):
            await trio.lowlevel.wait_readable(descriptor)  # pidfd_open(2): readable once it ends
    finally:
        os.close(descriptor)


async def wait_busy(pid: int) -> None:
    """Wait until a process uses the CPU."""
    before = _cpu_ticks(pid)
    with trio.fail_after(PATIENCE):
        while _cpu_ticks(pid) < before + BUSY_TICKS:  # noqa: ASYNC110 - /proc has no events
            await trio.sleep(POLL_INTERVAL)


def _cpu_ticks(pid: int) -> int:
    stat = _stat(pid)
    assert stat is not None, f"process {pid} is gone"
    return int(stat[11]) + int(stat[12])


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name (proc_pid_stat(5)): state, parent, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
