"""Records what tasks do on any runtime: `with recording("uvloop", path) as recorder: run(…)`.

While inside, every loop that this process runs is recorded, however it is run: `asyncio.run`,
`uvloop.run`, `anyio.run` and `asyncio.Runner` all end in `Runner.run`, and everything on Trio in
`trio.run`. So servers need to know nothing of it (see `recorded`), and nothing is installed outside
of the block. AnyIO is recorded by whichever runs underneath.

The file is written when the block ends, however it ends, and on SIGTERM where the program leaves
that to the system. Nothing can be written on SIGKILL.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from services_lab.asyncio_recorder import AsyncioRecorder
from services_lab.event_file import Recording, write_recording
from services_lab.event_log import EventLog


@contextmanager
def recording(runtime: str, path: Path | None = None) -> Iterator[EventLog]:
    """Record what runs inside.

    Args:
        runtime: `asyncio`, `uvloop` or `trio`; `anyio-` and one of them, too.
        path: Where the recording is written at the end (see `event_file`); None for nowhere.
    """
    with _recorded_trio() if runtime.endswith("trio") else _recorded_asyncio() as recorder:
        if path is None:
            yield recorder
            return
        with _written(recorder, path):
            yield recorder


@contextmanager
def _recorded_asyncio() -> Iterator[EventLog]:
    recorder = AsyncioRecorder()
    plain_run = asyncio.Runner.run

    def run(self: asyncio.Runner, *args: Any, **options: Any) -> Any:
        with recorder.installed(self.get_loop()):
            return plain_run(self, *args, **options)

    asyncio.Runner.run = run  # type: ignore[method-assign]
    try:
        yield recorder
    finally:
        asyncio.Runner.run = plain_run  # type: ignore[method-assign]


@contextmanager
def _recorded_trio() -> Iterator[EventLog]:
    import trio

    from services_lab.trio_recorder import TrioRecorder

    recorder = TrioRecorder()
    plain_run = trio.run

    def run(*args: Any, instruments: Any = (), **options: Any) -> Any:
        return plain_run(*args, instruments=[*instruments, recorder], **options)

    trio.run = run  # type: ignore[assignment]
    try:
        yield recorder
    finally:
        trio.run = plain_run


@contextmanager
def _written(recorder: EventLog, path: Path) -> Iterator[None]:
    """Write what was recorded to `path` on leaving, and before SIGTERM ends the process."""
    owner = os.getpid()

    def write() -> None:
        if os.getpid() == owner:  # a forked worker inherits the handler
            write_recording(path, Recording(recorder.began, recorder.dropped, recorder.events()))

    def write_and_end(number: int, frame: FrameType | None) -> None:
        write()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, write_and_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        write()
