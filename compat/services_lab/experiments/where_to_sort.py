"""Sort on the loop, in a thread, or in a process: where the costs to the loop cross.

To sort a list on the loop costs the loop the sorting. To hand it over costs a fixed sum, for waking
somebody up and being woken, and the copying. So for short lists handing over is a loss, and for
long ones a gain; where the lines cross depends on the library, the machine, and what sorts.

Two figures for each place and length. *Loop*: CPU seconds of the loop's own thread for a list,
which is what its other clients have to wait for. *Wait*: seconds until the result is there, one
list at a time. A thread looks as cheap to the loop as a process by the first; but while it runs
Python code it has the interpreter's lock, so the loop waits up to 5 ms to have it back.

What is measured are the workers of the services themselves (`workers.py` of each variant), with one
lane and their usual way to sort.
"""

import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import anyio_services.workers
import asyncio_services.workers

import trio_services.workers
from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Observation,
    Outcome,
    Verdict,
)
from services_lab.facts import Report
from services_lab.measuring import crossing, numbers_of
from services_lab.subjects import expect, programs
from trio_services.sans_io.payload import Payload
from trio_services.sans_io.sort_jobs import Algorithm
from trio_services.settings import Place

if TYPE_CHECKING:
    from services_lab.trial import Trial

QUICK_SIZES = (10, 1000, 100_000)
FULL_SIZES = (10, 100, 300, 1000, 3000, 10_000, 100_000)
QUICK_SECONDS, FULL_SECONDS = 0.02, 0.3
PLACES = (Place.INLINE, Place.THREAD, Place.PROCESS)
SERIES = tuple(f"{place} {what}" for what in ("loop", "wait") for place in PLACES)

Sort = Callable[[Payload], Awaitable[bytes | memoryview]]


class Crossing(Outcome):
    """Whether the lines cross."""

    CROSSES = Verdict.MEASURED, "short lists are cheaper on the loop, long ones in a process"
    NEVER = Verdict.BAD, "handing over never pays"
    ALWAYS = Verdict.GOOD, "handing over always pays"


async def on_asyncio(report: Report, seconds: str, *sizes: str) -> None:
    """The workers of `asyncio_services`."""
    for place in PLACES:
        async with asyncio_services.workers.open_workers(
            place=place, algorithm=Algorithm.AUTO, workers=1, job_deadline=60, max_waiting=1
        ) as workers:
            await measure(report, place, workers.sort, float(seconds), sizes)


async def on_anyio(report: Report, seconds: str, *sizes: str) -> None:
    """The workers of `anyio_services`."""
    for place in PLACES:
        async with anyio_services.workers.open_workers(
            place=place, algorithm=Algorithm.AUTO, workers=1, job_deadline=60, max_waiting=1
        ) as workers:
            await measure(report, place, workers.sort, float(seconds), sizes)


async def on_trio(report: Report, seconds: str, *sizes: str) -> None:
    """The workers of `trio_services`."""
    for place in PLACES:
        async with trio_services.workers.open_workers(
            place=place, algorithm=Algorithm.AUTO, workers=1, job_deadline=60, max_waiting=1
        ) as workers:
            await measure(report, place, workers.sort, float(seconds), sizes)


async def measure(
    report: Report, place: Place, sort: Sort, seconds: float, sizes: Sequence[str]
) -> None:
    """Report what one list costs in one place, at each size, and see that it is sorted."""
    for size in map(int, sizes):
        values = random.Random(size).choices(range(1_000_000), k=size)
        payload = json.dumps(values).encode()
        wanted = json.dumps(sorted(values), separators=(",", ":")).encode()
        await sort_once(sort, payload, wanted)  # what is loaded or touched for the first time
        lists, wait, loop = 0, 0.0, 0.0
        while wait < seconds or lists < 3:
            waited, spent = await sort_once(sort, payload, wanted)
            lists, wait, loop = lists + 1, wait + waited, loop + spent
        report(**{f"{place} wait at {size}": wait / lists, f"{place} loop at {size}": loop / lists})


async def sort_once(sort: Sort, payload: bytes, wanted: bytes) -> tuple[float, float]:
    """Return the seconds that a list took, and the CPU seconds of this thread among them."""
    with Payload(len(payload)) as list_of_a_client:
        list_of_a_client.append(payload)
        began, spent = time.perf_counter(), time.thread_time()
        result = await sort(list_of_a_client)
        spent = time.thread_time() - spent
        waited = time.perf_counter() - began
        if result != wanted:
            raise ValueError("a list came back that is not sorted")
        del result
    return waited, spent


async def run(trial: "Trial") -> Observation:
    """Find where a thread and a process begin to cost the loop less than sorting."""
    sizes = QUICK_SIZES if trial.quick else FULL_SIZES
    seconds = QUICK_SECONDS if trial.quick else FULL_SECONDS
    async with trial.open_program(str(seconds), *map(str, sizes), cores=trial.cores.all) as program:
        facts = numbers_of(await program.ended())
    loop = {place: [facts[f"{place} loop at {size}"] for size in sizes] for place in PLACES}
    figures = {f"{what} at {size}": facts[f"{what} at {size}"] for what in SERIES for size in sizes}
    for place in (Place.THREAD, Place.PROCESS):
        found = crossing(sizes, loop[Place.INLINE], loop[place])
        if found is not None:
            figures[f"a {place} pays from"] = found
    process_pays = figures.get("a process pays from")
    outcome = Crossing.CROSSES
    if process_pays is None:
        outcome = Crossing.NEVER
    elif process_pays <= sizes[0]:
        outcome = Crossing.ALWAYS
    return Observation(outcome=outcome, figures=figures)


EXPERIMENT = Experiment(
    name="where-to-sort",
    family=Family.CLAIM,
    question="From which length on is it cheaper for the loop to have a list sorted elsewhere?",
    why=(
        "To hand a list over costs the loop tens of microseconds, however short it is; to sort it "
        "costs more the longer it is. The lines cross between some hundred and a few thousand "
        "numbers. Below, a thread or a process makes everybody wait longer, which is why the "
        "services sort short lists on the loop. A thread looks as good as a process here, but it "
        "shares the interpreter's lock with the loop: see how DNS fares while lists are sorted."
    ),
    subjects=programs(asyncio=on_asyncio, anyio=on_anyio, trio=on_trio),
    expected=expect(Crossing.CROSSES),
    run=run,
    figures=(
        Figure(name="a process pays from", unit="", lower_is_better=None, is_main=True),
        Figure(name="a thread pays from", unit="", lower_is_better=None),
        *(Figure(name=f"{what} at {size}", unit="s") for what in SERIES for size in FULL_SIZES),
    ),
    picture="curve",
)
