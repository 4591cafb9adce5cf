"""Many cores: one loop with a pool of workers, or a loop in each of several processes?

A loop is one thread and uses one core, whatever the machine has. A pool takes from it what can be
handed over, which long lists can; accepting, reading and answering stay. Several processes on the
same ports (SO_REUSEPORT, the kernel deals connections and datagrams out) multiply the loop itself,
for the price of its memory, and of nothing being shared: each has its own cache and limits.

`trio` is one loop with a worker for each core, `trio-processes` is `--processes` with as many loops
and one worker each; `trio-services` brings a supervisor for it. The other variants have none, and
are left out: several copies of them, started by a service manager, would do the same.

Here server and load share all cores, since nothing else is left to give to the load; so a server
can gain only what the load leaves, and on a machine with two cores that is less than double. The
lists of 10,000 are sorted by workers either way.
"""

from dataclasses import replace

import trio

from services_lab.clients import warm_up
from services_lab.cores import Cores
from services_lab.experiment import Experiment, Family, Figure, Measured, Observation, Subject
from services_lab.loads import KNOWN_NAMES, dns_closed_loop, sort_closed_loop, write_names
from services_lab.measuring import WorkFailedError, any_of, check_answers
from services_lab.trial import Trial
from services_lab.usage import measure
from services_lab.variants import VARIANTS

SECONDS, QUICK_SECONDS = 2.0, 0.2

CLIENTS = 64
"""Sockets, which the kernel deals out by their addresses: so many that each process gets some."""

SHORT, LONG = 10, 10_000


async def run(trial: Trial) -> Observation:
    """Load the server with queries, with short lists, and with long ones."""
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    cores = max(2, len(trial.cores.all))
    trial = replace(trial, cores=Cores(all=trial.cores.all))
    copies = ["--workers", str(cores)]
    if trial.subject.column == "trio-processes":
        copies = ["--workers", "1", "--processes", str(cores)]
    async with trial.open_server("--log-level", "warning", *copies) as server:
        await warm_up(server.sort, clients=CLIENTS)
        names = write_names(trial, KNOWN_NAMES)
        before = await server.cpu()
        queries = await dns_closed_loop(trial, server.dns, names, seconds=seconds, clients=CLIENTS)
        used = await server.cpu() - before
        check_answers(queries)
        short, long = [
            await sort_closed_loop(
                trial, server.sort, numbers=numbers, clients=CLIENTS, seconds=seconds
            )
            for numbers in (SHORT, LONG)
        ]
        usage = await trio.to_thread.run_sync(measure, server.pid)
        if not usage:
            raise WorkFailedError("the server has ended")
    return Observation(
        outcome=queries.outcome(used / cores),
        figures={
            "queries": queries["completed"] / queries.seconds,
            "CPU per query": used / queries["completed"],
            "short lists": short["requests"] / short.seconds,
            "long lists": long["requests"] / long.seconds,
            "memory": usage.memory,
        },
        evidence=(
            f"{cores} cores, shared with the load",
            f"options of the server: {' '.join(copies)}",
        ),
        generator=f"queries: {queries}; lists: {short}",
    )


SUBJECTS = tuple(
    Subject(column=column, variant=VARIANTS["trio"], source=(f"trio_services/{file}",))
    for column, file in (("trio", "workers.py"), ("trio-processes", "supervisor.py"))
)

EXPERIMENT = Experiment(
    name="pool-or-processes",
    family=Family.SPEED,
    question="Is one loop with a pool of workers better, or a loop in each of several processes?",
    why=(
        "For long lists it hardly matters: workers sort them either way. Queries and short lists "
        "are the loop's own work, and only more loops can do more of it. The price is memory and "
        "whatever could have been shared. Server and load share the cores here, so the gain is "
        "what the load leaves."
    ),
    subjects=SUBJECTS,
    expected=any_of(Measured, SUBJECTS),
    run=run,
    figures=(
        Figure(name="queries", unit="/s", lower_is_better=False, is_main=True),
        Figure(name="CPU per query", unit="s"),
        Figure(name="short lists", unit="/s", lower_is_better=False),
        Figure(name="long lists", unit="/s", lower_is_better=False),
        Figure(name="memory", unit="B"),
    ),
    rounds=3,
    picture="bars",
)
