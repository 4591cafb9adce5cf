"""What several variants share that live in one process: settings, and saying where each listens."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import typer

from services_lab.ready import Listening, announced, as_json
from services_lab.variants import ANY_PORT
from trio_services.settings import Address, DnsSettings, ServeSettings, SortSettings

ServeOriginal = Callable[[str, int, Callable[[str, int], None]], Awaitable[None]]
"""An original: `await serve(host, port, ready)` calls `ready` with where it listens."""

_ANY = (Address.parse(ANY_PORT),)
SETTINGS = ServeSettings(dns=DnsSettings(addresses=_ANY), sort=SortSettings(addresses=_ANY))
"""Free ports of loopback, and the defaults in all else."""


@contextmanager
def told(variants: Mapping[str, Listening], ready_file: str | None) -> Iterator[None]:
    """Say where each variant listens, on standard output and in the ready file.

    Raises:
        SettingsError: The file cannot be written.
    """
    for name, listening in variants.items():
        where = ", ".join(f"{service} on {address}" for service, address in listening.items())
        typer.echo(f"{name:<14} {where}")
    with announced(ready_file, {name: as_json(where) for name, where in variants.items()}):
        yield
