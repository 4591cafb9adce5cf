"""Serving zones from their text, and asking for names: what the DNS tests share."""

import struct
import tempfile
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import dns.message
import dns.name

from trio_services.sans_io.dns_respond import Responder
from trio_services.sans_io.dns_tree import Zones
from trio_services.sans_io.dns_zone import load_zones

APEX = "@ 300 SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\n"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
COOKIE = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08%08d"


def load(
    *texts: str,
    hosts: Sequence[str] = (),
    default: Sequence[IPv4Address | IPv6Address] = (),
    names: Iterable[str] = ("one.zone", "two.zone", "three.zone"),
) -> Zones:
    """Load zones and hosts files from their text."""
    with tempfile.TemporaryDirectory() as folder:
        zone_files: list[tuple[str, str | None]] = []
        for name, text in zip(names, texts, strict=False):
            path = Path(folder, name)
            path.write_text(text)
            zone_files.append((str(path), None))
        hosts_files = []
        for number, text in enumerate(hosts):
            path = Path(folder, f"hosts{number}")
            path.write_text(text)
            hosts_files.append(str(path))
        return load_zones(zone_files, hosts_files, default)


def responder(zones: Zones) -> Responder:
    """Make a responder for which an unexpected exception fails the test."""

    def fail(error: Exception) -> None:
        raise AssertionError("an unexpected exception in the responder") from error

    return Responder(zones, on_error=fail)


def ask(server: Responder, name: str, rtype: str = "A", *, tcp: bool = True) -> dns.message.Message:
    """Send one query with EDNS and return the parsed reply, which is checked to belong to it."""
    query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
    wire = query.to_wire()
    reply = server.respond_tcp(wire) if tcp else server.respond_udp(wire)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert query.is_response(message)
    return message


def wire_name(text: str) -> bytes:
    """Return the wire form of an absolute name."""
    wire = dns.name.from_text(text).to_wire()
    assert wire is not None
    return wire


def make_query(
    name: str | bytes, qtype: int = 1, *, opt: bytes = b"", flags: int = 0x0100, qclass: int = 1
) -> bytes:
    """Return a query with id 0x1234."""
    wire = name if isinstance(name, bytes) else wire_name(name)
    header = struct.pack("!HHHHHH", 0x1234, flags, 1, 0, 0, bool(opt))
    return header + wire + struct.pack("!HH", qtype, qclass) + opt
