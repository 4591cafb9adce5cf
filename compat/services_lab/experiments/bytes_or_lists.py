"""What is handed to a process: a list, or the bytes that it was read from?

A process shares no objects. A list that is handed over is pickled element by element, written to a
pipe, read and unpickled; so is the list that comes back. A server that reads JSON, hands over the
list and writes JSON of the result has converted every number four times itself, and its worker two
times more. If the bytes are handed over as they came, the server copies them, and the worker does
all that there is to convert: to read JSON once and to write it once.

The worker does more then, so one client hardly waits less: what is converted is nearly the same.
What differs is where. The server's own process, in which everybody waits for everything, is left
with copying.

Both ways use the standard library's `json` and `sorted`, one worker, and one list at a time.
"""

import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import anyio.to_process

from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Observation,
    Outcome,
    Verdict,
)
from services_lab.facts import Report
from services_lab.measuring import numbers_of
from services_lab.subjects import expect, programs

if TYPE_CHECKING:
    from services_lab.trial import Trial

QUICK_SIZES, FULL_SIZES = (100, 10_000), (100, 1000, 10_000, 100_000)
QUICK_SECONDS, FULL_SECONDS = 0.1, 0.5
SERIES = ("loop with lists", "loop with bytes", "wait with lists", "wait with bytes")

Hand = Callable[[Callable[[Any], Any], Any], Awaitable[Any]]
"""Calls a function with an argument in a process."""


class Cheaper(Outcome):
    """Which is cheaper for the server's own process, with the longest list."""

    BYTES = Verdict.MEASURED, "bytes are cheaper"
    LISTS = Verdict.MEASURED, "lists are cheaper"


def sort_list(values: list[int]) -> list[int]:
    """Sort, in the worker."""
    return sorted(values)


def sort_bytes(payload: bytes) -> bytes:
    """Read, sort and write, in the worker."""
    return json.dumps(sorted(json.loads(payload))).encode()


async def on_asyncio(report: Report, seconds: str, *sizes: str) -> None:
    """A `ProcessPoolExecutor`."""
    import asyncio

    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:

        async def hand(function: Callable[[Any], Any], argument: Any) -> Any:
            return await loop.run_in_executor(pool, function, argument)

        await measure(report, hand, float(seconds), sizes)


async def on_anyio(report: Report, seconds: str, *sizes: str) -> None:
    """`anyio.to_process`."""

    async def hand(function: Callable[[Any], Any], argument: Any) -> Any:
        return await anyio.to_process.run_sync(function, argument)

    await measure(report, hand, float(seconds), sizes)


async def measure(report: Report, hand: Hand, seconds: float, sizes: Sequence[str]) -> None:
    """Report what one list costs this process and how long it takes, both ways, at each size."""

    async def with_lists(payload: bytes) -> bytes:
        return json.dumps(await hand(sort_list, json.loads(payload))).encode()

    async def with_bytes(payload: bytes) -> bytes:
        reply: bytes = await hand(sort_bytes, payload)
        return reply

    for size in map(int, sizes):
        values = random.Random(size).choices(range(1_000_000), k=size)
        payload, wanted = json.dumps(values).encode(), json.dumps(sorted(values)).encode()
        for name, sort in (("lists", with_lists), ("bytes", with_bytes)):
            lists, wait, loop = 0, 0.0, 0.0
            await sort(payload)  # what is started or loaded for the first time
            while wait < seconds or lists < 3:
                began, spent = time.perf_counter(), time.process_time()
                reply = await sort(payload)
                loop += time.process_time() - spent
                wait += time.perf_counter() - began
                lists += 1
                if reply != wanted:
                    raise ValueError("a list came back that is not sorted")
            report(**{f"loop with {name} at {size}": loop / lists})
            report(**{f"wait with {name} at {size}": wait / lists})


async def run(trial: "Trial") -> Observation:
    """See which way costs the server's own process less, with the longest list."""
    sizes = QUICK_SIZES if trial.quick else FULL_SIZES
    seconds = QUICK_SECONDS if trial.quick else FULL_SECONDS
    async with trial.open_program(str(seconds), *map(str, sizes), cores=trial.cores.all) as program:
        facts = numbers_of(await program.ended())
    figures = {f"{what} at {size}": facts[f"{what} at {size}"] for what in SERIES for size in sizes}
    ratio = facts[f"loop with bytes at {sizes[-1]}"] / facts[f"loop with lists at {sizes[-1]}"]
    return Observation(
        outcome=Cheaper.BYTES if ratio < 1 else Cheaper.LISTS,
        figures={"bytes to lists, CPU of the loop": ratio, **figures},
    )


EXPERIMENT = Experiment(
    name="bytes-or-lists",
    family=Family.CLAIM,
    question="Is it cheaper to hand bytes to a process than lists?",
    why=(
        "The original reads JSON on its loop, pickles the list to a worker, unpickles the result "
        "and writes JSON, all while its other clients wait. Handed over as bytes, a list is read "
        "and written where it is sorted: one client alone waits about as long, all others wait "
        "less. Trio has no process pool of its own; AnyIO's works on it. The first figure is the "
        "ratio with the longest list."
    ),
    subjects=programs(asyncio=on_asyncio, anyio=on_anyio),
    expected=expect(Cheaper.BYTES),
    run=run,
    figures=(
        Figure(name="bytes to lists, CPU of the loop", unit="", is_main=True),
        *(Figure(name=f"{what} at {size}", unit="s") for what in SERIES for size in FULL_SIZES),
    ),
    picture="curve",
)
