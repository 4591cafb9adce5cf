"""Hosts files (hosts(5)): an address, its canonical name, and aliases, on each line.

Every name of a line gets an A or AAAA record. The address gets one PTR record, to the canonical
name of the first line that has it, which is what gethostbyaddr gives (a list that blocks 100,000
names by one address must not make an RRset of them). Addresses of one name from several lines or
files make one RRset. Scope ids ("fe80::1%eth0") are for the host that owns the file: cut off.

Such files can be long: lists of blocked names have 100,000 lines. So records are rendered here and
not by dnspython.
"""

from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from trio_services.sans_io.dns_compile import (
    MAX_REASON,
    SYNTHETIC_TTL,
    TYPE_A,
    TYPE_AAAA,
    Record,
    ZoneError,
)
from trio_services.sans_io.dns_message import MAX_LABEL_BYTES, MAX_NAME_BYTES

TYPE_PTR = 12
_LENGTHS = [bytes([length]) for length in range(MAX_LABEL_BYTES + 1)]
_NIBBLE_LABELS = [f"\1{byte & 15:x}\1{byte >> 4:x}".encode() for byte in range(256)]
_DECIMAL_LABELS = [bytes([len(str(byte))]) + str(byte).encode() for byte in range(256)]


def read_hosts(files: Iterable[tuple[str, str]]) -> list[Record]:
    """Return the records of hosts files, given as (path, text), without duplicates.

    Raises:
        ZoneError: A line that is not an address and at least one host name.
    """
    records: list[Record] = []
    seen: set[tuple[bytes, bytes]] = set()
    for path, text in files:
        for number, line in enumerate(text.split("\n"), 1):
            try:
                records += _new_records(line, path, number, seen)
            except ValueError as error:
                raise ZoneError(f"{path}:{number}: {str(error)[:MAX_REASON]}") from error
    return records


def _new_records(
    line: str, path: str, number: int, seen: set[tuple[bytes, bytes]]
) -> Iterator[Record]:
    address_text, *names = line.partition("#")[0].split() or [""]
    if not address_text:
        return
    rtype, rdata, reverse = _address(address_text)
    if not names:
        raise ValueError(f"{address_text} has no name")
    for name in names:
        wire = host_name(name)
        owner = wire.lower()
        if (owner, rdata) not in seen:
            seen.add((owner, rdata))
            yield Record(owner, rtype, SYNTHETIC_TTL, rdata, path, number)
        if (reverse, b"") not in seen:
            seen.add((reverse, b""))
            yield Record(reverse, TYPE_PTR, SYNTHETIC_TTL, wire, path, number)


def _address(text: str) -> tuple[int, bytes, bytes]:
    """Return type, data and reverse name (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    try:
        if ":" in text:
            packed = IPv6Address(text).packed
            labels = [_NIBBLE_LABELS[byte] for byte in reversed(packed)]
            return TYPE_AAAA, packed, b"".join(labels) + b"\3ip6\4arpa\0"
        packed = IPv4Address(text).packed
    except AddressValueError:
        raise ValueError(f"{text!r} is not an address") from None
    labels = [_DECIMAL_LABELS[byte] for byte in reversed(packed)]
    return TYPE_A, packed, b"".join(labels) + b"\7in-addr\4arpa\0"


def host_name(text: str) -> bytes:
    """Return the wire form of a host name, case kept; a dot at its end changes nothing.

    Raises:
        ValueError: It is not ASCII, a label is empty or longer than 63 bytes or a wildcard, or
            the whole is longer than 255 bytes.
    """
    try:
        labels = text.removesuffix(".").encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is not ASCII: write it as xn--…") from None
    if b"*" in labels:
        raise ValueError(f"{text!r}: hosts files have no wildcards")
    lengths = [len(label) for label in labels]
    if min(lengths) == 0 or max(lengths) > MAX_LABEL_BYTES:
        raise ValueError(f"{text!r} has a label that is empty or longer than 63 bytes")
    wire = b"".join([_LENGTHS[len(label)] + label for label in labels]) + b"\0"
    if len(wire) > MAX_NAME_BYTES:
        raise ValueError(f"{text!r} is longer than 255 bytes")
    return wire
