"""What happens around the nursery: before it, loading and binding; within, saying that it is ready.

Nothing here imports Trio, so that every variant of the services shares it.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path

from trio_services.listeners import BindError, Sockets, bind_copies, raise_open_file_limit
from trio_services.logs import configure_logging
from trio_services.sans_io.dns_compile import ZoneError
from trio_services.sans_io.dns_tree import Zones
from trio_services.sans_io.dns_zone import load_builtin_zones, load_zones
from trio_services.settings import Address, DnsSettings, ServeSettings, SettingsError

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread keeps the interpreter while another wants it. A system call of the
loop may cost as much; with Python's 5 ms, the p99 of DNS queries during a reload was twice as
long."""

logger = logging.getLogger("trio_services")


@contextmanager
def prepared(settings: ServeSettings) -> Iterator[tuple[list[Sockets], Zones | None]]:
    """Do what comes before any loop runs: set up logging and limits, load zones, bind sockets.

    Yields:
        A set of sockets for each process, closed on leaving, and the zones, None without DNS.

    Raises:
        SettingsError: A zone has a mistake, or an address cannot be listened on.
    """
    configure_logging(settings.log_level)
    raise_open_file_limit()
    with ExitStack() as closing:
        try:
            zones = zones_for(settings.dns) if settings.dns else None
            socket_sets = [closing.enter_context(each) for each in bind_copies(settings)]
        except (ZoneError, BindError) as error:
            raise SettingsError(str(error)) from None
        yield socket_sets, zones


def zones_for(dns: DnsSettings) -> Zones:
    """Load what `dns` answers from; blocks for as long as its files take to read.

    Raises:
        ZoneError: A file cannot be read or has a mistake.
    """
    if not dns.zones and not dns.hosts:
        defaults = dns.default_addresses
        return load_builtin_zones((IPv4Address("127.0.0.1"),) if defaults is None else defaults)
    return load_zones(
        [(zone.path, zone.origin) for zone in dns.zones], dns.hosts, dns.default_addresses or ()
    )


@contextmanager
def switching_quickly() -> Iterator[None]:
    """Let the loop have the interpreter back soon from a thread that loads zones beside it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def announced(path: str | None, sockets: Sockets) -> Iterator[None]:
    """Tell that everything listens: in a file at `path` if one is wanted, and then in the log.

    The file appears whole or not at all, and is removed when nothing is accepted any more, unless
    another server has written it since.

    Raises:
        SettingsError: The file cannot be written.
    """
    addresses = sockets.addresses()
    if path is not None:
        content = json.dumps({"pid": os.getpid(), **addresses}) + "\n"
        _write_whole(path, content)
    try:
        for service, listening in addresses.items():
            for host, port in listening:
                logger.info("%s on %s", service, Address(host, port))
        yield
    finally:
        if path is not None:
            with suppress(OSError):  # it was removed before us
                if Path(path).read_text(encoding="utf-8") == content:
                    Path(path).unlink()


def _write_whole(path: str, content: str) -> None:
    """Write a file that appears whole or not at all; raises SettingsError if it cannot."""
    unfinished = Path(f"{path}.{os.getpid()}")
    if Path(path).exists() and not Path(path).is_file():  # to replace /dev/null would be a surprise
        raise SettingsError(
            f"cannot write the ready file {path}: not a file but a directory, pipe or device"
        )
    try:
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise SettingsError(f"cannot write the ready file {path}: {error.strerror}") from None
