"""The variants: every implementation of the services on every runtime, and how each is started.

A variant is one process: a package of this project on one runtime. All of them take the address to
listen on, port 0 for a free one, and write a ready file when everything listens; so whoever starts
them needs to know nothing else of them. One that cannot run here (a module is not installed, or
does not exist for this Python) says why in words, so that it is seen to be missing.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

ANY_PORT = "127.0.0.1:0"
"""Loopback, and a port that the kernel chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One implementation of the services on one runtime.

    Attributes:
        name: What it is called in tables and on the command line.
        package: What is run, as `python -m package`.
        runtime: The distributions that it runs on, the outermost first; `asyncio` is Python's.
        services: Which of `dns` and `sort` it serves.
        command: The words after the package.
        options: The words that follow, before whatever else is asked for.
    """

    name: str
    package: str
    runtime: tuple[str, ...]
    services: tuple[str, ...] = ("dns", "sort")
    command: tuple[str, ...] = ("serve",)
    options: tuple[str, ...] = ()

    @property
    def is_original(self) -> bool:
        """Whether it is one of the programs of the book: no limits, and no options."""
        return self.package == "asyncio_originals"

    def program(self) -> list[str]:
        """Return the command that serves, before any address."""
        return [sys.executable, "-m", self.package, *self.command, *self.options]

    def arguments(self, ready_file: str, *options: str) -> list[str]:
        """Return the command that serves on free ports of loopback and writes `ready_file`.

        Args:
            ready_file: The path.
            options: Further ones; `--no-dns` or `--no-sort` leaves that service out.
        """
        wanted = [each for each in self.services if f"--no-{each}" not in options]
        listen = [word for service in wanted for word in (f"--{service}", ANY_PORT)]
        if self.is_original:
            listen = ["--port", "0"]
        return [*self.program(), *listen, "--ready-file", ready_file, *options]

    def missing(self) -> str | None:
        """Return why it cannot run here, in words, or None if it can."""
        absent = [name for name in self.runtime if name != "asyncio" and find_spec(name) is None]
        return f"{' and '.join(absent)} not installed" if absent else None

    def runtime_version(self) -> str:
        """Return its runtime with its version, for people: `uvloop 0.23.0`."""
        return " on ".join(map(_with_version, self.runtime))


def _with_version(distribution: str) -> str:
    if distribution == "asyncio":
        return f"asyncio {sys.version_info.major}.{sys.version_info.minor}"
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution


def _originals() -> Iterable[Variant]:
    for loop in ("asyncio", "uvloop"):
        for service in ("dns", "sort"):
            yield Variant(
                name=f"original-{service}" + ("-uvloop" if loop == "uvloop" else ""),
                package="asyncio_originals",
                runtime=(loop,),
                services=(service,),
                command=(service,),
                options=("--uvloop",) if loop == "uvloop" else (),
            )


def _services() -> Iterable[Variant]:
    yield Variant(name="trio", package="trio_services", runtime=("trio",), options=("--no-status",))
    for loop in ("asyncio", "uvloop"):
        yield Variant(
            name=loop, package="asyncio_services", runtime=(loop,), options=("--loop", loop)
        )
    for backend in ("trio", "asyncio", "uvloop"):
        yield Variant(
            name=f"anyio-{backend}",
            package="anyio_services",
            runtime=("anyio", backend),
            options=("--backend", backend),
        )


VARIANTS: Mapping[str, Variant] = {
    variant.name: variant for variant in (*_services(), *_originals())
}
"""Every variant by its name, in the order in which they are shown."""

EXHIBIT_VARIANTS: Mapping[str, Variant] = {
    name: Variant(
        name=name,
        package="services_lab.exhibits",
        runtime=(runtime,),
        services=("dns",),
        command=(name, "serve"),
    )
    for name, runtime in (
        ("plain-trio", "trio"),
        ("drained-asyncio", "asyncio"),
        ("asyncio-4k", "asyncio"),
    )
}
"""Servers that isolate one idea to be measured; they answer rightly, but are no services."""
