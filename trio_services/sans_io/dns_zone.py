"""Zone files, read by dnspython: the one module that imports it.

dnspython knows the master file format (RFC 1035 section 5, `$TTL`, `$GENERATE`), every record type
and RFC 3597's TYPEn, and how each is rendered. `$INCLUDE` is followed here, for three reasons: its
path is relative to the file that it stands in, an error in the included file names that file and
its own line, and a file that includes itself is an error instead of a crash.

The origin of a zone file is the given one; else the owner of its SOA if that is written with a dot
at its end; else what `$ORIGIN` says before the first record. The apex of the zone is the owner of
its SOA, which has to be the given origin if there is one.

Whatever is wrong with a file, the operator's editor is where it will be mended: every error is a
`ZoneError` of one line that begins with file and line, and ends with what stands there if dnspython
could not read it: it often says no more than that the text is malformed.
"""

import gc
import os
import re
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from stat import S_ISREG
from typing import Any

import dns.exception
import dns.grange
import dns.name
import dns.rdataclass
import dns.tokenizer
import dns.zonefile

from trio_services.sans_io.dns_compile import (
    MAX_REASON,
    Record,
    ZoneError,
    ZoneSource,
    compile_zones,
)
from trio_services.sans_io.dns_hosts import read_hosts
from trio_services.sans_io.dns_message import TYPE_SOA
from trio_services.sans_io.dns_tree import Zones

MAX_INCLUDE_DEPTH = 10  # nobody nests deeper on purpose
MAX_GENERATED = 65_536  # records of one $GENERATE: a /16 of addresses, 2 s; a typo makes billions
MAX_SHOWN = 60  # characters of a file that an error quotes: it shall stay one line on a screen
BUILTIN_ZONE = Path(__file__).with_name("example.zone")

_INCLUDE = re.compile(r"^\$INCLUDE\b.*$", re.IGNORECASE | re.MULTILINE)
_SOA_OWNER = re.compile(r"^([^\s;$]\S*\.|\.)[ \t]([^;\n]*[ \t])?SOA[ \t]", re.I | re.M)


def load_zones(
    zone_files: Sequence[tuple[str, str | None]],
    hosts_files: Sequence[str],
    default_addresses: Sequence[IPv4Address | IPv6Address],
) -> Zones:
    """Read zone files, given as (path, origin or None), and hosts files.

    `default_addresses` are what names under no zone and in no hosts file get; without them such
    names are REFUSED.

    Raises:
        ZoneError: A file cannot be read or its content not served.
    """
    with _garbage_collector_paused():
        sources = [_read_zone(path, origin) for path, origin in zone_files]
        hosts = read_hosts((path, _read_text(path)) for path in hosts_files)
        return compile_zones(sources, hosts, default_addresses)


@contextmanager
def _garbage_collector_paused() -> Iterator[None]:
    """Nearly everything that loading makes stays: the collector would look at it all in vain,
    again and again, which doubles the time for a long hosts file.

    Nor must it look at it all as soon as it is back, which holds a server that is reloading 100,000
    names for 150 ms: so what was loaded is frozen, for good. None of it is in a cycle.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if enabled:
            gc.freeze()
    finally:
        if enabled:
            gc.enable()


def load_builtin_zones(
    default_addresses: Sequence[IPv4Address | IPv6Address] = (IPv4Address("127.0.0.1"),),
) -> Zones:
    """Load the zone `example.` that comes with the package."""
    return load_zones([(str(BUILTIN_ZONE), None)], [], default_addresses)


def _read_text(path: str) -> str:
    try:
        # A pipe that nobody writes to, or a device without an end, would be read forever.
        if not S_ISREG(os.stat(path).st_mode):
            raise ZoneError(f"{path}: not a file but a directory, pipe or device")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ZoneError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ZoneError(f"{path}:{line}: not UTF-8 text") from error


def _read_zone(path: str, origin: str | None) -> ZoneSource:
    text = _read_text(path)
    given = None if origin is None else _name(origin, f"{path}: origin")
    start = given
    if start is None and (found := _SOA_OWNER.search(text)):
        line = text.count("\n", 0, found.start()) + 1
        start = _name(found[1], f"{path}:{line}: owner of the SOA")
    reader = _Reader(start)
    reader.read_file(path, text)
    records = reader.records
    soa = next((record for record in records if record.rtype == TYPE_SOA), None)
    if given is not None:
        apex = _wire(given).lower()
        if soa is not None and soa.owner != apex:
            raise soa.error(f"SOA is not at the given origin {given}")
    elif soa is not None:
        apex = soa.owner
    else:
        raise ZoneError(f"{path}:1: the zone has no SOA")
    return ZoneSource(apex, records, path)


def _name(text: str, what: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError) as error:  # UnicodeError, from IDNA
        raise ZoneError(f"{what} {_shortened(text, MAX_SHOWN)!r}: {_reason(error)}") from error


class _Tokenizer(dns.tokenizer.Tokenizer):
    """Knows the line of the token that was read last, where its parent knows where it reads."""

    def __init__(self, text: str, filename: str, line: int) -> None:
        super().__init__(text, filename)
        self.text = text
        self.first_line = line
        self.line_number = line
        self.token_line = line

    def get(self, want_leading: bool = False, want_comment: bool = False) -> dns.tokenizer.Token:
        token = super().get(want_leading, want_comment)
        # The newline that ends a token has been read, and counted, by now.
        self.token_line = self.line_number - (token.is_eol() or self.ungotten_char == "\n")
        return token

    def where(self) -> tuple[str, int]:
        return self.filename, self.token_line

    def error(self, reason: str) -> ZoneError:
        """Return the error at the token that was read last, to be raised."""
        return ZoneError(f"{self.filename}:{self.token_line}: {reason}")

    def unreadable(self, reason: str) -> ZoneError:
        """Return the error that its line cannot be read, to be raised."""
        reason = reason.removeprefix(f"{self.filename}:{self.token_line}: ")  # by dnspython
        line = self.text.split("\n")[self.token_line - self.first_line]
        if '"' in line and line.upper().startswith("$GENERATE"):
            reason += " ($GENERATE makes no quoted data)"
        reason = _shortened(reason, MAX_REASON).rstrip(".")
        return self.error(f"{reason}, in: {_shortened(line, MAX_SHOWN)}")


class _Records(dns.zonefile.RRsetsReaderTransaction):
    """What dnspython's reader hands each record to."""

    def __init__(self, reader: "_Reader") -> None:
        manager = dns.zonefile.RRSetsReaderManager()
        super().__init__(manager, True, False)  # type: ignore[no-untyped-call]
        # A cycle would keep every record and the text until the collector comes, and it may not.
        self._reader: _Reader = weakref.proxy(reader)

    def add(self, *args: Any) -> None:
        name, ttl, rdata = args
        self._reader.add_record(_wire(name), ttl, rdata.rdtype, rdata.to_wire())


class _Reader(dns.zonefile.Reader):
    """dnspython's reader, which keeps its state from one piece of text to the next."""

    tok: _Tokenizer

    def __init__(self, origin: dns.name.Name | None) -> None:
        super().__init__(_Tokenizer("", "", 1), dns.rdataclass.IN, _Records(self))
        self.zone_origin = dns.name.root  # or it would drop records outside the zone silently
        self.current_origin = origin
        self.last_name = origin
        self.records: list[Record] = []

    def add_record(self, owner: bytes, ttl: int, rtype: int, rdata: bytes) -> None:
        """Keep a record with its place: the line that it ends on."""
        self.records.append(Record(owner.lower(), rtype, ttl, rdata, *self.tok.where()))

    def _generate_line(self) -> None:
        """Read a $GENERATE as dnspython does, if it is not for too many records."""
        token = self.tok.get()
        try:
            first, last, step = dns.grange.from_text(token.value)
        except (dns.exception.SyntaxError, ValueError, AssertionError) as error:
            reason = "$GENERATE begins with FIRST-LAST or FIRST-LAST/STEP"
            raise self.tok.error(reason) from error
        if (last - first) // step >= MAX_GENERATED:
            raise self.tok.error(f"$GENERATE makes at most {MAX_GENERATED} records")
        self.tok.unget(token)
        super()._generate_line()  # type: ignore[no-untyped-call]

    def read_file(self, path: str, text: str, depth: int = 0) -> None:
        """Read a whole file and what it includes; the included file leaves no state behind."""
        for line, piece, include in _split_at_includes(text):
            self.tok = _Tokenizer(piece, path, line)
            self._read_piece()
            if include:
                self.tok = _Tokenizer(include, path, line + piece.count("\n"))
                self._include(path, depth)

    def _read_piece(self) -> None:
        try:
            self.read()
        except ZoneError:
            raise
        except dns.exception.SyntaxError as error:
            raise self.tok.unreadable(_reason(error)) from error
        except dns.zonefile.UnknownOrigin as error:
            reason = "no origin is known: put $ORIGIN before it or give FILE=ORIGIN"
            raise self.tok.error(reason) from error
        except Exception as error:  # dnspython lets through whatever its parsers raise
            raise self.tok.unreadable(_reason(error)) from error

    def _include(self, path: str, depth: int) -> None:
        try:
            _, file, *rest = [t.unescape().value for t in self.tok.get_remaining()]
            origin = dns.name.from_text(rest[0], self.current_origin) if rest else None
        except (dns.exception.DNSException, ValueError) as error:
            reason = f"$INCLUDE takes a file and perhaps an origin: {error}"
            raise self.tok.error(_shortened(reason, MAX_REASON)) from error
        if depth >= MAX_INCLUDE_DEPTH:
            raise self.tok.error(f"$INCLUDE is nested more than {MAX_INCLUDE_DEPTH} deep")
        included = str(Path(path).parent / file)
        state = self.current_origin, self.last_name, self.default_ttl, self.default_ttl_known
        self.current_origin = origin or self.current_origin
        try:
            text = _read_text(included)
        except ZoneError as error:
            reason = f"$INCLUDE {error}"
            raise self.tok.error(_shortened(reason, MAX_REASON)) from error
        self.read_file(included, text, depth + 1)
        self.current_origin, self.last_name, self.default_ttl, self.default_ttl_known = state


def _split_at_includes(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line of its start, piece of text, $INCLUDE line after it or "")."""
    start = 0
    for match in _INCLUDE.finditer(text):
        yield text.count("\n", 0, start) + 1, text[start : match.start()], match[0]
        start = match.end()
    yield text.count("\n", 0, start) + 1, text[start:], ""


def _wire(name: dns.name.Name) -> bytes:
    wire = name.to_wire()
    assert wire is not None, "it is None only if there is a file to write to"
    return wire


def _reason(error: Exception) -> str:
    text = re.sub(r"caught exception <class '[\w.]+'>: ", "", str(error))
    return text.strip() or type(error).__name__


def _shortened(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
