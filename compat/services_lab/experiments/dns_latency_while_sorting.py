"""How long does a DNS client wait while others have long lists sorted?

The server with all its processes has one core, the clients another. Two clients have lists of
100,000 numbers sorted without pause, so the core is never idle, and whoever is to answer a query
has to be given the core first, and then to get around to it. Three things decide:

- where the list is sorted: on the loop, nobody is answered meanwhile; in a thread, the lock of the
  interpreter is in the way; in a process, only the kernel's scheduler;
- what of it is left to the loop: reading and writing JSON, pickling, copying;
- what the scheduler thinks of the worker: `trio_services` and its mirrors tell it that sorting is
  less urgent (`nice`).

The originals are two programs, so lists of the one are never in the way of the other but for the
core. Theirs are sorted by `sorted`: their gnome sort would need minutes for one list.

`trio-inline` and `trio-threads` are the Trio services told to sort there, for comparison.
"""

from dataclasses import replace

import trio

from services_lab.clients import warm_up
from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Observation,
    Subject,
)
from services_lab.loads import KNOWN_NAMES, Load, dns_open_loop, sort_closed_loop, write_names
from services_lab.measuring import Latency, any_of, latencies_seen
from services_lab.subjects import servers
from services_lab.trial import Trial
from services_lab.variants import VARIANTS
from trio_services.settings import Address

SECONDS, QUICK_SECONDS = 4.0, 0.4

RATE = 1000.0
"""Queries a second: a few percent of a core, so what is measured is waiting."""

NUMBERS, CLIENTS = 100_000, 2

SORT_HEAD_START = 0.2
"""Seconds for which lists are sorted before the first query and after the last."""


async def run(trial: Trial) -> Observation:
    """Open the server, or for an original the two, and ask."""
    variant = trial.subject.variant
    assert variant
    async with trial.open_server("--log-level", "warning") as server:
        if not variant.is_original:
            return await ask_while_sorting(trial, server.dns, server.sort)
        sort_name = variant.name.replace("dns", "sort")
        sorting = replace(trial.subject, variant=VARIANTS[sort_name], options=("--sort", "builtin"))
        async with replace(trial, subject=sorting).open_server() as other:
            return await ask_while_sorting(trial, server.dns, other.sort)


async def ask_while_sorting(trial: Trial, dns: Address, sort: Address) -> Observation:
    """Measure DNS latencies at `dns` while lists are sorted at `sort`."""
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    names = write_names(trial, KNOWN_NAMES)
    await warm_up(sort)
    lists: list[Load] = []

    async def keep_sorting() -> None:
        load = await sort_closed_loop(
            trial, sort, numbers=NUMBERS, clients=CLIENTS, seconds=seconds + 2 * SORT_HEAD_START
        )
        lists.append(load)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_sorting)
        await trio.sleep(SORT_HEAD_START)
        load = await dns_open_loop(trial, dns, names, rate=RATE, seconds=seconds)
    [sorted_lists] = lists
    seen = latencies_seen(load)
    return replace(
        seen,
        figures={**seen.figures, "lists": sorted_lists["requests"] / sorted_lists.seconds},
        evidence=(*seen.evidence, f"{sorted_lists['requests']:.0f} lists were sorted meanwhile"),
        generator=f"{load}; lists: {sorted_lists}",
    )


SUBJECTS = (
    *(each for each in servers("dns") if each.column.startswith("original")),
    *servers(),
    *(
        Subject(
            column=f"trio-{column}",
            variant=VARIANTS["trio"],
            options=("--sort-in", place),
            source=("trio_services/workers.py",),
        )
        for column, place in (("inline", "inline"), ("threads", "thread"))
    ),
)

EXPERIMENT = Experiment(
    name="dns-latency-while-sorting",
    family=Family.SPEED,
    question="How long does a DNS client wait while others have long lists sorted?",
    why=(
        "It is what worker processes are for: the core is busy without pause, and queries are "
        "answered all the same. Compare trio-inline, where the loop itself sorts, and "
        "trio-threads, where a thread holds the interpreter's lock. How many lists were sorted "
        "meanwhile is told as well: who sorts less leaves more to the others."
    ),
    subjects=SUBJECTS,
    expected=any_of(Latency, SUBJECTS),
    run=run,
    figures=(
        Figure(name="p50", unit="s"),
        Figure(name="p99", unit="s", is_main=True),
        Figure(name="p99.9", unit="s"),
        Figure(name="lost", unit=""),
        Figure(name="lists", unit="/s", lower_is_better=False),
    ),
    rounds=3,
    picture="bars",
)
