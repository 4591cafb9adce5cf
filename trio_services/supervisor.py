"""Several copies of the whole on the same ports, supervised from one parent nursery.

One loop uses one core. With `--processes N` the parent binds N sets of sockets to the same ports
(SO_REUSEPORT: the kernel spreads connections and datagrams over them), and each set belongs to one
task, which runs one copy of the program and starts it again when it crashes. Since the parent
keeps the sockets open, what is queued in them waits for the next copy.

- *Ready* means that every copy has said so.
- *Signals* go to the parent. SIGTERM and SIGINT close the standard input of each copy, which drains
  when it sees that; unlike a signal it cannot be mistaken for a second one where a service manager
  signals every process (SIGTERM they ignore). A second signal is passed on, and SIGHUP if the files
  have no mistake. Copies are process groups of their own, so that Ctrl-C in a terminal reaches the
  parent only.
- *No orphans*: a copy whose parent is killed sees the end of its standard input as well, and
  drains. A copy that outlives its grace period is killed.
- *One status page*, of the parent, which asks the copies what to show: see `status.copies`.

macOS allows such sockets too, but does not spread the load over them.
"""

import gc
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from trio_services.app import nobody_watches, obey_signals, serve
from trio_services.listeners import Sockets, inherited
from trio_services.logs import configure_logging, run_reporting
from trio_services.sans_io.dns_compile import ZoneError
from trio_services.sans_io.dns_tree import Zones
from trio_services.settings import ServeSettings
from trio_services.startup import announced, zones_for
from trio_services.status.copies import CopiesSource, CopyLink
from trio_services.status.inside import Inside
from trio_services.status.serve import serve_copies, watch_for
from trio_services.status.show_tasks import show_tasks_when_asked

MIN_BACKOFF = 0.1
"""Seconds before a copy that crashed is started again: hardly noticed when it happens once."""

MAX_BACKOFF = 10.0
"""The longest wait, reached by doubling: a copy that cannot live costs one start in ten seconds."""

STEADY_AFTER = 10.0
"""A copy that lived this many seconds did start; the wait after its crash is short again."""

KILL_MARGIN = 5.0
"""Seconds that a copy has beyond its grace period, to close down, before it is killed."""

CANCEL_SIGNAL = signal.SIGINT
"""With what the parent has a draining copy cancel what is in flight. SIGTERM a copy ignores, since
a service manager sends it to every process at once, before or after the parent's word to drain;
Ctrl-C does not reach a copy, which has a process group of its own."""

_READY = b"ready\n"

logger = logging.getLogger("trio_services.supervisor")


class CopyStartError(Exception):
    """A copy ended before it was ready for the first time."""


@dataclass(slots=True)
class Copies:
    """What the copies have in common."""

    zones: Zones | None
    """The last that had no mistake: a copy that starts again must not depend on the files."""
    running: set[trio.Process] = field(default_factory=set)
    ready: set[trio.Process] = field(default_factory=set)
    source: CopiesSource | None = None
    """What the status page asks, if there is one."""


async def supervise(
    settings: ServeSettings,
    socket_sets: list[Sockets],
    zones: Zones | None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one copy of the services for each set of sockets until SIGTERM or SIGINT.

    Args:
        settings: What each copy serves.
        socket_sets: A set for each copy, all bound to the same ports; closed when that copy is
            told to drain.
        zones: What each copy answers from; SIGHUP loads them anew. None without DNS.

    Error handling: a copy that crashes is logged and restarted. One that cannot even start
    ends all of them with a `CopyStartError`, in an exception group.

    Cancellation: each copy is told to drain, and is killed when its grace period is over.
    """
    copies = Copies(zones)
    if settings.status:
        copies.source = CopiesSource(settings.processes)

    async def reload() -> None:
        if not settings.dns:
            return
        try:
            copies.zones = await trio.to_thread.run_sync(
                zones_for, settings.dns, abandon_on_cancel=True
            )
        except ZoneError as error:
            logger.error("zones not reloaded, the old ones are served on: %s", error)
            return
        for process in copies.ready:  # the others are given the new zones when they start
            process.send_signal(signal.SIGHUP)

    def cancel() -> None:
        for process in copies.running:
            process.send_signal(CANCEL_SIGNAL)

    def show_tasks() -> None:
        for process in copies.ready:
            process.send_signal(signal.SIGUSR1)

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as everything:
            everything.start_soon(show_tasks_when_asked, show_tasks, name="show tasks")
            if copies.source:
                site = partial(serve_copies, settings, socket_sets[0], copies.source)
                everything.start_soon(site, name="status")
            async with trio.open_nursery() as keepers:
                obey = partial(obey_signals, reload=reload, cancel=cancel)
                everything.start_soon(obey, signals, keepers.cancel_scope, name="signals")
                async with trio.open_nursery() as starting:
                    for number, sockets in enumerate(socket_sets, 1):
                        keep = partial(keep_copy, number, settings, sockets, copies)
                        starting.start_soon(partial(keepers.start, keep, name=f"copy {number}"))
                task_status.started()
                with announced(settings.ready_file, socket_sets[0]):
                    await trio.sleep_forever()
            everything.cancel_scope.cancel()
    logger.info("stopped")


async def keep_copy(
    number: int,
    settings: ServeSettings,
    sockets: Sockets,
    copies: Copies,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run copy `number` on `sockets`, and run it again whenever it ends by itself.

    `started()` is called when the copy is ready for the first time.

    Raises:
        CopyStartError: It ended before it was ever ready; why stands in the log that it shares.

    Cancellation: drains the copy; takes at most its grace period and `KILL_MARGIN`.
    """
    backoff = MIN_BACKOFF
    has_been_ready = False
    with closing(sockets):
        while True:
            began = trio.current_time()
            async with open_copy(number, settings, sockets, copies) as process:
                try:
                    if await _said_ready(process):
                        copies.ready.add(process)
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                        has_been_ready = True
                    status = await process.wait()
                except trio.Cancelled:
                    sockets.close()  # or the kernel would go on accepting while the copy drains
                    raise
            if not has_been_ready:
                raise CopyStartError(
                    f"copy {number} ended with {_told(status)} before it was ready"
                )
            if trio.current_time() - began >= STEADY_AFTER:
                backoff = MIN_BACKOFF
            logger.error("copy %d ended with %s, restart in %g s", number, _told(status), backoff)
            if copies.source:
                copies.source.recent.error(f"copy {number}", "it ended", _told(status))
            await trio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)


def _told(status: int) -> str:
    return f"status {status}" if status >= 0 else signal.Signals(-status).name


@asynccontextmanager
async def open_copy(
    number: int, settings: ServeSettings, sockets: Sockets, copies: Copies
) -> AsyncIterator[trio.Process]:
    """Start a copy that serves `sockets`; on leaving, tell it to drain and see it gone."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-m", "trio_services.supervisor"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[theirs.fileno(), *(sock.fileno() for sock in sockets.all())],
                process_group=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        except BaseException:
            ours.close()
            raise
        errand = _errand(settings, sockets, copies.zones, theirs)
    assert process.stdin
    assert process.stdout
    copies.running.add(process)
    link = CopyLink(number, process.pid, ours)
    if copies.source:
        copies.source.links[number] = link
    try:
        with suppress(trio.BrokenResourceError):  # it died at once; its exit status tells
            await process.stdin.send_all(errand)
        yield process
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(settings.grace + KILL_MARGIN):
                await process.wait()
            if process.poll() is None:
                process.kill()
                await process.wait()
            await process.stdout.aclose()
        if copies.source:
            del copies.source.links[number]
        link.close()
        copies.running.discard(process)
        copies.ready.discard(process)


def _errand(
    settings: ServeSettings, sockets: Sockets, zones: Zones | None, parent: socket.socket
) -> bytes:
    """Return what a copy reads first: settings, zones, and its sockets by file descriptor."""
    numbers = {
        name: [sock.fileno() for sock in group]
        for name, group in (("udp", sockets.udp), ("dns", sockets.dns), ("sort", sockets.sort))
    }
    alone = replace(settings, processes=1, ready_file=None, status=None)
    return pickle.dumps((alone, numbers, zones, parent.fileno() if settings.status else None))


async def _said_ready(process: trio.Process) -> bool:
    """Wait until the copy says that it is ready; False if it ends before."""
    assert process.stdout
    said = b""
    while data := await process.stdout.receive_some():
        said += data
        if said.endswith(_READY):
            return True
    return False


class _SayReady(trio.TaskStatus[None]):
    def started(self, value: None = None) -> None:
        os.write(1, _READY)


async def _serve_with_parent(
    settings: ServeSettings,
    sockets: Sockets,
    zones: Zones | None,
    watch: Callable[[Inside], Awaitable[None]],
) -> None:
    """Serve as a copy: say when ready, and drain when the parent says so or is gone."""

    async def end_of_input() -> None:
        # The parent writes no more than the errand: readable means the end.
        await trio.lowlevel.wait_readable(0)
        logger.info("the parent is draining or gone: no longer accepting")

    await serve(
        settings,
        sockets,
        zones,
        stop_signals=[CANCEL_SIGNAL],
        until=end_of_input,
        watch=watch,
        task_status=_SayReady(),
    )


def run_copy() -> None:
    """Be a copy: read the errand from standard input and serve until told to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what it means comes from the parent
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there are tasks to show
    settings, numbers, zones, parent = pickle.load(sys.stdin.buffer)
    configure_logging(settings.log_level)
    gc.freeze()  # zones may be large, and live on
    with ExitStack() as closing_at_end:
        sockets = closing_at_end.enter_context(inherited(numbers))
        watch: Callable[[Inside], Awaitable[None]] = nobody_watches
        if parent is not None:
            watch = watch_for(closing_at_end.enter_context(socket.socket(fileno=parent)))
        sys.exit(run_reporting(trio.run, _serve_with_parent, settings, sockets, zones, watch))


if __name__ == "__main__":
    run_copy()
