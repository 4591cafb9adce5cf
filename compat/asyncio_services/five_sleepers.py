"""Five sleepers: the smallest program that shows what a task group is.

A parent creates tasks, sleeps while they run, wakes up and waits for them. In the asyncio original
the parent must remember to wait; here leaving the task group *is* the waiting, so "Done" comes last
whatever anybody forgets. `draw_timeline` shows afterwards who slept when.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PARENT_NAP = 2.0
"""Seconds for which the parent sleeps while its tasks run, as in the original."""

TIMELINE_WIDTH = 50
"""Columns of the timeline; with the names it fits a terminal of 80."""


@dataclass(frozen=True, slots=True)
class Nap:
    """Who slept when, in seconds since the parent began."""

    sleeper: str
    began: float
    ended: float


async def sleep_and_tell(
    number: int, delay: float, say: Callable[[str], None], naps: list[Nap], origin: float
) -> None:
    """Sleep for `delay` seconds, say so before and after, and add the nap to `naps`."""
    loop = asyncio.get_running_loop()
    name = f"Sleeper {number}"
    began = loop.time() - origin
    say(f"{name} sleeps for {delay:.2f} s")
    await asyncio.sleep(delay)
    say(f"{name} awakens")
    naps.append(Nap(name, began, loop.time() - origin))


async def run_sleepers(delays: Sequence[float], say: Callable[[str], None]) -> list[Nap]:
    """Run one sleeper for each of `delays` (seconds), and return all naps, the parent's first.

    Args:
        delays: How long each sleeps.
        say: Called with each line that somebody says.
    """
    naps: list[Nap] = []
    loop = asyncio.get_running_loop()
    origin = loop.time()
    async with asyncio.TaskGroup() as nursery:
        say(f"Parent creates {len(delays)} tasks")
        for number, delay in enumerate(delays, 1):
            nursery.create_task(sleep_and_tell(number, delay, say, naps, origin))
        say(f"Parent sleeps for {PARENT_NAP:.2f} s while they run")
        await asyncio.sleep(PARENT_NAP)
        parent = Nap("Parent", 0.0, loop.time() - origin)
        say("Parent awakens and waits for its tasks")
    say("Done")
    return [parent, *sorted(naps, key=lambda nap: (len(nap.sleeper), nap.sleeper))]


def draw_timeline(naps: Sequence[Nap]) -> str:
    """Return a text picture of `naps`: a line each, a bar from its beginning to its end."""
    total = max((nap.ended for nap in naps), default=0.0) or 1.0
    names = max((len(nap.sleeper) for nap in naps), default=0)
    lines = []
    for nap in naps:
        begin = min(round(nap.began / total * TIMELINE_WIDTH), TIMELINE_WIDTH - 1)
        length = max(1, round(nap.ended / total * TIMELINE_WIDTH) - begin)
        bar = " " * begin + "█" * length
        lines.append(f"{nap.sleeper:<{names}} │{bar:<{TIMELINE_WIDTH}}│ {nap.ended:5.2f} s")
    scale = f"0 s{total:>{TIMELINE_WIDTH - 5}.2f} s"
    return "\n".join([*lines, f"{'':<{names}}  {scale}"])
