"""The ready file of the lab: which variant listens where, once all of them do."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trio_services.listeners import Sockets
from trio_services.settings import Address, SettingsError

Listening = Mapping[str, Address]
"""The address of each service, by `dns` and `sort`."""


def first_addresses(sockets: Sockets) -> Listening:
    """Return the first address of each service that `sockets` are for."""
    return {service: Address(*found[0]) for service, found in sockets.addresses().items()}


def as_json(listening: Listening) -> dict[str, object]:
    """Return addresses as the ready file has them: `{"dns": [HOST, PORT]}`."""
    return {service: [address.host, address.port] for service, address in listening.items()}


@contextmanager
def announced(path: str | None, variants: Mapping[str, object]) -> Iterator[None]:
    """Write `{"pid": …, "variants": {NAME: …}}` to `path`, whole or not at all, while inside.

    Raises:
        SettingsError: The file cannot be written.
    """
    if path is None:
        yield
        return
    unfinished = Path(f"{path}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps({"pid": os.getpid(), "variants": variants}) + "\n")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise SettingsError(f"cannot write the ready file {path}: {error.strerror}") from None
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)
