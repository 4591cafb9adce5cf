"""A source of what a test wants the site to show."""

from dataclasses import dataclass, field
from typing import Any

import trio

from trio_services.sans_io.histogram import BOUNDS
from trio_services.status.inside import Counters
from trio_services.status.source import CannotTraceError, Report, View


def counters(**dns: Any) -> Counters:
    """Return the counters of a process with both services, all zero but for those of `dns`."""
    durations = {"counts": [0] * (len(BOUNDS) + 1), "total": 0.0}
    connections = dict.fromkeys(("open", "idle", "accepted", "refused", "lost", "crashed"), 0)
    workers = dict.fromkeys(("size", "running", "waiting", "inline", "done", "restarts"), 0)
    return {
        "memory": 1000,
        "dns": {
            **dict.fromkeys(("queries", "cache_hits", "truncated", "dropped", "errors"), 0),
            "unsent": 0,
            "rcodes": {"NOERROR": 2},
            "tcp": dict(connections),
            "batches": dict(durations),
            **dns,
        },
        "sort": {
            **dict.fromkeys(("lists", "bytes", "gone", "bytes_in_flight"), 0),
            "errors_by_code": {"busy": 3},
            "connections": {**connections, "open": 5, "idle": 2},
            "workers": workers,
            "durations": dict(durations),
        },
    }


def report(pid: int = 1, **changes: Any) -> Report:
    """Return the report of a process."""
    return {
        "pid": pid,
        "uptime": 1.5,
        "ready": True,
        "draining": False,
        "lag": {"now": 0.1, "p99": 0.2},
        "counters": counters(),
        "recent": [],
        **changes,
    }


@dataclass
class FakeSource:
    """Says what it was made with.

    Attributes:
        reports: Of the processes.
        looked: How many times it was asked, with the tree and without.
        slow: Seconds that it takes.
    """

    reports: list[Report]
    looked: list[bool] = field(default_factory=list)
    slow: float = 0.0
    tracing: bool = False
    tree: Any = field(default_factory=lambda: {"tasks": [], "nurseries": [], "frames": []})

    async def view(self, *, tree: bool, fold: bool = True) -> View:
        """Return the reports."""
        await trio.sleep(self.slow)
        self.looked.append(tree)
        return View(self.reports, [], self.tree if tree else None)

    async def cancel(self, task: int, why: str) -> bool:
        """Cancel nothing."""
        await trio.lowlevel.checkpoint()
        return False

    async def start_trace(self) -> None:
        """Refuse."""
        await trio.lowlevel.checkpoint()
        raise CannotTraceError("no")

    async def stop_trace(self) -> bytes:
        """Refuse."""
        await trio.lowlevel.checkpoint()
        raise CannotTraceError("no")
