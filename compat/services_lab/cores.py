"""Which cores the server and its load may use: apart where there are two, so that neither slows the
other down and CPU time per request means the same for all variants."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """Core numbers by what runs there; empty where nothing is pinned.

    Attributes:
        server: One core: what a request costs can be compared only if all have the same.
        load: Another one.
        all: Every core that this process may use.
    """

    server: tuple[int, ...] = ()
    load: tuple[int, ...] = ()
    all: tuple[int, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether server and load are kept apart."""
        return bool(self.server)


def usable_cores() -> tuple[int, ...]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cores_apart() -> Cores:
    """Return a core for the server and another for the load; nothing is pinned if there is one."""
    usable = usable_cores()
    if len(usable) < 2 or not hasattr(os, "sched_setaffinity"):
        return Cores(all=usable)
    return Cores(server=usable[:1], load=usable[1:2], all=usable)
