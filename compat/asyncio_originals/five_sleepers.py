"""Five sleepers: a parent creates tasks, sleeps while they run, and waits for them.

Nobody owns a task here. That the parent waits is up to whoever writes the parent.
"""

# ruff: noqa: T201 - the program prints, as the original does

import asyncio
from collections.abc import Sequence

PARENT_NAP = 2.0


async def sleep_and_tell(number: int, delay: float) -> None:
    """Sleep for `delay` seconds, and say so before and after."""
    print(f"Sleeper {number} sleeps for {delay:.2f} s")
    await asyncio.sleep(delay)
    print(f"Sleeper {number} awakens")


async def run_sleepers(delays: Sequence[float]) -> None:
    """Run one sleeper for each of `delays` (seconds)."""
    print(f"Parent creates {len(delays)} tasks")
    # Flaw: while the parent sleeps nobody is told of a sleeper that fails (2).
    tasks = [
        asyncio.create_task(sleep_and_tell(number, delay)) for number, delay in enumerate(delays, 1)
    ]
    print(f"Parent sleeps for {PARENT_NAP:.2f} s while they run")
    # Flaw: a parent that is cancelled, or fails, leaves its tasks running.
    await asyncio.sleep(PARENT_NAP)
    print("Parent awakens and waits for its tasks")
    # Flaw: `wait` raises nothing that a task raised, and "Done" is said all the same (2).
    await asyncio.wait(tasks)
    print("Done")
