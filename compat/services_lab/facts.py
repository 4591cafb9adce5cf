"""What a program tells the lab while it runs: facts, and marks in time.

They are lines of JSON, added to a file and flushed one by one: whatever ends the program (an
exception, a signal, `kill -9`), what it had told by then is there. This is also how a program says
"now": the lab waits for a mark, and sends the signal or looks at the CPU time then.
"""

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol


class Marker(Protocol):
    """A recorder, as far as a report needs it."""

    def mark(self, text: str) -> None:
        """Note `text` in the recording, at this moment."""

    def thread(self, name: str) -> AbstractContextManager[None]:
        """Return a block that is recorded as a thread of the task that runs now."""


class Report:
    """The first argument of a program.

    Args:
        file: Where the lines go; None if nobody wants them.
        recorder: Whose recording gets the marks too.
    """

    def __init__(self, file: IO[str] | None = None, recorder: Marker | None = None) -> None:
        self._file = file
        self._recorder = recorder

    def __call__(self, **facts: object) -> None:
        """Tell facts, as JSON has them; a name that is told again is overwritten."""
        self._write({"facts": facts})

    def mark(self, text: str) -> None:
        """Say that `text` happens now; it is drawn across the timeline."""
        if self._recorder:
            self._recorder.mark(text)
        self._write({"mark": text, "at": time.monotonic()})

    def thread(self, name: str) -> AbstractContextManager[None]:
        """Return a block, to be entered in a thread, that is drawn below the task that calls this.

        It is orphaned from when that task goes on without it.
        """
        return self._recorder.thread(name) if self._recorder else nullcontext()

    def _write(self, line: Mapping[str, object]) -> None:
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


@dataclass(frozen=True, slots=True)
class Told:
    """What a program has told up to now.

    Attributes:
        facts: By name.
        marks: Seconds of the system's monotonic clock, by text; of the first if it was told twice.
    """

    facts: Mapping[str, object]
    marks: Mapping[str, float]


def read_told(path: Path) -> Told:
    """Return what the file of a program says; nothing if it is not there yet."""
    facts: dict[str, object] = {}
    marks: dict[str, float] = {}
    text = path.read_text() if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():  # the last may be half written
        told = json.loads(line)
        facts |= told.get("facts", {})
        if "mark" in told:
            marks.setdefault(told["mark"], told["at"])
    return Told(facts, marks)
