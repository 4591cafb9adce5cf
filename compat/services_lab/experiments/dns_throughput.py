"""How many DNS queries can a server answer in a second, and what does each cost?

The rate is what one core gives, and depends on the machine and its neighbours; the CPU time per
query, as the kernel counts it for the server with all its processes, much less. A closed loop keeps
100 queries under way, so a server never waits for work.

Names that are asked again and again can come from a cache. Names that nobody has asked before must
be parsed and looked up. They are outside of every zone, and all servers have the same answer for
them, the default address: so they do the same work to be compared.
"""

from collections.abc import Sequence

from services_lab.experiment import (
    COLUMNS,
    EXHIBITS,
    Experiment,
    Family,
    Figure,
    Measured,
    Observation,
    Ratio,
)
from services_lab.loads import KNOWN_NAMES, Load, dns_closed_loop, new_names, write_names
from services_lab.measuring import check_answers
from services_lab.server import Server
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

SECONDS, QUICK_SECONDS = 2.5, 0.3
NEW_NAMES_PER_SECOND = 200_000
"""More than any variant answers on one core, so that none is asked twice."""


async def measure(trial: Trial, server: Server, names: Sequence[str]) -> tuple[Load, float]:
    """Load the server with `names`; return the counts, and CPU seconds that the server used.

    Raises:
        WorkFailedError: Answers were wrong.
    """
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    path = write_names(trial, names)
    before = await server.cpu()
    load = await dns_closed_loop(trial, server.dns, path, seconds=seconds)
    used = await server.cpu() - before
    check_answers(load)
    return load, used


async def run(trial: Trial) -> Observation:
    """Ask for names that are known, and then for names that nobody has asked before."""
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    async with trial.open_server("--log-level", "warning") as server:
        known, known_cpu = await measure(trial, server, KNOWN_NAMES)
        names = new_names(int(seconds * NEW_NAMES_PER_SECOND), zone="test")
        new, new_cpu = await measure(trial, server, names)
    return Observation(
        outcome=known.outcome(known_cpu),
        figures={
            "CPU per query": known_cpu / known["completed"],
            "queries": known["completed"] / known.seconds,
            "CPU per new name": new_cpu / new["completed"],
            "new names": new["completed"] / new.seconds,
            "lost": known["lost"] + new["lost"],
        },
        evidence=(
            f"known names: {known['completed']:.0f} answered, {known['lost']:.0f} lost",
            f"new names: {new['completed']:.0f} answered, {new['lost']:.0f} lost",
        ),
        generator=str(known),
    )


EXPERIMENT = Experiment(
    name="dns-throughput",
    family=Family.SPEED,
    question="How many DNS queries does one core answer in a second, and what does each cost?",
    why=(
        "CPU time per query is the figure to compare: it holds on a noisy machine. plain-trio and "
        "drained-asyncio tell what the technique brings (taking all datagrams that are there) and "
        "what the library brings. asyncio-4k is asyncio with smaller receive buffers: most of "
        "what a datagram costs asyncio is the allocator's work for a buffer of 256 KiB."
    ),
    subjects=servers("dns", (*COLUMNS, *EXHIBITS)),
    expected=expect(*Measured),
    run=run,
    figures=(
        Figure(name="CPU per query", unit="s", is_main=True),
        Figure(name="queries", unit="/s", lower_is_better=False),
        Figure(name="CPU per new name", unit="s"),
        Figure(name="new names", unit="/s", lower_is_better=False),
        Figure(name="lost", unit=""),
    ),
    ratios=tuple(
        Ratio(figure="CPU per query", column=column, below=0.8, of=other)
        for column, other in (("trio", "original"), ("trio", "plain-trio"))
    ),
    rounds=3,
    picture="bars",
)
