"""A job in another process has a deadline: when that has passed, is the job over?

`asyncio.wait_for` and `asyncio.timeout` end the waiting. The job is in a process of a
`ProcessPoolExecutor`, whose futures cannot be cancelled once they run: it burns its core to the
end, and the pool waits for it when it is closed. A handful of such jobs and the pool is full of
work that nobody wants. (Python 3.14 has `kill_workers`, which ends every job of the pool.)

With AnyIO's `to_process.run_sync(…, cancellable=True)`, the worker is killed, and another takes its
place. In Trio, `trio.run_process` kills the process that its task waits for. asyncio's
`create_subprocess_exec` leaves it running; with a `finally` that kills it, asyncio does as well
(column `asyncio`, and the asyncio services of this project: see `orphaned-job`).
"""

import asyncio
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import anyio
import anyio.to_process
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.subjects import expect, programs
from services_lab.trial import Trial
from services_lab.usage import cpu_of, family

DEADLINE = 0.3
JOB = 1.0
"""Seconds of CPU time that the job takes: more than it can have had when the deadline passes."""

COMMAND = (sys.executable, "-m", __name__)
"""The job as a program, for those that start one; its folder is an argument."""

FINISHED = "job-finished"
"""A file that is the last thing which the job does."""


class Fate(Outcome):
    """What becomes of the job."""

    ENDED = Verdict.GOOD, "the job ends with its deadline"
    RUNS_ON = Verdict.BAD, "the job burns its core to the end"


def job(folder: str) -> None:
    """Use the CPU for JOB seconds, and say that it is done."""
    end = time.process_time() + JOB
    while time.process_time() < end:
        pass
    (Path(folder) / FINISHED).touch()


async def original(report: Report) -> None:
    """asyncio with a pool, and `wait_for`."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as pool:
        try:
            await asyncio.wait_for(loop.run_in_executor(pool, job, os.getcwd()), DEADLINE)
        except TimeoutError:
            passed(report)


async def with_asyncio(report: Report) -> None:
    """asyncio with a process of its own, and a `finally` that ends it."""
    try:
        async with asyncio.timeout(DEADLINE):
            process = await asyncio.create_subprocess_exec(*COMMAND, os.getcwd())
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    except TimeoutError:
        passed(report)


async def with_asyncio_pool(report: Report) -> None:
    """asyncio with a pool, and `timeout`."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as pool:
        try:
            async with asyncio.timeout(DEADLINE):
                await loop.run_in_executor(pool, job, os.getcwd())
        except TimeoutError:
            passed(report)


async def with_anyio(report: Report) -> None:
    """AnyIO with its worker processes."""
    run = partial(anyio.to_process.run_sync, cancellable=True)
    with anyio.move_on_after(DEADLINE) as deadline:
        await run(job, os.getcwd())
    if deadline.cancelled_caught:
        passed(report)


async def with_trio(report: Report) -> None:
    """Trio with a process of its own."""
    with trio.move_on_after(DEADLINE) as deadline:
        await trio.run_process([*COMMAND, os.getcwd()])
    if deadline.cancelled_caught:
        passed(report)


def passed(report: Report) -> None:
    """Say that the deadline has passed, and what the job has used by then."""
    report.mark("the deadline has passed")
    report(by_then=sum(cpu_of(child) for child in family(os.getpid())[1:]))


async def run(trial: Trial) -> Observation:
    """Run the program to its end, and see whether the job came to its own."""
    async with trial.open_program() as program:
        ran = await program.ended()
        finished = (program.folder / FINISHED).exists()
    if ran.exit_status or "the deadline has passed" not in ran.marks:
        raise AssertionError("\n".join(ran.stderr))
    burnt = max(0.0, JOB - float(str(ran.facts["by_then"]))) if finished else 0.0
    return Observation(
        outcome=Fate.RUNS_ON if finished else Fate.ENDED,
        figures={"CPU burnt": burnt},
        evidence=(
            f"the job {'came to its end' if finished else 'never came to its end'}",
            f"{burnt:.2f} s of CPU burnt after the deadline",
            f"the program ended {ran.seconds:.1f} s after its start; the deadline was {DEADLINE} s",
        ),
    )


EXPERIMENT = Experiment(
    name="job-past-deadline",
    family=Family.BEHAVIOUR,
    question="A job in another process outlives its deadline: is its core free again?",
    why=(
        "A deadline is there to get something back. With asyncio's process pool the caller gets "
        "its time back, and the machine nothing: the job runs to its end, and the program cannot "
        "end before (original, asyncio-pool). Where the process belongs to the task that waits for "
        "it, cancelling the task kills the process: AnyIO's workers and Trio's processes do that; "
        "in asyncio it is a finally of your own around a process of your own (column asyncio)."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={"asyncio-pool": (with_asyncio_pool, "asyncio")},
    ),
    expected=expect(Fate.ENDED, original=Fate.RUNS_ON, asyncio_pool=Fate.RUNS_ON),
    run=run,
    figures=(Figure(name="CPU burnt", unit="s", is_main=True),),
    differences=(12,),
    picture="bars",
)

if __name__ == "__main__":
    job(sys.argv[1])
