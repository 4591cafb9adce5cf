"""The warden: ends what the lab has started when the lab cannot do so itself.

Every variant is the leader of a process group of its own. The lab notes each in a folder, as
`NAME.pid`, and takes the note away when the variant has ended. The warden holds the reading end of
a pipe whose only writing end is the lab's. The kernel closes that whatever ends the lab, `kill -9`
too; then the warden ends the groups that are still noted, and removes the folder. In the ordinary
case none is left, and the folder is all that it has to do.

Out of reach: a lab that is killed in the instant between starting a variant and noting it, and a
`kill -9` of the warden itself.

    python -m services_lab.warden FOLDER
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

STOP_GRACE = 12.0
"""Seconds from SIGTERM to SIGKILL: more than the 10 that the services take by default to drain."""

POLL_INTERVAL = 0.05
"""Seconds between two looks at whether a group is gone; the kernel does not tell of groups."""


def note_path(folder: Path, name: str) -> Path:
    """Return where the process group of the variant `name` is noted."""
    return folder / f"{name}.pid"


def signal_group(group: int, number: int) -> bool:
    """Send a signal (0: none) to a process group; tell whether there was anybody to get it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def end_groups(groups: list[int]) -> None:
    """Ask process groups to end, and kill those that are there when STOP_GRACE has passed."""
    deadline = time.monotonic() + STOP_GRACE
    left = [group for group in groups if signal_group(group, signal.SIGTERM)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)
        left = [group for group in left if signal_group(group, 0)]
    for group in left:
        signal_group(group, signal.SIGKILL)


def main(folder: Path) -> None:
    """Wait until standard input ends, then leave nothing behind."""
    sys.stdin.buffer.read()
    end_groups([int(note.read_text()) for note in folder.glob("*.pid")])
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
