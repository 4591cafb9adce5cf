"""Load on a server, from a process of its own: what the generators of `load/` found.

Each function runs one generator, on a core apart from the server's where there are two, and returns
its counts. `busy` tells how much of its time the generator was computing: `Load.outcome` says by it
whether the figures are the server's or the generator's.
"""

import json
import random
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from services_lab.children import open_child
from services_lab.experiment import Measured
from services_lab.server import LOOK_INTERVAL
from services_lab.trial import Trial
from trio_services.settings import Address

PATIENCE = 60.0
"""Seconds beyond the time of the load itself, after which a generator is taken as stuck."""

SATURATED = 0.9
"""The part of a core's time from which on a process is taken to have no more."""

KNOWN_NAMES = ("alpha.example", "beta.example", "gamma.example")
"""Names that all variants and originals have an address for."""


class LoadFailedError(Exception):
    """A generator did not do its work; the text is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What every generator tells.

    Attributes:
        counts: All that it printed, by name; see the generator.
        generator: What it is.
        seconds: How long it was at it.
        busy: The part of that time in which it used a core.
    """

    counts: Mapping[str, Any]
    generator: str
    seconds: float
    busy: float

    def __getitem__(self, name: str) -> float:
        """Return one of the counts."""
        return float(self.counts[name])

    def outcome(self, server_cpu: float) -> Measured:
        """Tell whose figures these are.

        Args:
            server_cpu: CPU seconds that the server used meanwhile, on one core.
        """
        if self.busy >= SATURATED and server_cpu / self.seconds < SATURATED:
            return Measured.GENERATOR_BOUND
        return Measured.MEASURED

    def __str__(self) -> str:
        return f"{self.generator}, {self.busy:.0%} busy"


def new_names(count: int, seed: int = 1, zone: str = "example") -> list[str]:
    """Return names that no cache has seen: below `zone`, each another."""
    chance = random.Random(seed)
    return [f"{chance.getrandbits(64):x}.{zone}" for _ in range(count)]


def write_names(trial: Trial, names: Sequence[str]) -> Path:
    """Write a query file as dnsperf and our generators read it; return its path."""
    path = trial.folder / f"{trial.name_for('names')}.txt"
    path.write_text("".join(f"{name} A\n" for name in names))
    return path


async def dns_closed_loop(
    trial: Trial,
    server: Address,
    names: Path,
    *,
    seconds: float,
    clients: int = 8,
    outstanding: int = 100,
) -> Load:
    """Ask as fast as the server answers, with dnsperf if it is installed, over UDP.

    Counts: `completed`, `lost`, and `rcodes` by name.
    """
    module = "dnsperf" if shutil.which("dnsperf") else "dns_closed"
    args = ["--seconds", seconds, "--clients", clients, "--outstanding", outstanding]
    return await generate(trial, module, server, names, *args, seconds=seconds)


async def dns_open_loop(
    trial: Trial, server: Address, names: Path, *, rate: float, seconds: float
) -> Load:
    """Ask `rate` times a second over UDP, whatever becomes of it.

    Counts: `sent`, `lost`, `rcodes` by name; `p50`, `p99`, `p99.9` and `worst`, latencies in
    seconds from when each was meant to be sent; `late`, the 99th percentile of its own lateness.
    """
    args = ["--rate", rate, "--seconds", seconds]
    return await generate(trial, "dns_open", server, names, *args, seconds=seconds)


async def sort_closed_loop(
    trial: Trial, server: Address, *, numbers: int, clients: int = 16, seconds: float
) -> Load:
    """Have lists of `numbers` sorted, `clients` at once, one a connection; each reply is checked.

    Counts: `requests`; `p50` and `p99`, latencies in seconds.

    Raises:
        LoadFailedError: A reply was wrong.
    """
    args = ["--numbers", numbers, "--clients", clients, "--seconds", seconds]
    load = await generate(trial, "sort_closed", server, *args, seconds=seconds)
    if load["errors"]:
        raise LoadFailedError(f"{load['errors']:.0f} of {load['requests']:.0f} replies were wrong")
    return load


async def connections_loop(
    trial: Trial, server: Address, *, clients: int = 16, seconds: float
) -> Load:
    """Connect to the sort service and be seen off, `clients` at once.

    Counts: `served`, and `reset` by the server.
    """
    args = ["--clients", clients, "--seconds", seconds]
    return await generate(trial, "connections", server, *args, seconds=seconds)


@asynccontextmanager
async def idle_clients(trial: Trial, server: Address, count: int) -> AsyncIterator[Load]:
    """Hold `count` connections, inside. Counts: `connected`."""
    async with _generator(trial, "idle", server, "--clients", count) as (process, output):
        with trio.fail_after(PATIENCE):
            while not _has_told(output) and process.poll() is None:  # noqa: ASYNC110 - a file
                await trio.sleep(LOOK_INTERVAL)
        yield _read(process, output)


async def generate(
    trial: Trial, module: str, server: Address, *args: object, seconds: float
) -> Load:
    """Run `services_lab.load.MODULE HOST PORT ARGS`, which takes `seconds`; return its counts.

    Raises:
        LoadFailedError: It failed, or did not end.
    """
    async with _generator(trial, module, server, *args) as (process, output):
        with trio.move_on_after(seconds + PATIENCE):
            await process.wait()
        return _read(process, output)


@asynccontextmanager
async def _generator(
    trial: Trial, module: str, server: Address, *args: object
) -> AsyncIterator[tuple[trio.Process, Path]]:
    name = trial.name_for(module)
    output = trial.folder / f"{name}.stdout"
    command = [sys.executable, "-m", f"services_lab.load.{module}"]
    async with open_child(
        [*command, server.host, str(server.port), *map(str, args)],
        name=name,
        home=trial.home,
        stdout=output,
        stderr=_errors(output),
        cores=trial.cores.load,
    ) as process:
        yield process, output


def _errors(output: Path) -> Path:
    return output.with_suffix(".stderr")


def _has_told(output: Path) -> bool:
    return output.read_text().endswith("\n")


def _read(process: trio.Process, output: Path) -> Load:
    if process.poll() not in (None, 0) or not _has_told(output):
        raise LoadFailedError(f"status {process.poll()}: {_errors(output).read_text()}")
    counts = json.loads(output.read_text())
    seconds = float(counts["seconds"])
    return Load(
        counts=counts,
        generator=counts["generator"],
        seconds=seconds,
        busy=float(counts["cpu"]) / seconds,
    )
