"""Ctrl-C in the terminal while a worker sorts: how does it end, and what does the client learn?

A terminal sends SIGINT to every process of the foreground group, workers included.

In the original, `asyncio.run` takes SIGINT and cancels the main task (since Python 3.11); that
leaves `with ProcessPoolExecutor()`, which blocks until its workers are through. And they are not
interrupted: they were forked from inside `asyncio.run` and have inherited its handler, which
cancels a task of a loop that does not run in them. So the first Ctrl-C waits for the list, ten
minutes for this one, and says nothing. The second raises KeyboardInterrupt in all of them, wherever
they are, and ends them in tracebacks; at times it takes a third.

The other servers take SIGINT as they take SIGTERM, in one place; their workers ignore it, and are
the server's to end. A job that outlives the grace period is cancelled, and its client told.
"""

import os
import signal

import psutil
import trio

from services_lab.at_work import (
    ENDLESS_LIST,
    FORKS,
    GNOME,
    LOOK_INTERVAL,
    still_there,
    wait_at_work,
    workers,
)
from services_lab.clients import open_sort
from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.server import PATIENCE, Server
from services_lab.subjects import expect, servers
from services_lab.trial import Trial
from services_lab.usage import cpu_of

COLUMNS = ("original", "asyncio", "anyio-asyncio", "anyio-trio", "trio")

GRACE = "0.2"

PRESSES, BETWEEN_PRESSES = 5, 1.0
"""How often somebody presses who sees that nothing happens, and how long they look."""

SORTS_ON = 1.0
"""Seconds of CPU time after Ctrl-C that show that a worker was not told: several grace periods."""


class End(Outcome):
    """How it ends."""

    IN_ORDER = Verdict.GOOD, "it ends in order, and the client is told"
    TRACEBACKS = Verdict.BAD, "it ends in tracebacks, and the client is told nothing"
    WAITS = Verdict.BAD, "it waits for the job, as if nobody had pressed it"


async def run(trial: Trial) -> Observation:
    """Press Ctrl-C while a worker sorts, and again if the worker goes on."""
    async with trial.open_server() as server:
        async with await open_sort(server.sort, ENDLESS_LIST) as stream:
            worker = await wait_at_work(server)
            crew = workers(server)
            os.killpg(server.pid, signal.SIGINT)
            began = trio.current_time()
            waits = await sorts_on(server, worker)
            waited = trio.current_time() - began
            presses = await press_again(server) if waits else 1
            status = await server.wait()
            reply = b""
            with trio.fail_after(PATIENCE):
                try:
                    async for data in stream:
                        reply += data
                except trio.BrokenResourceError:
                    pass
        left = await still_there(crew)
        tracebacks = sum("Traceback" in line for line in server.lines())
    if b'"error"' in reply and not (waits or tracebacks or status or left):
        outcome = End.IN_ORDER
    elif waits:
        outcome = End.WAITS
    elif tracebacks and not reply:
        outcome = End.TRACEBACKS
    else:
        raise AssertionError(f"neither: {reply!r}, status {status}, {tracebacks} tracebacks")
    ended = f"it took {presses} times Ctrl-C" if status >= 0 else "none ended it"
    return Observation(
        outcome=outcome,
        figures={"tracebacks": tracebacks},
        evidence=(
            f"{waited:.1f} s after Ctrl-C {'the worker still sorted' if waits else 'it had ended'}",
            f"the client got {reply.decode() or 'the end of its stream'}",
            f"exit status {status}; {ended}",
            f"{tracebacks} tracebacks, {len(left)} workers left",
        ),
    )


async def press_again(server: Server) -> int:
    """Press Ctrl-C until the server ends, or kill it; return how often it was pressed in all."""
    for number in range(2, PRESSES + 1):
        os.killpg(server.pid, signal.SIGINT)
        with trio.move_on_after(BETWEEN_PRESSES):
            await server.process.wait()
            return number
    os.killpg(server.pid, signal.SIGKILL)
    return PRESSES


async def sorts_on(server: Server, worker: psutil.Process) -> bool:
    """Wait until the server ends, or its worker has sorted on; tell which."""
    before = cpu_of(worker)
    with trio.fail_after(PATIENCE):
        while server.process.poll() is None:
            if cpu_of(worker) - before > SORTS_ON:
                return True
            await trio.sleep(LOOK_INTERVAL)
    return False


EXPERIMENT = Experiment(
    name="ctrl-c-while-busy",
    family=Family.BEHAVIOUR,
    question="Ctrl-C while a worker sorts: how does the server end, and what is its client told?",
    why=(
        "Everybody presses Ctrl-C at a server that they try out. The signal goes to the server "
        "and to its workers at once, so both must have a plan. In the original a pool waits for "
        "workers that have not heard of it. Where the server owns its workers, they leave it to "
        "the server."
    ),
    subjects=servers("sort", COLUMNS, options=(*GNOME, "--workers", "1", "--grace", GRACE)),
    expected=expect(End.IN_ORDER, original=End.WAITS if FORKS else End.TRACEBACKS),
    run=run,
    figures=(Figure(name="tracebacks", unit="", is_main=True),),
    differences=(18,),
)
