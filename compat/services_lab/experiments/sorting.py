"""What does it cost to have a list sorted, from ten numbers to a million?

A connection for each list, as the protocol has it. For ten numbers nearly all is overhead: accept,
a task, two reads, a write, close, and with the original a trip to another process and back. For a
million it is reading, sorting and writing JSON, and how the list gets to whoever does that.

CPU time is that of the server with all its worker processes, which is what a list costs; the rate
also depends on what can be done at the same time, and here the server has one core for everything.

The original sorts by `sorted` here. With its gnome sort, ten thousand numbers take some seconds and
a million would take hours (see the experiment gnome-square); what is asked here is what the way to
the sorting costs.
"""

from services_lab.clients import warm_up
from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Measured,
    Observation,
    Ratio,
)
from services_lab.loads import sort_closed_loop
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

SECONDS, QUICK_SECONDS = 1.5, 0.15

SIZES = {10: 16, 100: 16, 10_000: 4, 1_000_000: 1}
"""Clients at once, by numbers in a list: enough to keep the server busy."""

QUICK_SIZES = (10, 100, 10_000)


async def run(trial: Trial) -> Observation:
    """Have lists of each size sorted; the generator compares every reply with the right one."""
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    outcome = Measured.MEASURED
    figures, evidence, generators = {}, [], []
    async with trial.open_server("--log-level", "warning") as server:
        await warm_up(server.sort)
        # Each worker touches the memory of long lists for the first time.
        await sort_closed_loop(trial, server.sort, numbers=10_000, clients=8, seconds=0.0)
        for size in QUICK_SIZES if trial.quick else SIZES:
            before = await server.cpu()
            load = await sort_closed_loop(
                trial, server.sort, numbers=size, clients=SIZES[size], seconds=seconds
            )
            used = await server.cpu() - before
            if load.outcome(used) is Measured.GENERATOR_BOUND:
                outcome = Measured.GENERATOR_BOUND
            figures[f"CPU at {size}"] = used / load["requests"]
            figures[f"lists at {size}"] = load["requests"] / load.seconds
            figures[f"p99 at {size}"] = load["p99"]
            evidence.append(f"{load['requests']:.0f} lists of {size} numbers, each sorted rightly")
            generators.append(f"{size}: {load.busy:.0%} busy")
    return Observation(
        outcome=outcome,
        figures=figures,
        evidence=tuple(evidence),
        generator=f"{load.generator}, {', '.join(generators)}",
    )


EXPERIMENT = Experiment(
    name="sorting",
    family=Family.SPEED,
    question="What does it cost to have a list sorted, from ten numbers to a million?",
    why=(
        "Short lists show what a connection costs, long ones what the way to the worker and back "
        "costs. Short ones never leave the loop of trio-services and its mirrors; the original "
        "sends each to a process. All sort by a fast algorithm here: the original's gnome sort has "
        "an experiment of its own."
    ),
    subjects=servers("sort", original_options=("--sort", "builtin")),
    expected=expect(*Measured),
    run=run,
    figures=(
        *(Figure(name=f"CPU at {size}", unit="s", is_main=size == 100) for size in SIZES),
        *(Figure(name=f"lists at {size}", unit="/s", lower_is_better=False) for size in SIZES),
        *(Figure(name=f"p99 at {size}", unit="s") for size in SIZES),
    ),
    ratios=(Ratio(figure="CPU at 100", column="trio", below=0.7, of="original"),),
    rounds=3,
    picture="curve",
)
