"""What happened to tasks, as values: recorded on any runtime, drawn and exported by the same code.

A recorder (Trio's Instrument in `trio_services.status.trace`, asyncio's task factory in
`services_lab`) appends a `TaskEvent` whenever a task is spawned, runs a step, waits, is cancelled or
ends; a program adds marks for what only it knows ("the client left"). The events of one recording
are in the order of time. A task is *running* from STARTED to STOPPED, *waiting* from STOPPED to
READY, and *ready* from READY to STARTED.

`chrome_trace` turns them into the Trace Event Format that Perfetto and chrome://tracing open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class What(StrEnum):
    """What happened to a task."""

    SPAWNED = "spawned"
    READY = "ready"
    STARTED = "started"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    EXITED = "exited"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One thing that happened to one task.

    Attributes:
        at: Seconds since the recording began.
        what: What happened.
        task: A number for the task, unique in its recording.
        name: The task's name; set at least on SPAWNED, and on MARK (what is marked).
        parent: The number of the task whose nursery, or whose code, started it; on SPAWNED.
        note: More for people: who cancelled it and why, with what it ended.
    """

    at: float
    what: What
    task: int
    name: str = ""
    parent: int | None = None
    note: str = ""


def chrome_trace(events: Iterable[TaskEvent], process: str = "trio") -> dict[str, object]:
    """Return `events` in Chrome's Trace Event Format, to be written as JSON.

    Each task is a thread of `process`: its steps are complete events (`"ph": "X"`), cancellations
    and marks are instants, a spawn is a flow arrow from parent to child. Times are microseconds.

    Source: "Trace Event Format", the document that Perfetto names for its JSON importer.
    """
    raise NotImplementedError
