"""Recordings as files: what tasks did in one process, for the lab to read in another.

The times of a recording are seconds since it began; the file says when that was on the system's
monotonic clock, which is the same in every process of a machine. So the lab can add marks of its
own ("the client left") to what a server has recorded.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services_lab.event_log import OUTSIDE
from services_lab.thinning import thinned
from trio_services.sans_io.task_events import TaskEvent, What

Row = list[Any]
"""An event in JSON: `[at, what, task, name, parent, note]`, without the defaults at its end."""

_DEFAULTS: Row = [None, None, None, "", None, ""]

EVENT_LIMIT = 2_000
"""Events of one observation: 150 kB of JSON, and more than a picture can show."""

NO_MARKS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded in one process.

    Attributes:
        began: Seconds of the monotonic clock at which `TaskEvent.at` is 0.
        dropped: How many events were too old to be kept.
        events: In the order of time.
    """

    began: float
    dropped: int
    events: tuple[TaskEvent, ...]

    def with_marks(self, marks: Mapping[str, float]) -> "Recording":
        """Return it with marks added, given as seconds of the monotonic clock by text."""
        made = [
            TaskEvent(at - self.began, What.MARK, OUTSIDE, name=text) for text, at in marks.items()
        ]
        events = sorted([*self.events, *made], key=lambda event: event.at)
        return replace(self, events=tuple(events))


def write_recording(path: Path, recording: Recording) -> None:
    """Write a file that appears whole or not at all."""
    content = {
        "version": 1,
        "began": recording.began,
        "dropped": recording.dropped,
        "events": to_rows(recording.events),
    }
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content, separators=(",", ":")))
    unfinished.replace(path)


def read_recording(path: Path) -> Recording:
    """Return what `write_recording` wrote; raises FileNotFoundError if it never did."""
    content = json.loads(path.read_text())
    return Recording(content["began"], content["dropped"], from_rows(content["events"]))


def read_events(
    path: Path, marks: Mapping[str, float] = NO_MARKS, *, limit: int = EVENT_LIMIT
) -> tuple[TaskEvent, ...]:
    """Return the events in a file, with `marks` added, few enough to be kept with results.

    Args:
        path: A file that `write_recording` wrote; raises FileNotFoundError if it did not.
        marks: Seconds of the monotonic clock by text.
        limit: How many events there may be (see `thinning`).
    """
    return thinned(read_recording(path).with_marks(marks).events, limit)


def to_rows(events: Iterable[TaskEvent]) -> list[Row]:
    """Return events as JSON has them; times are rounded to microseconds."""
    rows = []
    for event in events:
        row: Row = [
            round(event.at, 6),
            str(event.what),
            event.task,
            event.name,
            event.parent,
            event.note,
        ]
        while row[-1] == _DEFAULTS[len(row) - 1]:
            row.pop()
        rows.append(row)
    return rows


def from_rows(rows: Iterable[Row]) -> tuple[TaskEvent, ...]:
    """Return the events that `to_rows` made rows of."""
    return tuple(TaskEvent(row[0], What(row[1]), *row[2:]) for row in rows)
