"""A program of an experiment in a process of its own: started, looked at while it runs, and ended.

`Running` is what an experiment holds while the program runs; `Ran` is what is left of it.
"""

import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from services_lab.children import open_child
from services_lab.event_file import read_recording
from services_lab.experiment import Subject
from services_lab.facts import Told, read_told
from services_lab.server import LOOK_INTERVAL, PATIENCE
from services_lab.usage import cpu_seconds
from services_lab.warden import signal_group
from trio_services.sans_io.task_events import TaskEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a program did.

    Attributes:
        exit_status: 0, what Python gives for an exception (1), or -N for signal N; None if it had
            not ended when its time was over, and was killed.
        stdout: Lines.
        stderr: Lines: tracebacks, warnings, what the event loop logs.
        facts: What it reported; `cpu` is the CPU seconds that it and its children took, if it came
            to its end.
        marks: When it passed its marks, as seconds of `time.monotonic()`, which is the same in
            every process.
        events: What its tasks did, if it was recorded.
        seconds: From its start to its end, that of Python included.
        left_behind: Whether processes of its group outlived it (they have been killed since).
    """

    exit_status: int | None
    stdout: tuple[str, ...]
    stderr: tuple[str, ...]
    facts: Mapping[str, object]
    marks: Mapping[str, float]
    events: tuple[TaskEvent, ...]
    seconds: float
    left_behind: bool

    @property
    def cpu(self) -> float:
        """CPU seconds of the program and of its children.

        Raises:
            KeyError: It did not come to its end.
        """
        return float(str(self.facts["cpu"]))


class Running:
    """A program that runs.

    Attributes:
        process: It.
        folder: Its files.
        marks: What the lab has marked, as seconds of the monotonic clock.
    """

    def __init__(self, process: trio.Process, folder: Path, *, record: bool) -> None:
        self.process = process
        self.folder = folder
        self.marks: dict[str, float] = {}
        self._record = record
        self._began = trio.current_time()

    def mark(self, text: str) -> None:
        """Say that `text` happens now, as far as the lab can see; it is drawn in the timeline."""
        self.marks[text] = time.monotonic()

    def told(self) -> Told:
        """Return the facts and marks up to now."""
        return read_told(self.folder / "facts")

    async def marked(self, text: str, patience: float = PATIENCE) -> None:
        """Wait until the program passes the mark `text`, or ends.

        Raises:
            trio.TooSlowError: It has not within `patience` seconds.
        """
        with trio.fail_after(patience):
            while text not in self.told().marks and self.process.poll() is None:  # noqa: ASYNC110 - a file
                await trio.sleep(LOOK_INTERVAL)

    async def cpu(self) -> float:
        """Return the CPU seconds of the program and all below it, up to now.

        Raises:
            ProcessLookupError: It has ended.
        """
        return await trio.to_thread.run_sync(cpu_seconds, self.process.pid)

    async def ended(self, patience: float = PATIENCE) -> Ran:
        """Wait until it ends, or kill it after `patience` seconds; return what it did."""
        status: int | None = None
        with trio.move_on_after(patience):
            status = await self.process.wait()
        left_behind = signal_group(self.process.pid, 0) if status is not None else False
        seconds = trio.current_time() - self._began
        if status is None:
            self.process.kill()
            await self.process.wait()
        told = self.told()
        return Ran(
            exit_status=status,
            stdout=self._lines("stdout"),
            stderr=self._lines("stderr"),
            facts=told.facts,
            marks={**told.marks, **self.marks},
            events=self._events(),
            seconds=seconds,
            left_behind=left_behind,
        )

    def _lines(self, name: str) -> tuple[str, ...]:
        return tuple((self.folder / name).read_text(errors="replace").splitlines())

    def _events(self) -> tuple[TaskEvent, ...]:
        path = self.folder / "events.json"
        if not self._record or not path.exists():
            return ()
        return read_recording(path).with_marks(self.marks).events


@asynccontextmanager
async def open_program(
    subject: Subject,
    *args: str,
    name: str,
    home: Path,
    folder: Path,
    cores: Collection[int] = (),
    env: Mapping[str, str] | None = None,
    record: bool = False,
) -> AsyncIterator[Running]:
    """Run the program of `subject`; on leaving it is killed, with its group.

    See `Trial.open_program`.
    """
    command = [sys.executable, "-m", "services_lab.program", "--facts", str(folder / "facts")]
    if record:
        command += ["--record", str(folder / "events.json")]
    async with open_child(
        [*command, subject.program, subject.runtime, *args],
        name=name,
        home=home,
        stdout=folder / "stdout",
        stderr=folder / "stderr",
        cores=cores,
        env=env,
    ) as process:
        yield Running(process, folder, record=record)
