"""How much memory does a client of the sort service cost that has connected and says nothing?

Each costs the server a socket, a task or two, a stream with its buffers, and whatever watches its
deadline. Measured is the resident memory of the server's process, before and after COUNT clients
have connected, divided by COUNT; what the kernel keeps for a socket is not in it, and is the same
for all.

An attacker needs only connect: what a client costs, times the most that are let in, is what a
machine must have to spare. The originals let in as many as come, and wait for them for ever.
"""

import psutil
import trio

from services_lab.clients import warm_up
from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Measured,
    Observation,
)
from services_lab.loads import idle_clients
from services_lab.server import LOOK_INTERVAL, Server
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

COUNT, QUICK_COUNT = 2000, 400

PATIENCE = 60.0
"""Seconds for a server to accept them all: it takes less than one."""


async def run(trial: Trial) -> Observation:
    """Connect, wait until the server has accepted all, and look at its memory."""
    count = QUICK_COUNT if trial.quick else COUNT
    patient = trial.folder / "patient.toml"
    patient.write_text(f"[sort]\nidle_deadline = {2 * PATIENCE}\n")
    async with trial.open_server("--workers", "1", "--config", str(patient)) as server:
        await warm_up(server.sort)
        while accepted(server):  # noqa: ASYNC110 - another process does it
            await trio.sleep(LOOK_INTERVAL)
        before = server.resident()
        async with idle_clients(trial, server.sort, count) as load:
            with trio.fail_after(PATIENCE):
                while accepted(server) < count:  # noqa: ASYNC110
                    await trio.sleep(LOOK_INTERVAL)
            grown = server.resident() - before
    return Observation(
        outcome=Measured.MEASURED,
        figures={"memory per idle client": grown / count},
        evidence=(f"{count} connected; the server's process has grown by {grown // 1024} KiB",),
        generator=load.generator,
    )


def accepted(server: Server) -> int:
    """Return how many connections the server has open; the kernel's queue is not counted."""
    found = psutil.Process(server.pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in found)


EXPERIMENT = Experiment(
    name="memory-per-idle-client",
    family=Family.SPEED,
    question="How much memory does a client cost that has connected and says nothing?",
    why=(
        "Ten thousand idle clients are nothing unusual. This is what one costs the server's own "
        "process; the kernel's part comes on top and is the same for all."
    ),
    subjects=servers("sort"),
    expected=expect(*Measured),
    run=run,
    figures=(Figure(name="memory per idle client", unit="B", is_main=True),),
    rounds=3,
    picture="bars",
)
