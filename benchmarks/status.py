"""What does the status page cost a DNS query and a sort request?

The server without a page, with one that nobody looks at, and with one that a browser has open, in
turns, over several rounds. CPU time is the kernel's, of all processes of the server. What the page
costs does not depend on the load: the more there is, the less of it falls on each request. Loopback
only. What it finds is printed; nothing is judged.

    python benchmarks/status.py [ROUNDS]
"""

import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio
from services_lab.loads import KNOWN_NAMES, dns_closed_loop, sort_closed_loop, write_names
from services_lab.server import Server
from services_lab.side_by_side import open_folder
from services_lab.statistics import spread
from services_lab.subjects import servers
from services_lab.trial import Trial

SECONDS = 4.0
ROUNDS = 5
PAGE = ("--status", "127.0.0.1:0")
CASES = {"no page": ("--no-status",), "nobody looks": PAGE, "a page open": PAGE}


@asynccontextmanager
async def looked_at(server: Server) -> AsyncIterator[None]:
    """Have the page of `server` open."""
    [line] = await server.said("status on ")
    host, _, port = line.rpartition(" ")[2].rpartition(":")
    async with (
        await trio.open_tcp_stream(host, int(port)) as stream,
        trio.open_nursery() as nursery,
    ):

        async def read() -> None:
            async for _ in stream:
                pass

        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        nursery.start_soon(read)
        yield
        nursery.cancel_scope.cancel()


async def measure(trial: Trial, server: Server) -> dict[str, float]:
    """Return CPU seconds per DNS query and per sort request."""
    names = write_names(trial, KNOWN_NAMES)
    before = await server.cpu()
    queries = await dns_closed_loop(trial, server.dns, names, seconds=SECONDS)
    between = await server.cpu()
    lists = await sort_closed_loop(trial, server.sort, seconds=SECONDS, numbers=100, clients=16)
    after = await server.cpu()
    return {
        "DNS query": (between - before) / queries["completed"],
        "list of 100": (after - between) / lists["requests"],
    }


async def main(rounds: int) -> None:
    """Measure each case in turn, and print medians and ranges."""
    [subject] = servers(columns=["trio"])
    assert subject.variant
    subject = replace(subject, variant=replace(subject.variant, options=()))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with open_folder() as home:
        trial = Trial(subject=subject, quick=False, folder=home, home=home)
        for _ in range(rounds):
            for case, options in CASES.items():
                async with trial.open_server(*options) as server:
                    if case == "a page open":
                        async with looked_at(server):
                            figures = await measure(trial, server)
                    else:
                        figures = await measure(trial, server)
                for figure, value in figures.items():
                    found[figure][case].append(value * 1e6)
    for figure, cases in found.items():
        print(f"CPU per {figure}:")
        for case, values in cases.items():
            seen = spread(values)
            assert seen
            print(f"  {case:<14} {seen.median:.2f} µs ({seen.low:.2f} to {seen.high:.2f})")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
