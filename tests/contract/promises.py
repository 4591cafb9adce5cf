"""What a promise is, and what it is made of: a variant, running.

A promise is an async function with a docstring of one sentence. It takes a `Subject`, talks to the
variant as its clients and operators do, over sockets, signals and files, and raises AssertionError
if the sentence is not true. It knows nothing of the variant's insides, and so holds for all.

Starting a program costs half a second, so promises that leave a server as they found it share one
(`Subject.server`); those that signal it, kill it or need options run their own
(`Subject.serving`).
"""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import trio
from services_lab.variants import Variant
from services_lab.warden import signal_group

from tests.system.serving import PATIENCE, ROOT, Finished, Server, environment, run

POLL_INTERVAL = 0.01
"""Seconds between two looks at what has no events: a file of another process, its CPU time."""

LOOK_INTERVAL = 0.05
"""The same for what takes a look at every process of the machine."""

AT_WORK = 0.15
"""Seconds of CPU time that show a process to sort: to start one takes less."""

PYTHONPATH = os.pathsep.join(map(str, (ROOT, ROOT / "compat")))

Check = Callable[["Subject"], Awaitable[None]]


def first_sentence(check: Check) -> str:
    """Return what the docstring of a check says first."""
    return " ".join((check.__doc__ or "").partition("\n\n")[0].split())


@dataclass(frozen=True, slots=True)
class Promise:
    """Something that every variant promises that has what it is about.

    Attributes:
        check: Raises AssertionError where it is not kept.
        service: `dns`, `sort`, or `any` for those that either service is enough for.
        about_option: Whether it is about an option of the command line; the originals have none.
    """

    check: Check
    service: str
    about_option: bool = False

    @property
    def name(self) -> str:
        """Its name, for tables and tests."""
        return self.check.__name__

    @property
    def sentence(self) -> str:
        """What is promised, in one sentence."""
        return first_sentence(self.check)


@dataclass(frozen=True, slots=True)
class Subject:
    """A variant that is held to a promise.

    Attributes:
        variant: Which one.
        server: Running without options, shared by all promises, to be left as it was found.
    """

    variant: Variant
    server: Server

    def serving(self, *options: str) -> AbstractAsyncContextManager[Server]:
        """Run a server of one's own, with `options`; outside, every process of it is gone."""
        return running(self.variant, *options)

    async def run(self, *options: str) -> Finished:
        """Run the variant to its end; `options` say where it listens."""
        return await run("env", f"PYTHONPATH={PYTHONPATH}", *self.variant.program(), *options)


@asynccontextmanager
async def running(variant: Variant, *options: str) -> AsyncIterator[Server]:
    """Run a variant on free ports, with one worker unless `options` say otherwise.

    Inside it is ready. On leaving, every process of its group is killed; one that has left the
    group and lives on fails the test, since it keeps the log open. The log is added to any
    exception as a note.
    """
    if not variant.is_original:
        options = ("--workers", "1", *options)
    with TemporaryDirectory() as folder:
        process = await trio.lowlevel.open_process(
            variant.arguments(f"{folder}/ready.json", *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment(TMPDIR=folder, PYTHONPATH=PYTHONPATH),
            process_group=0,
        )
        server = Server(process, Path(folder))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.read_log)
                try:
                    await until(lambda: server.ready_file.exists() or process.poll() is not None)
                    assert server.ready_file.exists(), "it ended before it was ready"
                    yield server
                finally:
                    signal_group(process.pid, signal.SIGKILL)
                    with trio.CancelScope(shield=True):
                        await server.ended()
        except BaseException as error:
            error.add_note("\n".join(["the server's log:", *server.lines]))
            raise


@contextmanager
def written(text: str) -> Iterator[Path]:
    """Yield a file that holds `text`: zones or settings for a server, outside of its folder."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "written"
        path.write_text(text)
        yield path


async def until(condition: Callable[[], object], interval: float = POLL_INTERVAL) -> None:
    """Wait until `condition()` is true, for what has no events of its own."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - that is what it is for
            await trio.sleep(interval)


def ready(server: Server) -> dict[str, object]:
    """Return what the ready file says."""
    found: dict[str, object] = json.loads(server.ready_file.read_text())
    return found


def cpu_times(server: Server) -> dict[int, float]:
    """Return the CPU time of each living process below the server, in seconds, by its id."""
    times = {}
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # one that has ended meanwhile
            if process.status() != psutil.STATUS_ZOMBIE:
                used = process.cpu_times()
                times[process.pid] = used.user + used.system
    return times


def descendants(server: Server) -> list[int]:
    """Return the processes below a server."""
    return list(cpu_times(server))


async def at_work(server: Server, *, besides: int | None = None) -> int:
    """Wait until a process below the server sorts, and return its id; `besides` does not count."""
    before = cpu_times(server)

    def busy() -> list[int]:
        return [
            pid
            for pid, time in cpu_times(server).items()
            if pid != besides and time - before.setdefault(pid, 0.0) > AT_WORK
        ]

    await until(busy, LOOK_INTERVAL)
    return busy()[0]


def promise(service: str, *, about_option: bool = False) -> Callable[[Check], Promise]:
    """Make an async function a promise about `service`: `dns`, `sort` or `any` of them."""
    return partial(Promise, service=service, about_option=about_option)
