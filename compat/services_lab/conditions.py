"""The conditions of a run: what a figure depends on that is not in the code."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from services_lab.cores import cores_apart, usable_cores

DISTRIBUTIONS = ("trio", "anyio", "uvloop", "numpy", "orjson", "pysimdjson", "dnspython")
"""Those that the figures depend on; the runtimes, and what sorts and answers."""

CONTAINER_SIGNS = ("/.dockerenv", "/run/.containerenv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Where, when and with what a run was made.

    Attributes:
        processor: The model's name.
        cores: How many this process may use.
        memory: Bytes of the machine.
        system: The kernel's name and release.
        container: What hints at one, "" if nothing does.
        python: Version and implementation.
        versions: Of the distributions that matter, by name; those that are installed.
        pinned: Whether server and load were kept on cores of their own, for speed and claims.
        load_average: Of the last minute, when the run began: what else the machine was doing.
        quick: Whether rough figures were asked for.
        rounds: How often each was observed; None for each experiment's own number.
        command: What repeats the run.
        began: When, in ISO 8601 with the offset from UTC.
    """

    processor: str
    cores: int
    memory: int
    system: str
    container: str
    python: str
    versions: Mapping[str, str]
    pinned: bool
    load_average: float
    quick: bool
    rounds: int | None
    command: str
    began: str


def look_around(*, quick: bool, rounds: int | None, arguments: list[str]) -> Conditions:
    """Return the conditions of a run that begins now; `arguments` are those of `services-lab`."""
    return Conditions(
        processor=processor(),
        cores=len(usable_cores()),
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        container=container(),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        versions=dict(installed()),
        pinned=cores_apart().pinned,
        load_average=os.getloadavg()[0],
        quick=quick,
        rounds=rounds,
        command=shlex.join(["services-lab", *arguments]),
        began=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def processor() -> str:
    """Return the model of the processor, as far as the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def container() -> str:
    """Return what hints at a container, in words; "" if nothing does."""
    found = next((sign for sign in CONTAINER_SIGNS if Path(sign).exists()), "")
    # In lower case: systemd.io/CONTAINER_INTERFACE
    return f"{found} exists" if found else os.environ.get("container", "")  # noqa: SIM112


def installed() -> list[tuple[str, str]]:
    """Return names and versions of the DISTRIBUTIONS that are installed."""
    found = [("python", sys.version.split()[0])]
    for name in ("trio-services", *DISTRIBUTIONS):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
