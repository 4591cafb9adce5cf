"""A variant as a server in a process of its own: started, ready, looked at, ended."""

import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import trio

from services_lab.children import open_child
from services_lab.event_file import read_recording
from services_lab.usage import cpu_seconds, family
from services_lab.variants import Variant
from trio_services.sans_io.task_events import TaskEvent
from trio_services.settings import Address

READY_DEADLINE = 30.0
"""Seconds for a server to be ready: it takes half a second on an idle machine."""

LOOK_INTERVAL = 0.01
"""Seconds between two looks at what another process writes."""

PATIENCE = 30.0
"""Seconds after which a line of the log, or an end, is taken as never to come."""

STOP_GRACE = 5.0
"""Seconds on leaving from SIGTERM to SIGKILL; an experiment about stopping does that itself."""


class ServerFailedError(Exception):
    """A server did not do what the experiment needs in order to ask its question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server.

    Attributes:
        process: What was started. Its end is waited for with `wait`.
        addresses: Where each service listens, by `dns` and `sort`.
        log: The file of its standard output and standard error.
        recording: The file that its task events are written to when it ends; None if it is not
            recorded.
        marks: What the lab has marked, as seconds of the monotonic clock.
    """

    process: trio.Process
    addresses: Mapping[str, Address]
    log: Path
    recording: Path | None = None
    marks: dict[str, float] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.process.pid

    @property
    def dns(self) -> Address:
        """Where the DNS service listens."""
        return self.addresses["dns"]

    @property
    def sort(self) -> Address:
        """Where the sort service listens."""
        return self.addresses["sort"]

    def mark(self, text: str) -> None:
        """Say that `text` happens now, as far as the lab can see; it is drawn in the timeline."""
        self.marks[text] = time.monotonic()

    def lines(self) -> list[str]:
        """Return what it has logged up to now."""
        return self.log.read_text(errors="replace").splitlines()

    async def said(self, pattern: str, *, times: int = 1, patience: float = PATIENCE) -> list[str]:
        """Wait until `times` lines of the log match the regular expression; return those that do.

        Raises:
            trio.TooSlowError: They have not come within `patience` seconds.
        """
        with trio.fail_after(patience):
            while len(found := self._matching(pattern)) < times:  # noqa: ASYNC110 - a file
                await trio.sleep(LOOK_INTERVAL)
        return found

    def _matching(self, pattern: str) -> list[str]:
        return [each for each in self.lines() if re.search(pattern, each)]

    def family(self) -> list[psutil.Process]:
        """Return the server's process and all below it, first itself; empty if it has ended."""
        return family(self.pid)

    async def cpu(self) -> float:
        """Return the CPU seconds of all its processes since the start, dead and living.

        Raises:
            ProcessLookupError: It has ended.
        """
        return await trio.to_thread.run_sync(cpu_seconds, self.pid)

    def resident(self) -> int:
        """Return the resident bytes of the server's process, without workers."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def open_files(self) -> int:
        """Return how many file descriptors the server's process has open."""
        return int(psutil.Process(self.pid).num_fds())

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process alone."""
        self.process.send_signal(number)

    async def wait(self, patience: float = PATIENCE) -> int:
        """Wait until the server's process ends; return its exit status, -N for signal N.

        Raises:
            trio.TooSlowError: It has not within `patience` seconds.
        """
        with trio.fail_after(patience):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit status: -9 if it had to be killed."""
        self.process.send_signal(number)
        with trio.move_on_after(PATIENCE):
            return await self.process.wait()
        self.process.kill()
        return await self.process.wait()

    def events(self) -> tuple[TaskEvent, ...]:
        """Return what its tasks did; it is written when the server ends, so `stop` it first."""
        if self.recording is None or not self.recording.exists():
            raise ServerFailedError("no recording: was it opened with record=True, and stopped?")
        return read_recording(self.recording).with_marks(self.marks).events


@asynccontextmanager
async def open_server(
    variant: Variant,
    *options: str,
    name: str,
    home: Path,
    folder: Path,
    cores: Collection[int] = (),
    env: Mapping[str, str] | None = None,
    record: bool = False,
) -> AsyncIterator[Server]:
    """Run `variant` on free ports; inside it is ready. See `Trial.open_server`.

    Raises:
        ServerFailedError: It ended before it was ready, or was not in READY_DEADLINE.
    """
    ready_file, log = folder / "ready.json", folder / "log"
    command = variant.arguments(str(ready_file), *options)
    recording = folder / "events.json" if record else None
    if recording:  # what was `python -m PACKAGE …`
        wrapper = [sys.executable, "-m", "services_lab.recorded", str(recording)]
        command = [*wrapper, *command[2:]]
    async with open_child(
        command, name=name, home=home, stdout=log, cores=cores, env=env, grace=STOP_GRACE
    ) as process:
        with trio.move_on_after(READY_DEADLINE):
            while not ready_file.exists() and process.poll() is None:  # noqa: ASYNC110 - a file
                await trio.sleep(LOOK_INTERVAL)
        if not ready_file.exists():
            said = log.read_text(errors="replace")
            raise ServerFailedError(f"{variant.name} did not become ready; it said:\n{said}")
        ready = json.loads(ready_file.read_text())
        addresses = {each: Address(*ready[each][0]) for each in ("dns", "sort") if each in ready}
        yield Server(process=process, addresses=addresses, log=log, recording=recording)
