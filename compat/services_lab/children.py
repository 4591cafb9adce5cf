"""Child processes of the lab: each leads a process group of its own, and leaves nothing behind.

A child is noted with the warden before anything is done with it, so that it ends even when the lab
is killed; its output goes to a file, since nobody may be there to read a pipe; and on leaving, its
whole group is ended and the child itself waited for.
"""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import services_lab
import trio_services
from services_lab.warden import note_path, signal_group

IMPORTED_FROM = tuple(
    dict.fromkeys(
        str(Path(file).resolve().parents[1])
        for file in (trio_services.__file__, services_lab.__file__)
        if file
    )
)
"""Where the packages of this project are, so that a child finds them whatever its folder is."""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of children: ours, our packages on the path, output not held back."""
    path = [*IMPORTED_FROM, os.environ.get("PYTHONPATH", "")]
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **ours, **changes}


@asynccontextmanager
async def open_child(
    command: Sequence[str],
    *,
    name: str,
    home: Path,
    stdout: Path,
    stderr: Path | None = None,
    cores: Collection[int] = (),
    env: Mapping[str, str] | None = None,
    grace: float = 0.0,
) -> AsyncIterator[trio.Process]:
    """Run `command` in a process group of its own; on leaving it has ended, and its group too.

    Args:
        command: The program and its arguments.
        name: What it is noted as; unique among those that run.
        home: The folder that the warden watches (see `side_by_side.open_folder`).
        stdout: The file that its output is added to.
        stderr: The same for standard error; by default the same file.
        cores: The only ones that it may use, where the system can tell it so; all if empty.
        env: Changes to the environment.
        grace: Seconds on leaving from SIGTERM to the child to SIGKILL to its group; without any
            SIGTERM if 0.

    Cancellation: as on leaving; it takes `grace` seconds at most.
    """
    with stdout.open("ab") as output, (stderr or stdout).open("ab") as errors:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=stdout.parent,
            env=environment(**(env or {})),
            process_group=0,
        )
    note = note_path(home, name)
    note.write_text(str(process.pid))
    try:
        pin(process.pid, cores)
        yield process
    finally:
        with trio.CancelScope(shield=True):
            if grace:
                with trio.move_on_after(grace):
                    process.terminate()
                    await process.wait()
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        note.unlink()


def pin(pid: int, cores: Collection[int]) -> None:
    """Let a process that has just started run on `cores` only; where that cannot be, do nothing.

    What it starts later inherits it. A process that has ended already is nobody to pin.
    """
    if cores and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(pid, cores)
        except ProcessLookupError:
            pass
