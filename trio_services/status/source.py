"""Where the status site gets what it shows: from this process, or from copies of it.

A *report* is what one process says of itself, as JSON has it: who it is, its counters, what
happened lately, and its task tree if that is asked for. The site knows no more than this protocol,
so it is the same whether one process serves or a parent has N copies.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson
import trio

from trio_services.sans_io.task_events import chrome_trace
from trio_services.status.inside import Inside
from trio_services.status.loop_lag import LoopLag
from trio_services.status.task_tree import find_task, take_task_tree
from trio_services.status.task_tree_json import as_json
from trio_services.status.trace import TraceRecorder

Report = dict[str, Any]
"""`pid`, `uptime`, `ready`, `draining`, `lag`, `counters`, `recent` and `tree`; or only `pid` and
`missing`, which says why there is none of these."""


class CannotTraceError(Exception):
    """Tasks cannot be recorded; the text says why."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen at one moment.

    Attributes:
        reports: One of each process that serves; a report's own `tree` is taken out of it.
        recent: What happened elsewhere: in a parent.
        tree: Of all processes, as `task_tree_json` has it; None if it was not asked for.
    """

    reports: Sequence[Report]
    recent: Sequence[dict[str, Any]]
    tree: Any


class Source(Protocol):
    """What the site asks."""

    tracing: bool
    """Whether tasks are being recorded."""

    async def view(self, *, tree: bool, fold: bool = True) -> View:
        """Return what is seen now; never waits for long."""

    async def cancel(self, task: int, why: str) -> bool:
        """Cancel the connection with this number in the tree; tell whether there was one."""

    async def start_trace(self) -> None:
        """Begin to record what tasks do; raises CannotTraceError."""

    async def stop_trace(self) -> bytes:
        """End the recording and return it, in Chrome's trace format; raises CannotTraceError."""


class LocalSource:
    """What this process says of itself."""

    def __init__(self, inside: Inside, lag: LoopLag) -> None:
        self.tracing = False
        self._inside = inside
        self._lag = lag
        self._recorder = TraceRecorder()

    async def view(self, *, tree: bool, fold: bool = True) -> View:
        """Return the only report; it takes no longer than the tree, which yields to the loop."""
        report = await self.report(tree=tree, fold=fold)
        return View([report], [], report.pop("tree", None))

    async def report(self, *, tree: bool, fold: bool) -> Report:
        """Return the report of this process."""
        inside = self._inside
        report: Report = {
            "pid": os.getpid(),
            "uptime": time.monotonic() - inside.started,
            "ready": inside.ready and not inside.draining,
            "draining": inside.draining,
            "lag": {"now": self._lag.now, "p99": self._lag.p99},
            "counters": inside.counters(),
            "recent": [asdict(each) for each in inside.recent.all()],
        }
        if tree:
            report["tree"] = as_json(await take_task_tree(fold=fold))
        return report

    async def cancel(self, task: int, why: str) -> bool:
        """Cancel a connection of this process."""
        await trio.lowlevel.checkpoint()
        found = find_task(task)
        return found is not None and self._inside.cancel(id(found), why)

    async def start_trace(self) -> None:
        """Record the tasks of this process, anew if that is done already."""
        await trio.lowlevel.checkpoint()
        if self.tracing:
            self._recorder.stop()
        self._recorder = TraceRecorder()
        self._recorder.start()
        self.tracing = True

    async def stop_trace(self) -> bytes:
        """Return what was recorded; made in a thread, since 100,000 events take their time."""
        if not self.tracing:
            raise CannotTraceError("nothing is being recorded")
        self._recorder.stop()
        self.tracing = False
        recorder = self._recorder
        return await trio.to_thread.run_sync(lambda: orjson.dumps(chrome_trace(recorder.events())))
