"""What can be set: addresses, limits and deadlines, each default with its reason.

Settings are frozen values that are made once, before anything runs: from the defaults here, a
TOML file (`--config`) and the command line, in that order. A key in the file is the name of a
field below, in the table `[dns]`, `[sort]` or `[status]` or at the top. All durations are seconds,
all sizes bytes. Nothing here imports Trio, so that every variant of the services shares it.
"""

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Self, TypeVar

from trio_services.sans_io.sort_jobs import Algorithm

T = TypeVar("T")
IPAddress = IPv4Address | IPv6Address
KIB = 1024
MIB = 1024 * KIB


class SettingsError(Exception):
    """A setting that cannot be used; the text is one line that names it."""


class Place(StrEnum):
    """Where a list is sorted."""

    AUTO = "auto"
    INLINE = "inline"
    THREAD = "thread"
    PROCESS = "process"


class LogLevel(StrEnum):
    """How much is logged, by the names of the standard library."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a service listens or is reached. `str()` gives `HOST:PORT` or `[HOST]:PORT`."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`; an IPv6 host stands in brackets: `[::1]:4343`.

        Raises:
            SettingsError: It is not of that form, or the port is not 0 to 65535.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or (":" in host) != bracketed:
            raise SettingsError(f"{text!r} is not HOST:PORT or [IPV6]:PORT")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
            raise SettingsError(f"{text!r}: the port must be a number from 0 to 65535")
        return cls(host[1:-1] if bracketed else host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ZoneFile:
    """A zone file and, if given, the origin that its relative names start from."""

    path: str
    origin: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `FILE` or `FILE=ORIGIN`. A file whose own name has a `=` needs the second form.

        Raises:
            SettingsError: The file or the origin is empty.
        """
        path, equals, origin = text.rpartition("=")
        zone = cls(path, origin) if equals else cls(text)
        if not zone.path or zone.origin == "":
            raise SettingsError(f"{text!r} is not FILE or FILE=ORIGIN")
        return zone


def parse_default_addresses(texts: list[str]) -> tuple[IPAddress, ...]:
    """Read `--default-address`: IP addresses, or `none` alone.

    Raises:
        SettingsError: Something is not an IP address, `none` stands beside one, or there are two
            of one family.
    """
    if texts == ["none"]:
        return ()
    try:
        addresses = tuple(ip_address(text) for text in texts if text != "none")
    except ValueError as error:
        raise SettingsError(f"default address: {error}") from None
    if "none" in texts or len({address.version for address in addresses}) < len(addresses):
        raise SettingsError("default address: give none, or one for IPv4 and one for IPv6 at most")
    return addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many TCP connections a service keeps, in total and for each IPv4 address or IPv6 /64."""

    total: int
    per_address: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """The DNS server. See RFC 7766 and RFC 9210 for the TCP limits."""

    addresses: tuple[Address, ...] = (Address("127.0.0.1", 4343),)
    zones: tuple[ZoneFile, ...] = ()
    """None, and no hosts either: the built-in zone `example.`."""
    hosts: tuple[str, ...] = ()
    default_addresses: tuple[IPAddress, ...] | None = None
    """The answer for every name that no zone holds, as in the original. None: 127.0.0.1 with the
    built-in zone, nothing with zone or hosts files: a real server must not invent names."""

    tcp_idle: float = 10.0
    """Between messages. RFC 7766 6.2.3 asks for the order of seconds; Knot's default too."""
    tcp_message_deadline: float = 5.0
    """From the first byte of a message to its last: trickling one byte at a time gains nothing."""
    tcp_write_deadline: float = 10.0
    """For a client that asks and does not read."""
    tcp_connections: int = 1000
    """About 10 MiB of tasks and buffers at the worst; NSD's default is 100."""
    tcp_connections_per_address: int = 200
    """One resolver behind one address pipelines; it does not need more connections than this."""

    def __post_init__(self) -> None:
        _require_positive(self, exempt=())


@dataclass(frozen=True, slots=True, kw_only=True)
class SortSettings:
    """The sort server."""

    addresses: tuple[Address, ...] = (Address("127.0.0.1", 2015),)
    algorithm: Algorithm = Algorithm.AUTO
    sort_in: Place = Place.AUTO
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    max_payload: int = 64 * MIB
    """About five million integers. The vector path needs six times the payload while it works;
    the worst that bytes can be made to cost (empty lists in a list) is 32 times, 2 GiB a worker."""
    idle_deadline: float = 10.0
    """From accepting a connection to its first byte. A client connects because it has a list."""
    read_deadline: float = 60.0
    """From the first byte to the last: 64 MiB at 1 MiB/s."""
    job_deadline: float = 30.0
    """A vector sort of 64 MiB takes 0.2 s, the worst list that was found 6 s; gnome burns a core
    for as long as it may. It runs twice: while waiting for a worker, and from then on."""
    write_deadline: float = 60.0
    """For the whole reply, as for reading."""
    connections: int = 10_000
    """4 to 8 KiB each while idle: 80 MiB at the worst."""
    connections_per_address: int = 10_000
    """As many as in total, since on loopback and behind a proxy all share one; lower it where
    strangers connect."""
    max_waiting: int = 1000
    """Jobs waiting for a worker. Each holds its list, which max_bytes bounds."""
    max_bytes: int = 512 * MIB
    """Bytes received and not yet replied to, over all clients: eight of the largest lists. What
    was announced and not sent counts nothing."""
    allow_half_close: bool = False
    """A client that closes its sending side waits for its reply (`nc -N`). Otherwise it is taken
    as gone and its job is cancelled, as net/http and nginx do: the kernel shows both alike."""

    def __post_init__(self) -> None:
        _require_positive(self, exempt=("max_waiting",))


DEFAULT_STATUS = Address("127.0.0.1", 8043)
"""Where the status page is unless it is said. Loopback: it shows who asks for what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    """The status page, metrics and health."""

    address: Address | None = None
    """None: `DEFAULT_STATUS`, or any free port of its host if another server has that one. So a
    second server on a machine needs no further option; where its page is, its log says."""
    control: bool = False
    """Whether the page may change anything: cancel a connection, record a trace."""
    streams: int = 8
    """Pages that are open at the same time; each is sent the whole task tree twice a second."""
    connections: int = 64
    """Six for each of eight browsers, and room for those that scrape the metrics."""

    def __post_init__(self) -> None:
        _require_positive(self, exempt=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything that `trio-services serve` runs; a service that is None is not run."""

    dns: DnsSettings | None = field(default_factory=DnsSettings)
    sort: SortSettings | None = field(default_factory=SortSettings)
    status: StatusSettings | None = None
    """`trio-services serve` has it by default; what embeds or compares the services has none."""
    grace: float = 10.0
    """From the first signal until what is in flight is cancelled: what systemd and Kubernetes
    allow a service (90 s and 30 s) leaves room for it."""
    processes: int = 1
    ready_file: str | None = None
    trace: str | None = None
    """A file that is given, at the end, what every task did and when, in Chrome's trace format."""
    log_level: LogLevel = LogLevel.INFO
    log_requests: bool = False

    def __post_init__(self) -> None:
        _require_positive(self, exempt=("grace",))


_AT_MOST = {"workers": 1024, "processes": 256}
"""More than one for each core gains nothing; a slip of the finger must not start 100,000."""


def _require_positive(settings: Any, *, exempt: tuple[str, ...]) -> None:
    """Refuse numbers that would stop the service from working at all."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not (value > 0 or (value == 0 and each.name in exempt)):  # so NaN is refused as well
            bound = "not be negative" if each.name in exempt else "be greater than 0"
            raise SettingsError(f"{each.name} must {bound}; it is {value}")
        if value > _AT_MOST.get(each.name, math.inf):
            raise SettingsError(f"{each.name} must be at most {_AT_MOST[each.name]}; it is {value}")


def read_settings(path: str, defaults: ServeSettings | None = None) -> ServeSettings:
    """Read a TOML file of settings; file names in it are relative to its folder.

    Args:
        path: The file.
        defaults: What holds where the file says nothing; None for the defaults of the fields.

    Raises:
        SettingsError: It cannot be read, is not TOML, or has a key or value that does not fit.
    """
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
        for name, service in (
            ("dns", DnsSettings()),
            ("sort", SortSettings()),
            ("status", StatusSettings()),
        ):
            if isinstance(table.get(name), dict):
                table[name] = _from_table(service, table[name], f"{name}.")
        settings = _from_table(defaults or ServeSettings(), table)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from None
    return _relative_to(settings, Path(path).parent)


def _from_table(defaults: T, table: Mapping[str, Any], prefix: str = "") -> T:
    """Return the settings `defaults` with what a TOML table says, by the names of its fields."""
    names = {each.name for each in fields(defaults)}  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        if key not in names:
            raise SettingsError(f"{prefix + key!r}: no such setting")
        try:
            read = _READERS.get(key) or _scalar_reader(getattr(defaults, key))
            values[key] = read(value)
        except (TypeError, ValueError, SettingsError) as error:
            raise SettingsError(f"{prefix}{key}: {error}") from None
    try:
        return replace(defaults, **values)  # type: ignore[type-var]
    except SettingsError as error:
        raise SettingsError(f"{prefix}{error}") from None


def _choice(kind: type[StrEnum]) -> Callable[[Any], object]:
    """Return a reader that takes a member of `kind` by its value."""

    def read(value: Any) -> object:
        if value not in list(kind):
            raise SettingsError(f"expected {', '.join(kind)}, not {value!r}")
        return kind(value)

    return read


def _list_of_strings(value: object) -> list[str]:
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise SettingsError(f"expected a list of strings, not {value!r}")
    return value


def _addresses(value: object) -> tuple[Address, ...]:
    if not value:
        raise SettingsError("expected an address; a service that is not to run is set to false")
    return tuple(map(Address.parse, _list_of_strings(value)))


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _scalar_reader(default: object) -> Callable[[Any], object]:
    """Return a reader that takes a TOML value of the same kind as `default`."""
    kind = type(default)

    def read(value: Any) -> object:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise SettingsError(f"expected {_KINDS[kind]}, not {value!r}")
        return value

    return read


def _service_or_false(value: object) -> object:
    """Take a table that was read already, or `false` for a service that is not run."""
    if value is False:
        return None
    if not isinstance(value, DnsSettings | SortSettings | StatusSettings):
        raise SettingsError(f"expected a table or false, not {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"expected a string, not {value!r}")
    return value


_READERS: dict[str, Callable[[Any], object]] = {
    "dns": _service_or_false,
    "sort": _service_or_false,
    "status": _service_or_false,
    "address": lambda value: Address.parse(_text(value)),
    "addresses": _addresses,
    "zones": lambda value: tuple(map(ZoneFile.parse, _list_of_strings(value))),
    "hosts": lambda value: tuple(_list_of_strings(value)),
    "default_addresses": lambda value: parse_default_addresses(_list_of_strings(value)),
    "algorithm": _choice(Algorithm),
    "sort_in": _choice(Place),
    "log_level": _choice(LogLevel),
    "ready_file": _text,
    "trace": _text,
}
"""How a TOML value becomes a field's value, where it is not a plain number, text or boolean."""


def with_overrides(settings: T, **overrides: Any) -> T:
    """Return the settings dataclass `settings` with those `overrides` that are not None.

    Raises:
        SettingsError: A value does not fit.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    return replace(settings, **given)  # type: ignore[type-var]


def _relative_to(settings: ServeSettings, folder: Path) -> ServeSettings:
    """Return `settings` with their file names made relative to `folder` instead of the process."""
    dns = settings.dns and replace(
        settings.dns,
        zones=tuple(replace(zone, path=str(folder / zone.path)) for zone in settings.dns.zones),
        hosts=tuple(str(folder / path) for path in settings.dns.hosts),
    )
    ready_file = settings.ready_file and str(folder / settings.ready_file)
    trace = settings.trace and str(folder / settings.trace)
    return replace(settings, dns=dns, ready_file=ready_file, trace=trace)
