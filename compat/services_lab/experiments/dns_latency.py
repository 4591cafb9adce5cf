"""How long does a DNS client wait, when queries come at a steady rate?

A closed loop cannot tell: a server that stalls is asked less meanwhile, so the queries that would
have waited are never sent. Here queries come by the clock, whatever became of those before, and
each latency counts from the moment at which its query was due (no coordinated omission). The rate
is one that every variant can keep up with, so that queues are short and the tail is the server's
own: passes of its loop, garbage collection, system calls.

The machine is part of every latency, its neighbours above all; so no ratio is expected, only that
answers are right. A query without a reply has waited the longest. When the generator itself was
late by more than half of what is told, that is said.
"""

from services_lab.experiment import (
    COLUMNS,
    EXHIBITS,
    Experiment,
    Family,
    Figure,
    Observation,
)
from services_lab.loads import KNOWN_NAMES, dns_open_loop, write_names
from services_lab.measuring import Latency, latencies_seen
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

SECONDS, QUICK_SECONDS = 4.0, 0.3

RATE = 5000.0
"""Queries a second: a quarter of what the slowest variant answers on a core."""


async def run(trial: Trial) -> Observation:
    """Ask at the rate, and take the quantiles."""
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    names = write_names(trial, KNOWN_NAMES)
    async with trial.open_server("--log-level", "warning") as server:
        await dns_open_loop(trial, server.dns, names, rate=RATE, seconds=0.1)  # caches, code
        load = await dns_open_loop(trial, server.dns, names, rate=RATE, seconds=seconds)
    return latencies_seen(load)


EXPERIMENT = Experiment(
    name="dns-latency",
    family=Family.SPEED,
    question="How long does a DNS client wait, when 5,000 queries come every second?",
    why=(
        "Half of the clients see the median, and everybody who asks often sees the tail. Latency "
        "counts from when a query was due, not from when it could be sent, so a stall of the "
        "server is felt by all the queries that it kept waiting."
    ),
    subjects=servers("dns", (*COLUMNS, *EXHIBITS)),
    expected=expect(*Latency),
    run=run,
    figures=(
        Figure(name="p50", unit="s"),
        Figure(name="p99", unit="s", is_main=True),
        Figure(name="p99.9", unit="s"),
        Figure(name="lost", unit=""),
    ),
    rounds=3,
    picture="bars",
)
