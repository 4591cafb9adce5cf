"""Which process below a server sorts: found by the CPU time that it uses."""

import sys
from collections.abc import Collection, Iterable
from contextlib import suppress

import psutil
import trio

from services_lab.server import PATIENCE, Server
from services_lab.usage import cpu_of

AT_WORK = 0.1
"""Seconds of CPU time that show a worker to sort; to wake up takes a hundredth of it."""

LOOK_INTERVAL = 0.03
"""Seconds between two looks, each of which reads what the system says of every process."""

ENDLESS_LIST = b"[%s]" % b",".join(b"%d" % number for number in range(100_000, 0, -1))
"""Ten minutes of gnome sort."""

FORKS = sys.platform == "linux" and sys.version_info < (3, 14)
"""Whether a process pool forks if not told otherwise; macOS spawns, 3.14 has a fork server."""

END_PATIENCE = 5.0
"""Seconds after which a worker whose server has ended is taken as left behind."""

GNOME = ("--algorithm", "gnome", "--sort-in", "process")
"""Options with which the variants sort as the original does: in a process, and for long."""


async def wait_at_work(server: Server, *, besides: Collection[int] = ()) -> psutil.Process:
    """Wait until a process below `server` works, and return it; `besides` do not count.

    Raises:
        trio.TooSlowError: None does.
    """
    before: dict[int, float] = {}
    with trio.fail_after(PATIENCE):
        while True:
            for process in workers(server):
                used = cpu_of(process)
                since = used - before.setdefault(process.pid, used)
                if process.pid not in besides and since > AT_WORK:
                    return process
            await trio.sleep(LOOK_INTERVAL)


def workers(server: Server) -> list[psutil.Process]:
    """Return the processes below `server`."""
    return server.family()[1:]


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs, and is not only waiting for its parent to notice its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to `processes`; some may have ended, or end because of the others."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


async def still_there(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those of `processes` that do not end; they have END_PATIENCE in all."""
    left = list(processes)
    with trio.move_on_after(END_PATIENCE):
        while left := [each for each in left if is_alive(each)]:  # noqa: ASYNC110 - /proc is silent
            await trio.sleep(LOOK_INTERVAL)
    return left
