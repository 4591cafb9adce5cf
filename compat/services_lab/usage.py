"""What processes use, from the operating system: CPU time, memory, open files.

A server is a family: the process that was started, its workers and theirs. CPU time is that of the
whole family, those that have ended included: the kernel adds the time of a child to its parent's
account when the parent has waited for it.
"""

import sys
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and all processes below it use.

    Attributes:
        memory: Bytes of the proportional set size where the system tells it (Linux), which counts
            a page that n processes share as an n-th for each; else of the resident set size.
        cpu: Seconds of CPU time since the start, those of workers that have ended included.
    """

    memory: int
    cpu: float


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all below it; empty if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds of one process and of its children that have ended; 0 if it has.

    The children's are counted in hundredths; its own in nanoseconds on Linux, which lets any
    process's CPU clock be read (clock_getcpuclockid(3); the number of the clock is made as there),
    so that what is measured in a third of a second is not a handful of ticks.
    """
    try:
        times = process.cpu_times()
        own = times.user + times.system
        if sys.platform == "linux":
            own = time.clock_gettime((~process.pid << 3) | 2)
    except (psutil.Error, OSError):
        return 0.0
    waited_for = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(own + waited_for)


def measure(pid: int) -> Usage | None:
    """Measure a process and all below it; None if it has ended. Takes a millisecond for each."""
    processes = family(pid)
    memory, cpu = 0, 0.0
    for process in processes:
        try:
            used = process.memory_full_info()
        except psutil.Error:
            continue  # a worker that ended just now
        memory += getattr(used, "pss", used.rss)
        cpu += cpu_of(process)
    return Usage(memory, cpu) if processes else None


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and all below it, dead and living.

    Raises:
        ProcessLookupError: It has ended: what it used cannot be told any more.
    """
    processes = family(pid)
    if not processes:
        raise ProcessLookupError(f"process {pid} has ended")
    return sum(map(cpu_of, processes))
