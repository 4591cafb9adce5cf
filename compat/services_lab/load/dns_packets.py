"""Queries made once and checked quickly, for generators that have microseconds for each."""

import struct
from pathlib import Path

HEADER = struct.Struct("!HHHHHH")
RECURSION_DESIRED = 0x0100
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


def dns_query(name: str, *, ident: int = 0, kind: int = 1) -> bytes:
    """Return a query for `name` without options; `kind` is the type, 1 for A."""
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.rstrip(".").split("."))
    header = HEADER.pack(ident, RECURSION_DESIRED, 1, 0, 0, 0)
    return header + labels + struct.pack("!BHH", 0, kind, 1)


def read_queries(path: Path) -> list[bytes]:
    """Return the queries in a file of lines `NAME A`, as dnsperf reads them, without ids."""
    return [dns_query(line.split()[0])[2:] for line in path.read_text().splitlines()]


def rcode_of(reply: bytes, query: bytes) -> str:
    """Return the response code of a reply to `query` (without its id).

    Raises:
        ValueError: It is no reply, or to another question.
    """
    end = len(query) - 10  # of the question, in what follows the header
    if len(reply) < 12 or not reply[2] & 0x80 or reply[12 : 12 + end] != query[10:]:
        raise ValueError(f"no reply to {query!r}: {reply!r}")
    code = reply[3] & 0x0F
    return RCODES[code] if code < len(RCODES) else str(code)
