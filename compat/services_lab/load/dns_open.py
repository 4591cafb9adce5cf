"""Open-loop DNS load over UDP: a query at every tick of a clock, whatever became of those before.

    python -m services_lab.load.dns_open HOST PORT FILE --seconds S --rate N

Latency is measured from when a query was *meant* to be sent. So a server that stalls for a second
is seen to have kept all queries of that second waiting, and a generator that is late makes figures
worse, never better (coordinated omission: G. Tene, "How NOT to Measure Latency"). How late it was
itself is told.
"""

import argparse
import json
import math
import select
import socket
import time
from collections import Counter
from pathlib import Path

from services_lab.load.dns_packets import rcode_of, read_queries

CLIENTS = 8
"""Sockets, used in turns, so that replies come to several ports as with real clients."""

LAST_REPLIES = 1.0
"""Seconds that are waited for replies after the last query; what comes later is lost."""

BUFFER = 1 << 22


def run(
    address: tuple[str, int], queries: list[bytes], seconds: float, rate: float
) -> dict[str, object]:
    """Ask `rate` times a second for `seconds`; return counts and the quantiles of latency."""
    socks = {}
    for _ in range(CLIENTS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.connect(address)
        sock.setblocking(False)
        socks[sock.fileno()] = sock
    turns = list(socks.values())
    count = int(seconds * rate)
    meant: dict[tuple[int, int], tuple[float, bytes]] = {}
    latencies: list[float] = []
    lateness: list[float] = []
    rcodes: Counter[str] = Counter()

    def receive(timeout: float) -> None:
        # Not poll, nor epoll: they wait for whole milliseconds, five times what is between two
        # queries.
        for number in select.select(socks, (), (), timeout)[0]:
            try:
                while True:
                    reply = socks[number].recv(4096)
                    now = time.perf_counter()
                    asked = meant.pop((number, int.from_bytes(reply[:2], "big")), None)
                    if asked:
                        latencies.append(now - asked[0])
                        rcodes[rcode_of(reply, asked[1])] += 1
            except BlockingIOError:
                continue

    began, cpu = time.perf_counter(), time.process_time()
    for at in range(count):
        due = began + at / rate
        receive(0)  # also when late, or replies would wait for us
        while (now := time.perf_counter()) < due:
            receive(due - now)
        sock, ident, query = turns[at % CLIENTS], at // CLIENTS % 65536, queries[at % len(queries)]
        meant[sock.fileno(), ident] = due, query
        try:
            sock.send(ident.to_bytes(2, "big") + query)
        except BlockingIOError:
            pass  # it stays without a reply, and counts as lost
        lateness.append(time.perf_counter() - due)
    elapsed, used = time.perf_counter() - began, time.process_time() - cpu
    patience = time.perf_counter() + LAST_REPLIES
    while meant and (now := time.perf_counter()) < patience:
        receive(patience - now)
    latencies.sort()
    lateness.sort()
    return {
        "generator": "the lab's own clock",
        "sent": count,
        "lost": len(meant),
        "rcodes": dict(rcodes),
        "p50": quantile(latencies, 0.5, of=count),
        "p99": quantile(latencies, 0.99, of=count),
        "p99.9": quantile(latencies, 0.999, of=count),
        "worst": max(latencies, default=None),
        "late": quantile(lateness, 0.99, of=count),
        "seconds": elapsed,
        "cpu": used,
    }


def quantile(ordered: list[float], part: float, *, of: int) -> float | None:
    """Return what `part` of all values do not exceed; None if that is not among those known.

    Args:
        ordered: The values that are known, the least first.
        part: From 0 to 1.
        of: How many there are. Those that are not known are greater than all: a query without a
            reply is not left out, it has waited the longest.
    """
    at = max(0, math.ceil(of * part) - 1)
    return ordered[at] if at < len(ordered) else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
    options = parser.parse_args()
    address = options.host, options.port
    print(json.dumps(run(address, read_queries(options.file), options.seconds, options.rate)))
