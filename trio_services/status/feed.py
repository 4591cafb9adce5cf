"""The state of the services as one value, made twice a second for everybody who watches.

While somebody listens, each tick makes one state and its JSON, which all listeners send. Who is
slow misses some, since nothing but the latest is kept. Ticks take no more than a part of the
processor, BUSY_SHARE, however large the tree is; then they come less often. A copy that does not
answer is waited for, which takes none.

Rates and percentiles are of the last seconds. So counters are sampled at each tick, also while
nobody listens. All of the status service (this, the loop's lag, the watchdog) takes 4 ms of CPU a
second then, and 6 while a page is open.
"""

import os
import platform
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import trio

from trio_services import __version__
from trio_services.sans_io.histogram import percentile
from trio_services.status.inside import Counters, add_up
from trio_services.status.recent import KEPT
from trio_services.status.source import Report, Source, View

TICK = 0.5
"""Seconds between two states."""

BUSY_SHARE = 0.05
"""The part of a processor that ticks may take."""

RATE_SECONDS = 2.0
"""Over which rates are taken: short enough to see a burst."""

WINDOW_SECONDS = 10.0
"""Over which percentiles are taken: long enough to have something to count."""

HEARTBEAT = 15.0
"""Seconds after which a comment is sent if there was nothing else, so that proxies see life."""

RETRY_MILLISECONDS = 1000
"""After which a browser that lost its stream tries again."""

MAX_STATE_BYTES = 4 * 1024 * 1024
"""A state with a longer tree is sent without it: nobody reads 10,000 different tasks."""


class TooManyStreamsError(Exception):
    """There are as many listeners as there may be."""


class Feed:
    """States of the services.

    Args:
        source: Who knows them.
        streams: How many may listen at the same time.
        control: Whether the page may change anything, for the page.
        used: Tells the seconds that the loop was on a processor.
    """

    def __init__(
        self,
        source: Source,
        *,
        streams: int,
        control: bool,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        self._source = source
        self._used = used
        self._streams = streams
        self._listening = 0
        self._latest = b""
        self._news = trio.Event()
        self._samples: deque[tuple[float, Counters]] = deque()
        self._began = trio.current_time()
        self._facts = {
            "version": __version__,
            "python": platform.python_version(),
            "control": control,
        }

    async def keep(self) -> None:
        """Tick for ever."""
        while True:
            began, used = trio.current_time(), self._used()
            view = await self._source.view(tree=self._listening > 0)
            self._sample(view.reports)
            if self._listening:
                self._latest = encoded(self._state(view))
                self._news.set()
                self._news = trio.Event()
            used = self._used() - used
            await trio.sleep_until(began + max(TICK, used / BUSY_SHARE))

    async def state(self) -> bytes:
        """Return the state of this moment as JSON."""
        return encoded(self._state(await self._source.view(tree=True)))

    @contextmanager
    def listening(self) -> Iterator[Callable[[], Awaitable[bytes]]]:
        """Have states made; yields a function that waits for the next, a server-sent event.

        Raises:
            TooManyStreamsError: There are enough who listen.
        """
        if self._listening >= self._streams:
            raise TooManyStreamsError
        self._listening += 1
        try:
            yield self._next_event
        finally:
            self._listening -= 1

    async def _next_event(self) -> bytes:
        news = self._news
        with trio.move_on_after(HEARTBEAT):
            await news.wait()
        return event(self._latest) if news.is_set() else b": still here\n\n"

    def _sample(self, reports: Iterable[Report]) -> None:
        now = trio.current_time()
        total = add_up(report["counters"] for report in reports if "counters" in report)
        self._samples.append((now, total))
        while now - self._samples[0][0] > WINDOW_SECONDS + TICK:
            self._samples.popleft()

    def _state(self, view: View) -> dict[str, Any]:
        alive = [report for report in view.reports if "missing" not in report]
        total = add_up(report["counters"] for report in alive)
        recent = [each | {"pid": report["pid"]} for report in alive for each in report["recent"]]
        recent += view.recent
        recent.sort(key=lambda each: each["at"], reverse=True)
        return {
            **self._facts,
            "pid": os.getpid(),
            "uptime": trio.current_time() - self._began,
            "draining": any(report["draining"] for report in alive),
            "copies": [_copy(report) for report in view.reports],
            "memory": total.get("memory", 0),
            "loop_lag": {
                part: max((report["lag"][part] for report in alive), default=0.0)
                for part in ("now", "p99")
            },
            "dns": self._dns(total["dns"]) if "dns" in total else None,
            "sort": self._sort(total["sort"]) if "sort" in total else None,
            "recent": recent[:KEPT],
            "tree": view.tree,
            "tracing": self._source.tracing,
        }

    def _dns(self, dns: Counters) -> dict[str, Any]:
        return {
            **{name: value for name, value in dns.items() if name != "batches"},
            "per_second": self._rate("dns", "queries"),
            "latency": self._latency("dns", "batches", dns["batches"]),
        }

    def _sort(self, sort: Counters) -> dict[str, Any]:
        return {
            **{name: value for name, value in sort.items() if name != "durations"},
            "per_second": self._rate("sort", "lists"),
            "latency": self._latency("sort", "durations", sort["durations"]),
        }

    def _rate(self, service: str, count: str) -> float:
        if len(self._samples) < 2:
            return 0.0
        now, last = self._samples[-1]
        long_ago = (each for each in reversed(self._samples) if now - each[0] >= RATE_SECONDS)
        then, before = next(long_ago, self._samples[0])
        more = last.get(service, {}).get(count, 0) - before.get(service, {}).get(count, 0)
        return max(float(more), 0.0) / (now - then)  # fewer: a copy was started anew

    def _latency(self, service: str, which: str, durations: Counters) -> dict[str, float] | None:
        counts = durations["counts"]
        if self._samples and service in self._samples[0][1]:
            before = self._samples[0][1][service][which]["counts"]
            counts = [max(now - then, 0) for now, then in zip(counts, before, strict=True)]
        p50, p99 = percentile(counts, 0.5), percentile(counts, 0.99)
        return None if p50 is None or p99 is None else {"p50": p50, "p99": p99}


def _copy(report: Report) -> dict[str, Any]:
    if "missing" in report:
        return report
    return {
        "pid": report["pid"],
        "uptime": report["uptime"],
        "draining": report["draining"],
        "memory": report["counters"]["memory"],
        "loop_lag": report["lag"],
    }


def encoded(state: dict[str, Any]) -> bytes:
    """Return `state` as JSON in one line; without its tree if that is too much."""
    data = orjson.dumps(state)
    if len(data) > MAX_STATE_BYTES:
        data = orjson.dumps({**state, "tree": None})
    return data


def event(state: bytes) -> bytes:
    """Return a state as a server-sent event."""
    return b"event: state\ndata: " + state + b"\n\n"
