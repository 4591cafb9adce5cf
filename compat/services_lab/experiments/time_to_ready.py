"""How long does a server take from its start to its first answer?

Ready means different things. `trio_services` and its mirrors say so when everything listens and the
workers have imported what they need; the originals say so when the socket listens, and start a
worker when the first list is there, which waits for it. So what is compared is the time from
starting the process until a first client has its list sorted, and the time until the server says
that it is ready is told beside it.

Most of it is Python importing: asyncio takes less than Trio with its dependencies, and numpy, which
a worker imports before it is called ready, takes longer than either.
"""

import json
import random

import trio

from services_lab.clients import sort_once
from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Measured,
    Observation,
)
from services_lab.measuring import WorkFailedError
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

NUMBERS = 1000
"""So many that every variant hands the list to a worker."""


async def run(trial: Trial) -> Observation:
    """Start a server on all cores, and have one list sorted."""
    values = random.Random(1).choices(range(1_000_000), k=NUMBERS)
    payload = json.dumps(values).encode()
    began = trio.current_time()
    async with trial.open_server("--log-level", "warning", cores=trial.cores.all) as server:
        ready = trio.current_time() - began
        reply = await sort_once(server.sort, payload, until_list=True)
        answered = trio.current_time() - began
        used = await server.cpu()
    if reply.numbers() != sorted(values):
        raise WorkFailedError("the list is not sorted")
    return Observation(
        outcome=Measured.MEASURED,
        figures={"first list": answered, "ready": ready, "CPU": used},
        evidence=(f"a list of {NUMBERS} numbers took {reply.seconds * 1e3:.1f} ms, once ready",),
    )


EXPERIMENT = Experiment(
    name="time-to-ready",
    family=Family.SPEED,
    question="How long does a server take from its start to its first answer?",
    why=(
        "It is how long a restart is felt, and what a test that starts a server costs. A server "
        "that starts its workers before it says that it is ready looks slower, and its first "
        "client waits less: compare both figures."
    ),
    subjects=servers("sort", original_options=("--sort", "builtin")),
    expected=expect(*Measured),
    run=run,
    figures=(
        Figure(name="first list", unit="s", is_main=True),
        Figure(name="ready", unit="s"),
        Figure(name="CPU", unit="s"),
    ),
    rounds=5,
    picture="bars",
)
