"""How many clients a second can connect and be seen off?

Each connects to the sort service, ends its side without a word, and sees the server do the same:
nothing is sorted, so what is left is the kernel's part, accepting, a task, one read and the end.
Trio's own streams accept one connection in each pass of the loop, asyncio up to its backlog; a
server that goes on accepting until the kernel has no more pays for fewer passes.

The originals are left out: a client that leaves without a word ends in an exception there, which
asyncio logs with its traceback, so what would be measured is the logging of tracebacks.
"""

from services_lab.experiment import (
    COLUMNS,
    Experiment,
    Family,
    Figure,
    Measured,
    Observation,
)
from services_lab.loads import connections_loop
from services_lab.measuring import WorkFailedError
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

SECONDS, QUICK_SECONDS = 2.0, 0.2


async def run(trial: Trial) -> Observation:
    """Connect again and again, 16 at once."""
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    async with trial.open_server("--log-level", "warning", "--workers", "1") as server:
        before = await server.cpu()
        load = await connections_loop(trial, server.sort, seconds=seconds)
        used = await server.cpu() - before
    if load["reset"] > 0.01 * load["served"]:
        raise WorkFailedError(f"{load['reset']:.0f} connections of {load['served']:.0f} were reset")
    return Observation(
        outcome=load.outcome(used),
        figures={
            "connections": load["served"] / load.seconds,
            "CPU per connection": used / load["served"],
        },
        evidence=(f"{load['served']:.0f} were served, {load['reset']:.0f} reset",),
        generator=str(load),
    )


EXPERIMENT = Experiment(
    name="connections-per-second",
    family=Family.SPEED,
    question="How many clients a second can connect and be seen off?",
    why=(
        "A server of short requests spends most of its time on connections, not on requests. "
        "Nothing is sorted here: a client connects, leaves without a word, and waits until the "
        "server has closed its side. The originals are left out: they log a traceback for each."
    ),
    subjects=servers("sort", (each for each in COLUMNS if not each.startswith("original"))),
    expected=expect(*Measured),
    run=run,
    figures=(
        Figure(name="CPU per connection", unit="s", is_main=True),
        Figure(name="connections", unit="/s", lower_is_better=False),
    ),
    rounds=3,
    picture="bars",
)
