"""The kernel kills one worker, as it does when memory is short: whose list is lost?

A `ProcessPoolExecutor` counts a worker that dies as the end of the pool: every job that it has is
failed with BrokenProcessPool, the other workers are ended, and each later job fails as well. The
server listens, accepts, and sorts nothing, until somebody restarts it.

The other servers have no pool. A worker belongs to the request that it sorts for; that request
fails, is told so, and the next one has a new process.
"""

import os
import signal
from contextlib import AsyncExitStack

import trio

from services_lab.at_work import ENDLESS_LIST, GNOME, is_alive, wait_at_work, workers
from services_lab.clients import open_sort, sort_once
from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.server import PATIENCE
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

COLUMNS = ("original", "asyncio", "anyio-asyncio", "anyio-trio", "trio")
"""The loop below makes no difference to what a pool does."""


class Fate(Outcome):
    """Who is hit."""

    ONE_FAILS = Verdict.GOOD, "only its own list fails, and its client is told"
    SILENT = Verdict.FAIR, "only its own list fails, without a word"
    ALL_FAIL = Verdict.BAD, "every list fails from then on"


async def run(trial: Trial) -> Observation:
    """Kill a worker that sorts while another sorts as well; then send more lists."""
    async with trial.open_server() as server, AsyncExitStack() as streams:
        await sort_once(server.sort, b"[2,1]", until_list=True)
        victims_client = await streams.enter_async_context(
            await open_sort(server.sort, ENDLESS_LIST)
        )
        victim = await wait_at_work(server)
        await streams.enter_async_context(await open_sort(server.sort, ENDLESS_LIST))
        # A pool has as many processes as there are cores: with one there is no bystander.
        has_bystander = len(workers(server)) > 1 or not trial.subject.column.startswith("original")
        bystander = await wait_at_work(server, besides=[victim.pid]) if has_bystander else None
        os.kill(victim.pid, signal.SIGKILL)
        word = b""
        with trio.fail_after(PATIENCE):
            async for data in victims_client:
                word += data
        later = await sort_once(server.sort, b"[3,1,2]")
        bystander_lives = bystander is None or is_alive(bystander)
        broken = [line for line in server.lines() if "BrokenProcessPool" in line]
    sorted_later = later.data.replace(b" ", b"") == b"[1,2,3]"
    if not sorted_later:
        outcome = Fate.ALL_FAIL
    elif not bystander_lives:
        raise AssertionError("the bystander's worker was ended, and a later list is sorted")
    else:
        outcome = Fate.ONE_FAILS if b'"error"' in word else Fate.SILENT
    return Observation(
        outcome=outcome,
        evidence=(
            f"its client got {word.decode() or 'the end of the stream'}",
            f"the other worker {'sorts on' if bystander_lives else 'was ended'}",
            f"a later client got {later.data.decode() or 'the end of the stream'}",
            *broken[-1:],
        ),
    )


EXPERIMENT = Experiment(
    name="killed-worker",
    family=Family.BEHAVIOUR,
    question="One worker process is killed: whose lists are lost?",
    why=(
        "When memory is short, the kernel picks the largest process and kills it. With a process "
        "pool the whole service is gone while it looks alive: it accepts, and every request "
        "fails. Where a worker belongs to the request that it works for, one request fails."
    ),
    subjects=servers("sort", COLUMNS, options=(*GNOME, "--workers", "2", "--grace", "0")),
    expected=expect(Fate.ONE_FAILS, original=Fate.ALL_FAIL),
    run=run,
    differences=(13,),
)
