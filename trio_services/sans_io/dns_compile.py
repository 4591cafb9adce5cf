"""From records with their place in a file to the tree that is served, or to a `ZoneError`.

A zone is refused as a whole if anything in it is wrong, with the place of the record that is:
exactly one SOA, at the apex; NS at the apex; nothing beside a CNAME but DNSSEC's own; one CNAME or
DNAME a name; nothing below a DNAME (RFC 6672 section 2.4); no NS or DNAME at a wildcard, which RFC
4592 section 4 leaves undefined; no data outside the zone; no record twice; no type that is not
data; TTLs of at most 2^31 - 1 (RFC 2181 section 8); no RRset larger than a message. Records of one
RRset that differ in TTL get the lowest (RFC 2181 section 5.2).

Several zones may lie inside each other: the innermost answers. What an outer zone says at or below
the apex of an inner one is not served, but for the DS records there.

A hosts name inside a zone becomes a name of that zone, as if the line stood in its file, unless
the file has records for that name, which win. Other hosts names stand alone.
"""

from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from trio_services.sans_io.dns_message import (
    HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NAME_BYTES,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_DNAME,
    TYPE_DS,
    TYPE_NS,
    TYPE_OPT,
    TYPE_SOA,
    Rcode,
)
from trio_services.sans_io.dns_name import ancestors, enclosing, name_text
from trio_services.sans_io.dns_tree import (
    OWNER,
    ROOT,
    Alias,
    Delegation,
    Negative,
    Node,
    RRset,
    SubtreeAlias,
    Zones,
    make_negative,
    make_rrset,
    type_key,
)

TYPE_A = 1
TYPE_AAAA = 28
MAX_TTL = 2**31 - 1
MAX_RRSET_BYTES = MAX_MESSAGE_BYTES - HEADER_BYTES - (MAX_NAME_BYTES + 4) - 11  # question and OPT
META_TYPES = frozenset({0, TYPE_OPT, *range(128, 256)})  # RFC 6895 section 3.1: never data
BESIDE_CNAME = frozenset({TYPE_CNAME, 24, 25, 30, 46, 47})  # SIG, KEY, NXT, RRSIG, NSEC
SYNTHETIC_TTL = 60  # hosts files are edited by hand and reloaded: a minute is what one waits for
_NS, _DNAME, _DS, _ANY = map(type_key, (TYPE_NS, TYPE_DNAME, TYPE_DS, TYPE_ANY))
MAX_REASON = 200  # characters of a reason, which may quote what a file holds, of any length
WILDCARD = b"\1*"

# RFC 6303 section 3: the SOA of a zone nobody runs. "@ nobody.invalid. 1 3600 1200 604800 60"
_SYNTHETIC_SOA_DATA = (
    OWNER
    + b"\6nobody\7invalid\0"
    + b"".join(number.to_bytes(4, "big") for number in (1, 3600, 1200, 604_800, SYNTHETIC_TTL))
)


class ZoneError(Exception):
    """A zone or hosts file that cannot be served: one line, "FILE:LINE: reason".

    What the file or its name holds may be part of the reason, so what is not printable is escaped,
    line ends and terminal controls among it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            "".join(c if c.isprintable() else ascii(c).strip("'") for c in reason),
        )


class Record(NamedTuple):
    """A record and where it stands. A tuple, because a hosts file makes 200,000 of them."""

    owner: bytes  # lower-case wire form
    rtype: int
    ttl: int
    rdata: bytes  # wire form, names uncompressed
    path: str
    line: int

    def error(self, reason: str) -> ZoneError:
        """Return the error that this record has, to be raised."""
        return ZoneError(f"{self.path}:{self.line}: {name_text(self.owner)}: {reason}")


Owners = dict[bytes, dict[int, list[Record]]]


class ZoneSource(NamedTuple):
    """The records of one zone in the order of its file, and the file."""

    origin: bytes  # lower-case wire form
    records: Sequence[Record]
    path: str


def compile_zones(
    sources: Sequence[ZoneSource],
    hosts: Iterable[Record],
    default_addresses: Sequence[IPv4Address | IPv6Address],
) -> Zones:
    """Check everything and make the tree.

    Raises:
        ZoneError: The first thing that is wrong.
    """
    zones: dict[bytes, Owners] = {}
    for source in sources:
        if source.origin in zones:
            raise ZoneError(f"{source.path}: zone {name_text(source.origin)} is served already")
        zones[source.origin] = _group(source.records)
        _check_zone(source, zones[source.origin])
    lone_hosts = _graft_hosts(zones, hosts)

    unknown = _unknown(default_addresses)
    parent_negatives: dict[bytes, Negative] = {}
    parent_ds: dict[bytes, RRset] = {}
    inner: dict[bytes, list[bytes]] = {origin: [] for origin in zones}
    for origin in zones:
        outer = next((above for above in ancestors(origin) if above in zones), None)
        if outer is not None:
            inner[outer].append(origin)
    names = _host_nodes(lone_hosts, unknown)
    for origin, owners in zones.items():
        _check_owners(origin, owners)
        zone = _ZoneBuilder(origin, owners, zones.keys(), inner[origin])
        names |= zone.nodes
        parent_negatives |= zone.parent_negatives
        parent_ds |= zone.parent_ds
    for origin, rrset in parent_ds.items():
        names[origin].rrsets[_DS] = rrset
    longest_name = max(map(len, names), default=len(ROOT))
    return Zones(names, unknown, parent_negatives, longest_name)


def _group(records: Iterable[Record]) -> Owners:
    owners: Owners = {}
    for record in records:
        owners.setdefault(record.owner, {}).setdefault(record.rtype, []).append(record)
    return owners


def _graft_hosts(zones: dict[bytes, Owners], hosts: Iterable[Record]) -> dict[bytes, list[Record]]:
    """Add hosts names to the zones that they are in; return the others."""
    lone: dict[bytes, list[Record]] = {}
    inside: dict[bytes, list[Record]] = {}
    for record in hosts:
        origin = enclosing(record.owner, zones)
        if origin is None:
            lone.setdefault(record.owner, []).append(record)
        elif record.owner not in zones[origin]:
            inside.setdefault(origin, []).append(record)
    for origin, records in inside.items():
        zones[origin] |= _group(records)
    return lone


def _host_nodes(hosts: dict[bytes, list[Record]], unknown: Node) -> dict[bytes, Node]:
    """Make the nodes of hosts names outside all zones; names of the same data share one."""
    names: dict[bytes, Node] = {}
    shared: dict[tuple[tuple[int, bytes], ...], Node] = {}
    for owner, records in hosts.items():
        data = tuple([(record.rtype, record.rdata) for record in records])
        node = shared.get(data)
        if node is None:
            types = {records[0].rtype: records}
            if len(records) > 1:
                types = _group(records)[owner]
                for rtype, rrset in types.items():
                    _check_rrset(rtype, rrset)
            node = shared[data] = Node(_NO_DATA, _render(types), below=unknown)
        names[owner] = node
    return names


def _check_zone(source: ZoneSource, owners: Owners) -> None:
    apex = owners.get(source.origin, {})
    if TYPE_SOA not in apex:
        text = name_text(source.origin)
        raise ZoneError(f"{source.path}:1: {text}: the zone has no SOA at its apex")
    if TYPE_NS not in apex:
        raise apex[TYPE_SOA][0].error("the zone has no NS at its apex")
    inside = {source.origin}
    for record in source.records:
        if enclosing(record.owner, inside) is None:
            raise record.error(f"is outside the zone {name_text(source.origin)}")
        if record.rtype == TYPE_SOA and record.owner != source.origin:
            raise record.error("SOA belongs at the apex of a zone")


def _check_owners(origin: bytes, owners: Owners) -> None:
    dnames = {owner for owner, types in owners.items() if TYPE_DNAME in types}
    for owner, types in owners.items():
        first = next(iter(types.values()))[0]
        for rtype, records in types.items():
            _check_rrset(rtype, records)
        if TYPE_CNAME in types and not types.keys() <= BESIDE_CNAME:
            late = max((records[0] for records in types.values()), key=lambda r: r.line)
            raise late.error("CNAME and other data at one name")
        if owner.startswith(WILDCARD) and (types.keys() & {TYPE_NS, TYPE_DNAME}):
            raise first.error("NS or DNAME at a wildcard means nothing (RFC 4592 section 4)")
        if dnames and any(above in dnames for above in ancestors(owner)):
            raise first.error("is below a DNAME")


def _check_rrset(rtype: int, records: list[Record]) -> None:
    seen: set[bytes] = set()
    size = 0
    for record in records:
        size += 12 + len(record.rdata)
        if rtype in META_TYPES:
            raise record.error(f"type {rtype} is for queries, not for data")
        if record.ttl > MAX_TTL:
            raise record.error(f"TTL {record.ttl} is more than {MAX_TTL}")
        if record.rdata in seen:
            raise record.error("the same record twice")
        if seen and rtype in (TYPE_SOA, TYPE_CNAME, TYPE_DNAME):
            raise record.error("a second SOA, CNAME or DNAME at one name")
        if size > MAX_RRSET_BYTES:
            raise record.error("more records of one type than fit in a message")
        seen.add(record.rdata)


def _render(types: dict[int, list[Record]]) -> dict[bytes, RRset]:
    """Render all RRsets of a name. ANY gets the smallest of them (RFC 8482 section 4.1)."""
    rrsets = {
        type_key(rtype): make_rrset(rtype, min(r.ttl for r in records), [r.rdata for r in records])
        for rtype, records in types.items()
    }
    rrsets[_ANY] = min(rrsets.values(), key=lambda rrset: len(rrset.body))
    return rrsets


def _soa_tail(ttl: int, rdata: bytes) -> bytes:
    """Render the SOA of negative replies: RFC 2308 section 3 sets its TTL; without its owner."""
    ttl = min(ttl, int.from_bytes(rdata[-4:], "big"))
    return make_rrset(TYPE_SOA, ttl, [rdata]).body[len(OWNER) :]


_NO_DATA = make_negative(Rcode.NOERROR, _soa_tail(SYNTHETIC_TTL, _SYNTHETIC_SOA_DATA), 0)


def _unknown(addresses: Sequence[IPv4Address | IPv6Address]) -> Node:
    """Return what names under no zone answer: the default addresses, or REFUSED."""
    if not addresses:
        return Node(make_negative(Rcode.REFUSED, b"", 0))
    types: dict[int, list[Record]] = {}
    for address in dict.fromkeys(addresses):
        rtype = TYPE_A if address.version == 4 else TYPE_AAAA
        record = Record(b"\0", rtype, SYNTHETIC_TTL, address.packed, "", 0)
        types.setdefault(rtype, []).append(record)
    return Node(_NO_DATA, _render(types))


class _ZoneBuilder:
    """Makes the nodes of one checked zone; `origins` are those of all zones, its own among them."""

    def __init__(
        self, origin: bytes, owners: Owners, origins: Collection[bytes], inner: Iterable[bytes]
    ) -> None:
        self.origin = origin
        self.owners = owners
        self.origins = origins
        soa = owners[origin][TYPE_SOA][0]
        tail = _soa_tail(soa.ttl, soa.rdata)
        self.no_data = make_negative(Rcode.NOERROR, tail, len(origin))
        self.no_name = Node(make_negative(Rcode.NXDOMAIN, tail, len(origin)))
        self.cuts = {o for o, types in owners.items() if TYPE_NS in types and o != origin}
        self.nodes: dict[bytes, Node] = {}
        self.parent_negatives: dict[bytes, Negative] = {}
        self.parent_ds: dict[bytes, RRset] = {}
        for owner, types in owners.items():
            if not self._is_hidden(owner):
                self.nodes[owner] = self._node(owner, types)
        self._add_inner_zones(inner)
        self._add_empty_non_terminals()
        for name, node in self.nodes.items():
            if node.below is None:
                node.below = self.nodes.get(WILDCARD + name, self.no_name)

    def _is_hidden(self, owner: bytes) -> bool:
        """Whether the name is below a zone cut of this zone, or in an inner zone that is served."""
        if enclosing(owner, self.origins) != self.origin:
            return True
        return bool(self.cuts) and any(above in self.cuts for above in ancestors(owner))

    def _node(self, owner: bytes, types: dict[int, list[Record]]) -> Node:
        if owner in self.cuts:
            return self._cut(owner, types)
        node = Node(self.no_data, _render(types))
        if TYPE_CNAME in types:
            node.redirect = Alias(types[TYPE_CNAME][0].rdata)
        if TYPE_DNAME in types:
            record = types[TYPE_DNAME][0]
            rrset = node.rrsets[_DNAME]
            alias = SubtreeAlias(owner, record.rdata, record.ttl, rrset)
            node.below = Node(self.no_data, redirect=alias)
        return node

    def _cut(self, owner: bytes, types: dict[int, list[Record]]) -> Node:
        rrsets = {}
        if TYPE_DS in types:
            rrsets[_DS] = _render({TYPE_DS: types[TYPE_DS]})[_DS]
        else:
            self.parent_negatives[owner] = self.no_data
        cut = self._delegation(owner, types[TYPE_NS])
        return Node(self.no_data, rrsets, cut, below=Node(self.no_data, redirect=cut))

    def _delegation(self, owner: bytes, servers: list[Record]) -> Delegation:
        glue: list[bytes] = []
        more_glue: list[bytes] = []
        for server in servers:
            name = server.rdata.lower()
            types = self.owners.get(name, {})
            addresses = {t: types[t] for t in (TYPE_A, TYPE_AAAA) if t in types}
            if addresses:
                below = enclosing(name, {owner}) is not None
                rrsets = [rrset for key, rrset in _render(addresses).items() if key != _ANY]
                tails = [tail for rrset in rrsets for tail in rrset.tails[1:]]
                (glue if below else more_glue).extend(server.rdata + tail for tail in tails)
        rrset = _render({TYPE_NS: servers})[_NS]
        counted, more_counted = ((len(records), b"".join(records)) for records in (glue, more_glue))
        return Delegation(owner, rrset, counted, more_counted)

    def _add_inner_zones(self, inner_zones: Iterable[bytes]) -> None:
        """Make the names above the apex of an inner zone exist, and speak for its DS."""
        for inner in inner_zones:
            above = next(ancestors(inner))
            if above in self.cuts or self._is_hidden(above):
                continue
            self.nodes.setdefault(above, Node(self.no_data))
            types = self.owners.get(inner, {})
            if TYPE_DS in types:
                self.parent_ds[inner] = _render({TYPE_DS: types[TYPE_DS]})[_DS]
            else:
                self.parent_negatives[inner] = self.no_data

    def _add_empty_non_terminals(self) -> None:
        for name in list(self.nodes):
            if name != self.origin:
                for above in ancestors(name):
                    if above in self.nodes:
                        break
                    self.nodes[above] = Node(self.no_data)
