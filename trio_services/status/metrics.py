"""The counters of all processes in the text format of Prometheus, made when they are scraped.

Nothing is counted twice: a collector turns what the services count for themselves into metrics
while it is read. With `--processes` each series has the label `copy`, the number of the process,
since a counter must not fall when one copy is started anew, as their sum would; `sum()` is
Prometheus's business. Names follow its conventions: base units, `_total` for what only grows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from trio_services import __version__
from trio_services.sans_io.histogram import BOUNDS
from trio_services.status.source import Report

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS = {
    "dns_queries": ("dns queries", "DNS packets that came in."),
    "dns_cache_hits": ("dns cache_hits", "DNS replies that were in the cache."),
    "dns_truncated": ("dns truncated", "DNS replies with TC set, to be asked for over TCP."),
    "dns_dropped": ("dns dropped", "DNS packets that got no reply."),
    "dns_errors": ("dns errors", "DNS queries that found a bug of the server."),
    "dns_unsent": ("dns unsent", "DNS replies that the kernel did not take."),
    "sort_lists": ("sort lists", "Lists that were sorted."),
    "sort_reply_bytes": ("sort bytes", "Bytes of sorted lists."),
    "sort_clients_gone": ("sort gone", "Clients that left before their reply."),
    "sort_inline": ("sort workers inline", "Lists that the loop sorted itself."),
    "sort_worker_restarts": ("sort workers restarts", "Workers that were started anew."),
}
_GAUGES = {
    "sort_workers": ("sort workers size", "Workers, idle or busy."),
    "sort_jobs_running": ("sort workers running", "Lists that are being sorted by workers."),
    "sort_jobs_waiting": ("sort workers waiting", "Lists that wait for a worker."),
    "sort_in_flight_bytes": ("sort bytes_in_flight", "Bytes received and not yet replied to."),
    "resident_memory_bytes": ("memory", "Resident memory of the process."),
}
_BY_LABEL = {
    "dns_replies": ("dns rcodes", "rcode", "DNS replies by response code."),
    "sort_errors": ("sort errors_by_code", "code", "Error replies by code."),
}
_CONNECTIONS = {"dns": "dns tcp", "sort": "sort connections"}
_HISTOGRAMS = {
    "dns_batch_seconds": (
        "dns batches",
        "From the first query of a batch being read to its last reply being sent; a sample.",
    ),
    "sort_request_seconds": (
        "sort durations",
        "From the first byte of a list to the last byte of the sorted list.",
    ),
}
"""Metrics: where their values are in the counters of a report, and what they mean."""


def exposition(reports: Sequence[Report]) -> bytes:
    """Return the metrics of all processes."""
    registry = CollectorRegistry()
    registry.register(_Reports(reports))
    return generate_latest(registry)


class _Reports(Collector):
    def __init__(self, reports: Sequence[Report]) -> None:
        labelled = len(reports) > 1
        self._names = ["copy"] if labelled else []
        self._all = [
            ([str(number)] if labelled else [], report) for number, report in enumerate(reports, 1)
        ]
        self._alive = [(labels, report) for labels, report in self._all if "missing" not in report]

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each metric; one that no process has is left out."""
        info = GaugeMetricFamily("trio_services_info", "The version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield self._gauge("up", "Whether the process answers.", lambda report: True, self._all)
        yield self._gauge("uptime_seconds", "Since its start.", lambda report: report["uptime"])
        yield self._gauge("draining", "Whether it accepts no more.", lambda each: each["draining"])
        lag = "How late the event loop woke a sleeping task, the last time."
        yield self._gauge("loop_lag_seconds", lag, lambda report: report["lag"]["now"])
        for name, (path, help_) in _COUNTERS.items():
            counter = CounterMetricFamily(f"trio_services_{name}", help_, labels=self._names)
            for labels, value in self._values(path):
                counter.add_metric(labels, value)
            yield counter
        for name, (path, help_) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"trio_services_{name}", help_, labels=self._names)
            for labels, value in self._values(path):
                gauge.add_metric(labels, value)
            yield gauge
        yield from self._by_label()
        yield from self._connections()
        yield from self._histograms()

    def _gauge(self, name: str, help_: str, value: Any, reports: Any = None) -> Metric:
        gauge = GaugeMetricFamily(f"trio_services_{name}", help_, labels=self._names)
        for labels, report in self._alive if reports is None else reports:
            missing = "missing" in report
            gauge.add_metric(labels, 0.0 if missing else float(value(report)))
        return gauge

    def _values(self, path: str) -> Iterator[tuple[list[str], Any]]:
        """Yield the labels of each process and what its counters have at `path`."""
        for labels, report in self._alive:
            found = report["counters"]
            for name in path.split():
                found = found.get(name) if found is not None else None
            if found is not None:
                yield labels, found

    def _by_label(self) -> Iterator[Metric]:
        for name, (path, label, help_) in _BY_LABEL.items():
            family = CounterMetricFamily(
                f"trio_services_{name}", help_, labels=[*self._names, label]
            )
            for labels, counts in self._values(path):
                for which, count in counts.items():
                    family.add_metric([*labels, which], count)
            yield family

    def _connections(self) -> Iterator[Metric]:
        names = [*self._names, "service"]
        now = GaugeMetricFamily(
            "trio_services_connections", "TCP connections now.", labels=[*names, "state"]
        )
        ever = CounterMetricFamily(
            "trio_services_connections_ended",
            "TCP connections that were refused, lost, or ended by a bug.",
            labels=[*names, "how"],
        )
        accepted = CounterMetricFamily(
            "trio_services_connections_accepted", "TCP connections accepted.", labels=names
        )
        for service, path in _CONNECTIONS.items():
            for process, found in self._values(path):
                labels = [*process, service]
                now.add_metric([*labels, "idle"], found["idle"])
                now.add_metric([*labels, "busy"], found["open"] - found["idle"])
                for how in ("refused", "lost", "crashed"):
                    ever.add_metric([*labels, how], found[how])
                accepted.add_metric(labels, found["accepted"])
        yield from (now, ever, accepted)

    def _histograms(self) -> Iterator[Metric]:
        bounds = [*map(repr, BOUNDS), "+Inf"]
        for name, (path, help_) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"trio_services_{name}", help_, labels=self._names)
            for labels, found in self._values(path):
                total, buckets = 0, []
                for bound, count in zip(bounds, found["counts"], strict=True):
                    total += count
                    buckets.append((bound, total))
                family.add_metric(labels, buckets, found["total"])
            yield family
