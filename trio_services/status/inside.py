"""What can be seen of the services that run in this process, and their counters as plain values.

`app.serve` fills in an `Inside` as it starts things, and whoever watches (the status site, or the
end of a copy that answers its parent) reads it. Nobody is notified of anything: what the services
count for themselves is read when somebody asks, so that it costs them nothing.

Counters are dictionaries of numbers, since they are about to be JSON, to be added to those of other
processes, or both. `add_up` adds any number of them.
"""

import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trio_services.connections import Connections
from trio_services.dns_server import UdpStatistics
from trio_services.sans_io.dns_respond import Responder
from trio_services.sans_io.histogram import Histogram
from trio_services.sort_server import SortService
from trio_services.status.recent import Recent

Counters = dict[str, Any]
"""Names to numbers, to lists of numbers, or to further such dictionaries."""

_PAGE = resource.getpagesize()


@dataclass(slots=True)
class Inside:
    """The services of this process, as they are started; None and empty for what does not run."""

    responder: Responder | None = None
    udp: list[UdpStatistics] = field(default_factory=list)
    dns_tcp: Connections | None = None
    sort: SortService | None = None
    sort_tcp: Connections | None = None
    recent: Recent = field(default_factory=Recent)
    ready: bool = False
    draining: bool = False
    started: float = field(default_factory=time.monotonic)

    def cancel(self, task: int, why: str) -> bool:
        """Cancel the connection that is the task with this id; tell whether there was one."""
        return any(
            connections.cancel(task, why)
            for connections in (self.dns_tcp, self.sort_tcp)
            if connections is not None
        )

    def counters(self) -> Counters:
        """Return all counters as they are now."""
        counters: Counters = {"memory": memory()}
        if self.responder:
            counters["dns"] = self._dns(self.responder)
        if self.sort and self.sort_tcp:
            counters["sort"] = self._sort(self.sort, self.sort_tcp)
        return counters

    def _dns(self, responder: Responder) -> Counters:
        found = responder.statistics()
        return {
            "queries": found.queries,
            "cache_hits": found.cache_hits,
            "rcodes": {rcode.name: count for rcode, count in found.replies.items() if count},
            "truncated": found.truncated,
            "dropped": found.dropped,
            "errors": found.errors,
            "unsent": sum(each.unsent for each in self.udp),
            "tcp": asdict(self.dns_tcp.statistics()) if self.dns_tcp else {},
            "batches": add_up(
                _durations(each) for each in (Histogram(), *(udp.durations for udp in self.udp))
            ),
        }

    def _sort(self, service: SortService, connections: Connections) -> Counters:
        found, workers = service.statistics, service.workers.statistics()
        return {
            "lists": found.lists,
            "bytes": found.bytes,
            "gone": found.gone,
            "errors_by_code": {code.value: count for code, count in found.errors.items()},
            "connections": asdict(connections.statistics()),
            "workers": {
                "size": workers.lanes,
                "running": workers.running,
                "waiting": workers.waiting,
                "inline": workers.inline,
                "done": workers.done,
                "restarts": workers.replaced,
            },
            "bytes_in_flight": service.bytes_in_flight,
            "durations": _durations(found.durations),
        }


def _durations(histogram: Histogram) -> Counters:
    return {"counts": list(histogram.counts), "total": histogram.total}


def add_up(each: Iterable[Mapping[str, Any]]) -> Counters:
    """Return the sum of counters: numbers are added, also in lists and dictionaries."""
    total: Counters = {}
    for counters in each:
        for name, value in counters.items():
            total[name] = _sum(total[name], value) if name in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return add_up((one, other))
    if isinstance(one, list):
        return [mine + theirs for mine, theirs in zip(one, other, strict=True)]
    return one + other


def memory() -> int:
    """Return the resident bytes of this process; where there is no /proc, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
