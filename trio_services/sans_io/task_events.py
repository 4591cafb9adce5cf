"""What happened to tasks, as values: recorded on any runtime, drawn and exported by the same code.

A recorder (Trio's Instrument in `trio_services.status.trace`, asyncio's task factory in
`services_lab`) appends a `TaskEvent` whenever a task is spawned, runs a step, waits, is cancelled
or ends; a program adds marks for what only it knows ("the client left"). The events of one
recording are in the order of time. A task is *running* from STARTED to STOPPED, *waiting* from
STOPPED to READY, and *ready* from READY to STARTED.

`chrome_trace` turns them into the Trace Event Format that Perfetto and chrome://tracing open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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

    Each task is a thread of `process`, with one complete event (`"ph": "X"`) for its life and in it
    one for each step, cancellations and marks as instants, and a flow arrow from its parent where
    it was spawned. What is open at either end of the recording is drawn to that end. Times are
    microseconds.

    Source: "Trace Event Format", the document that Perfetto names for its JSON importer.
    """
    ordered = sorted(events, key=lambda event: event.at)
    lanes = _Lanes(_microseconds(ordered[-1].at) if ordered else 0.0)
    for event in ordered:
        lanes.add(event)
    # Of slices that begin together, the outer comes first.
    drawn = sorted(lanes.finished(), key=lambda each: (each["ts"], -each.get("dur", 0)))
    named = [
        {"ph": "M", "name": "process_name", "pid": _PROCESS, "args": {"name": process}},
        *(
            {"ph": "M", "name": "thread_name", "pid": _PROCESS, "tid": lane, "args": {"name": name}}
            for lane, name in lanes.names.items()
        ),
    ]
    return {"traceEvents": named + drawn, "displayTimeUnit": "ms"}


_PROCESS = 1

Drawn = dict[str, Any]
"""An entry of `traceEvents`."""


class _Lanes:
    """What has been drawn so far, and which lives and steps are still open."""

    def __init__(self, end: float) -> None:
        self.names: dict[int, str] = {}
        self._end = end
        self._drawn: list[Drawn] = []
        self._lives: dict[int, Drawn] = {}
        self._steps: dict[int, Drawn] = {}
        self._ready: dict[int, float] = {}

    def add(self, event: TaskEvent) -> None:
        """Draw the next event."""
        at = _microseconds(event.at)
        lane = event.task + 1  # Perfetto takes thread 0 for the idle one
        match event.what:
            case What.SPAWNED:
                self._spawn(event, at, lane)
            case What.READY:
                self._ready[lane] = at
            case What.STARTED:
                ready = self._ready.pop(lane, None)  # asyncio does not tell
                args = {} if ready is None else {"ready for µs": round(at - ready, 3)}
                self._steps[lane] = _slice("running", "step", at, lane, args)
            case What.STOPPED | What.EXITED:
                self._close(self._steps, lane, at)
                if event.what is What.EXITED:
                    if lane in self._lives and event.note:
                        self._lives[lane]["args"]["ended"] = event.note
                    self._close(self._lives, lane, at)
            case What.CANCELLED | What.MARK:
                self._drawn.append(_instant(event, at, lane))

    def finished(self) -> list[Drawn]:
        """Close what is open, and return everything."""
        for open_slices in (self._steps, self._lives):
            for lane in list(open_slices):
                self._close(open_slices, lane, self._end)
        return self._drawn

    def _spawn(self, event: TaskEvent, at: float, lane: int) -> None:
        self.names[lane] = event.name
        args = {"note": event.note} if event.note else {}
        self._lives[lane] = _slice(event.name, "task", at, lane, args)
        if event.parent is not None:
            arrow = {"name": "spawned", "cat": "spawn", "id": lane, "pid": _PROCESS, "ts": at}
            self._drawn.append({"ph": "s", "tid": event.parent + 1, **arrow})
            self._drawn.append({"ph": "f", "bp": "e", "tid": lane, **arrow})

    def _close(self, open_slices: dict[int, Drawn], lane: int, at: float) -> None:
        closed = open_slices.pop(lane, None)
        if closed:
            closed["dur"] = round(at - closed["ts"], 3)
            self._drawn.append(closed)


def _slice(name: str, kind: str, at: float, lane: int, args: Drawn) -> Drawn:
    return {
        "ph": "X", "name": name, "cat": kind, "ts": at, "dur": 0.0,
        "pid": _PROCESS, "tid": lane, "args": args,
    }  # fmt: skip


def _instant(event: TaskEvent, at: float, lane: int) -> Drawn:
    is_mark = event.what is What.MARK
    return {
        "ph": "i", "name": event.name if is_mark else "cancelled", "cat": event.what.value,
        "ts": at, "s": "p" if is_mark and not event.task else "t",
        "pid": _PROCESS, "tid": lane, "args": {"note": event.note} if event.note else {},
    }  # fmt: skip


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
