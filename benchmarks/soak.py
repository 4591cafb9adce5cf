"""Does the server leak? Its memory and open files before and after mixed load: `make soak`.

DNS queries for names known and new, lists of 100 and of 100,000 numbers, and clients that send
rubbish and leave, all at once, on all cores. Ten seconds of it come first, in which caches and
allocators reach their steady state. Loopback only. What it finds is printed; nothing is judged.

    python benchmarks/soak.py [SECONDS]
"""

import random
import sys
from functools import partial

import trio
from services_lab.loads import (
    KNOWN_NAMES,
    dns_open_loop,
    new_names,
    sort_closed_loop,
    write_names,
)
from services_lab.server import Server
from services_lab.side_by_side import open_folder
from services_lab.subjects import servers
from services_lab.trial import Trial

WARM_UP = 10.0
SETTLE = 1.0
DNS_RATE = 5_000.0
RUBBISH_INTERVAL = 0.01


async def mixed_load(trial: Trial, server: Server, seconds: float) -> None:
    """Load the server in every way at once."""
    names = write_names(trial, [*new_names(100_000), *KNOWN_NAMES])
    sort = partial(sort_closed_loop, trial, server.sort, seconds=seconds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(sort, numbers=100, clients=8))
        nursery.start_soon(partial(sort, numbers=100_000, clients=2))
        nursery.start_soon(
            partial(dns_open_loop, trial, server.dns, names, rate=DNS_RATE, seconds=seconds)
        )
        with trio.move_on_after(seconds):
            while True:
                await send_rubbish(server)
                await trio.sleep(RUBBISH_INTERVAL)


async def send_rubbish(server: Server) -> None:
    """Connect to the sort service, send up to 200 bytes of anything, and leave."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
        await stream.send_all(random.randbytes(random.randrange(200)))


async def soak(seconds: float) -> None:
    """Measure, load, and measure again."""
    [subject] = servers(columns=["trio"])
    async with open_folder() as home:
        trial = Trial(subject=subject, quick=False, folder=home, home=home)
        async with trial.open_server("--log-level", "error") as server:
            await mixed_load(trial, server, WARM_UP)
            await trio.sleep(SETTLE)
            before = server.resident(), server.open_files()
            await mixed_load(trial, server, seconds)
            await trio.sleep(SETTLE)
            after = server.resident(), server.open_files()
    print(
        f"{seconds:.0f} s of mixed load: memory {before[0] / 2**20:.1f} -> "
        f"{after[0] / 2**20:.1f} MiB, open files {before[1]} -> {after[1]}"
    )


if __name__ == "__main__":
    trio.run(soak, float(sys.argv[1]) if len(sys.argv) > 1 else 100.0)
