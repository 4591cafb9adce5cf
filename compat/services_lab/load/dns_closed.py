"""Closed-loop DNS load over UDP: some queries are under way, and each reply makes the next.

    python -m services_lab.load.dns_closed HOST PORT FILE --seconds S --clients N --outstanding N

Says what a server can do at most. Not for latencies: a server that stalls is asked less meanwhile.
For machines without dnsperf, which has several times the pace.
"""

import argparse
import itertools
import json
import select
import socket
import time
from collections import Counter
from pathlib import Path

from services_lab.load.dns_packets import rcode_of, read_queries

LOST_AFTER = 1.0
"""Seconds without any reply to a client, after which what it waits for is lost."""

BUFFER = 1 << 22


class Client:
    """A connected socket with queries under way, by their id."""

    def __init__(self, address: tuple[str, int], queries: "itertools.cycle[bytes]") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.queries = queries
        self.under_way: dict[int, bytes] = {}
        self.ids = itertools.cycle(range(65536))
        self.heard = time.perf_counter()

    def ask(self) -> None:
        """Send one more query."""
        ident, query = next(self.ids), next(self.queries)
        self.under_way[ident] = query
        try:
            self.sock.send(ident.to_bytes(2, "big") + query)
        except BlockingIOError:
            pass  # as good as lost on the way

    def replies(self) -> list[str]:
        """Return the response codes of the replies that are there."""
        found = []
        try:
            while True:
                reply = self.sock.recv(4096)
                query = self.under_way.pop(int.from_bytes(reply[:2], "big"), None)
                if query is not None:  # else it was taken as lost before
                    found.append(rcode_of(reply, query))
        except BlockingIOError:
            return found


def run(
    address: tuple[str, int], queries: list[bytes], seconds: float, clients: int, outstanding: int
) -> dict[str, object]:
    """Keep `outstanding` queries under way for `seconds`; return the counts."""
    rcodes: Counter[str] = Counter()
    lost = 0
    source = itertools.cycle(queries)
    poller = select.poll()
    by_number = {}
    for _ in range(clients):
        client = Client(address, source)
        by_number[client.sock.fileno()] = client
        poller.register(client.sock, select.POLLIN)
    began, cpu = time.perf_counter(), time.process_time()
    end = began + seconds
    for client in by_number.values():
        for _ in range(max(1, outstanding // clients)):
            client.ask()
    while (now := time.perf_counter()) < end:
        for number, _ in poller.poll(LOST_AFTER * 1000 / 4):
            client = by_number[number]
            client.heard = now
            for rcode in client.replies():
                rcodes[rcode] += 1
                client.ask()
        for client in by_number.values():
            if now - client.heard > LOST_AFTER:
                gone = len(client.under_way)
                lost += gone
                client.under_way.clear()
                client.heard = now
                for _ in range(gone):
                    client.ask()
    elapsed = time.perf_counter() - began
    return {
        "generator": "the lab's own loop",
        "completed": rcodes.total(),
        "lost": lost,
        "rcodes": dict(rcodes),
        "seconds": elapsed,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--outstanding", type=int, default=100)
    options = parser.parse_args()
    found = run(
        (options.host, options.port),
        read_queries(options.file),
        options.seconds,
        options.clients,
        options.outstanding,
    )
    print(json.dumps(found))
