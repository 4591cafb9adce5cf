"""What is served, in the form in which a query finds it.

At load time every RRset is rendered as it will be sent, with its owner as a pointer to the name in
the question (0xC00C). That works for wildcards too: the owner of a synthesized record *is* the
question's name. A query is then one or two dictionary look-ups and one join.

The tree is flat: a dictionary from lower-case wire names to nodes, with every empty non-terminal
in it. Two look-ups replace the walk of RFC 1034 section 4.3.2:

- A name that exists is a key. Its node answers.
- A name that does not is decided by its closest encloser alone (RFC 4592 section 3.3.1): the
  nearest ancestor that is a key. What that decision is was worked out at load time and is that
  ancestor's `below`: the node of its wildcard, or a redirection if it is a zone cut or a DNAME, or
  the zone's NXDOMAIN. Names below a cut are left out of the dictionary, so the cut is the encloser.

Names of hosts files and the default address belong to no zone. They are nodes all the same, with
`below` leading to what answers unknown names: the default address, or REFUSED.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from struct import Struct
from typing import Self

from trio_services.sans_io.dns_message import (
    AA,
    CLASS_IN,
    HEADER_BYTES,
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
    QR,
    RD,
    Rcode,
)

ROOT = b"\0"
# From a length byte to the next; from one that is none out of any name, which ends the walk.
_STEPS = [n + 1 if n <= MAX_LABEL_BYTES else MAX_NAME_BYTES + 1 for n in range(256)]
_HEAD = Struct("!HHHHH")
_POINTER = Struct("!H")
_TYPE_CLASS = Struct("!HH")

Heads = tuple[bytes, bytes, bytes, bytes]


@cache
def reply_heads(rcode: Rcode, flags: int, answers: int, authorities: int) -> Heads:
    """Return the header of a reply without its id, 10 bytes, in four variants.

    The index is 1 for RD in the query plus 2 for OPT. Shared by all RRsets of one shape.
    """
    plain, recursive, edns, edns_recursive = (
        _HEAD.pack(QR | flags | rd | rcode, 1, answers, authorities, opt)
        for opt in (0, 1)
        for rd in (0, RD)
    )
    return plain, recursive, edns, edns_recursive


@cache
def type_key(rtype: int) -> bytes:
    """Return the 4 bytes that follow the name in a question: the type, and class IN."""
    return _TYPE_CLASS.pack(rtype, CLASS_IN)


def pointer(offset: int) -> bytes:
    """Return the compression pointer to `offset`, which is less than 0x4000."""
    return _POINTER.pack(0xC000 | offset)


OWNER = pointer(HEADER_BYTES)  # the name in the question


@dataclass(frozen=True, slots=True)
class RRset:
    """The records of one name and type as they are sent, each owner the pointer `OWNER`."""

    heads: Heads
    body: bytes
    tails: tuple[bytes, ...]  # the records without their owners, after an empty one

    @property
    def count(self) -> int:
        """The number of records."""
        return len(self.tails) - 1

    def owned_by(self, offset: int) -> bytes:
        """Return the records with a pointer to `offset` for their owner: as long as `body`.

        4,000 addresses at the end of an alias take 30 µs, which were 1 ms when a loop split them.
        """
        if offset == HEADER_BYTES:
            return self.body
        return pointer(offset).join(self.tails)


def make_rrset(rtype: int, ttl: int, rdata: list[bytes]) -> RRset:
    """Render the records of one RRset; `rdata` is wire form without compressed names."""
    prefix = type_key(rtype) + ttl.to_bytes(4, "big")
    tails = b"", *[prefix + len(data).to_bytes(2, "big") + data for data in rdata]
    return RRset(reply_heads(Rcode.NOERROR, AA, len(rdata), 0), OWNER.join(tails), tails)


@dataclass(frozen=True, slots=True)
class Negative:
    """The reply that there is no such data: NODATA, NXDOMAIN or REFUSED.

    Attributes:
        rcode: Of the reply.
        heads: Its header.
        soa: The SOA record that bounds how long it is cached (RFC 2308 section 3), without its
            owner; empty with REFUSED.
        origin_bytes: The length of the SOA's owner, which ends the queried name; 0 if the queried
            name itself is the owner, as for data that is in no zone.
    """

    rcode: Rcode
    heads: Heads
    soa: bytes
    origin_bytes: int


def make_negative(rcode: Rcode, soa: bytes, origin_bytes: int) -> Negative:
    """Return the reply with the SOA record `soa`, or an unauthoritative one if that is empty."""
    flags, authorities = (AA, 1) if soa else (0, 0)
    return Negative(rcode, reply_heads(rcode, flags, 0, authorities), soa, origin_bytes)


@dataclass(frozen=True, slots=True)
class Alias:
    """A CNAME: look up `target` (wire form, case kept) instead."""

    target: bytes


@dataclass(frozen=True, slots=True)
class SubtreeAlias:
    """A DNAME at `owner` (RFC 6672): names below it exist below `target` instead."""

    owner: bytes
    target: bytes
    ttl: int
    rrset: RRset


@dataclass(frozen=True, slots=True)
class Delegation:
    """A zone cut at `owner`: others answer, by these name servers.

    `glue` holds whole address records of name servers at or below the cut: without it nobody gets
    there (RFC 9471 section 3). `more_glue` those of servers elsewhere in our zones, which is a
    kindness and is left out if it does not fit. Each is the number of records, and the records.
    """

    owner: bytes
    servers: RRset
    glue: tuple[int, bytes]
    more_glue: tuple[int, bytes]


@dataclass(slots=True)
class Node:
    """What one name answers, and what the names that do not exist below it answer.

    Attributes:
        negative: The reply for types it has not.
        rrsets: By `type_key`; ANY among them.
        redirect: Where queries for other types lead, if anywhere.
        below: What is found for names below this one of which there is no node. Filled in
            after all nodes are made; None only in nodes that are not in `Zones.names`.
    """

    negative: Negative
    rrsets: dict[bytes, RRset] = field(default_factory=dict)
    redirect: Alias | SubtreeAlias | Delegation | None = None
    below: Self | None = None


@dataclass(frozen=True, slots=True)
class Zones:
    """Everything that is served. Never changed once it is built: a reload makes another.

    Attributes:
        names: Every name that exists, in lower-case wire form.
        unknown: What names answer that are under no zone.
        parent_negatives: What a query for DS gets at a zone cut that has none, also if the zone
            below it is served here: that it is not there is the parent's to say (RFC 4035
            section 3.1.4.1).
        longest_name: In bytes. Spares most look-ups for a name of 127 labels that a peer made up:
            4 µs instead of 14.
    """

    names: Mapping[bytes, Node]
    unknown: Node
    parent_negatives: Mapping[bytes, Negative] = field(default_factory=dict)
    longest_name: int = MAX_NAME_BYTES

    def find(self, name: bytes) -> Node | None:
        """Return the node that answers for `name` (lower-case wire form), or None.

        None means that it is not a wire name: the caller may pass bytes that are merely up to
        the first zero byte of a packet.
        """
        names = self.names
        node = names.get(name)
        if node is not None:
            return node
        end = len(name) - 1
        if end >= MAX_NAME_BYTES:
            return None
        first = end + 1 - self.longest_name  # no name that exists begins before this
        at = 0
        while at < first:
            at += _STEPS[name[at]]
        while at < end:
            node = names.get(name[at:])
            if node is not None:
                return node.below
            at += _STEPS[name[at]]
        if at != end:
            return None
        root = names.get(ROOT)
        return self.unknown if root is None else root.below
