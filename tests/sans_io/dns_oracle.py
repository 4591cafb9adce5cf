"""An independent, naive resolver: what dnspython's zones say a question's answer is.

It walks down from the apex label by label, exactly as RFC 1034 section 4.3.2 is written, and knows
nothing of the tree that the server compiles. Slow and obvious on purpose.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset
import dns.zone

Rows = frozenset[tuple[dns.name.Name, int, str, str]]
STAR = dns.name.from_text("*", None)


@dataclass
class Expected:
    """What the reply must say. `glue` must be there, `more_glue` may be."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    authoritative: bool = True
    answer: set[tuple[dns.name.Name, int, str, str]] = field(default_factory=set)
    authority: set[tuple[dns.name.Name, int, str, str]] = field(default_factory=set)
    glue: set[tuple[dns.name.Name, int, str, str]] = field(default_factory=set)


def rows(rrsets: Iterable[dns.rrset.RRset]) -> Rows:
    """Return records as comparable tuples: owner, TTL, type, data."""
    return frozenset(
        (rrset.name, rrset.ttl, dns.rdatatype.to_text(rrset.rdtype), _text(rdata))
        for rrset in rrsets
        for rdata in rrset
    )


def _text(rdata: dns.rdata.Rdata) -> str:
    return rdata.to_text().lower()


def resolve(
    zones: Sequence[dns.zone.Zone], qname: dns.name.Name, qtype: dns.rdatatype.RdataType
) -> Expected:
    """Answer by the letter of RFC 1034 section 4.3.2, RFC 4592, RFC 6672 and RFC 4035."""
    expected = Expected()
    name = qname
    asked: set[dns.name.Name] = set()
    while True:
        first = not asked
        asked.add(name)
        zone = _innermost(zones, name, qtype)
        if zone is None:
            if first:
                expected.rcode, expected.authoritative = dns.rcode.REFUSED, False
            return expected
        target = _step(zone, name, qtype, expected, first)
        if target is None or target in asked or len(asked) > 16:
            return expected
        name = target


def _innermost(
    zones: Sequence[dns.zone.Zone], name: dns.name.Name, qtype: dns.rdatatype.RdataType
) -> dns.zone.Zone | None:
    enclosing = [z for z in zones if z.origin is not None and name.is_subdomain(z.origin)]
    enclosing.sort(key=lambda z: len(z.origin or ()))
    if qtype == dns.rdatatype.DS and len(enclosing) > 1 and enclosing[-1].origin == name:
        parent = enclosing[-2]
        cuts = [n for n in _between(parent, name) if n != name and _get(parent, n, "NS")]
        return enclosing[-1] if cuts else parent
    return enclosing[-1] if enclosing else None


def _between(zone: dns.zone.Zone, name: dns.name.Name) -> list[dns.name.Name]:
    """The names from just below the apex down to `name`."""
    assert zone.origin is not None
    count = len(name) - len(zone.origin)
    return [dns.name.Name(name.labels[i:]) for i in range(count - 1, -1, -1)]


def _get(zone: dns.zone.Zone, name: dns.name.Name, rtype: str) -> dns.rdataset.Rdataset | None:
    return zone.get_rdataset(name, rtype)


def _exists(zone: dns.zone.Zone, name: dns.name.Name) -> bool:
    return any(owner.is_subdomain(name) for owner in zone)


def _add(
    rows_: set[tuple[dns.name.Name, int, str, str]],
    owner: dns.name.Name,
    rdataset: dns.rdataset.Rdataset,
    ttl: int | None = None,
) -> None:
    for rdata in rdataset:
        kind = dns.rdatatype.to_text(rdataset.rdtype)
        rows_.add((owner, rdataset.ttl if ttl is None else ttl, kind, _text(rdata)))


def _add_soa(zone: dns.zone.Zone, expected: Expected) -> None:
    assert zone.origin is not None
    rdataset = zone.get_rdataset(zone.origin, "SOA")
    assert rdataset is not None
    soa = rdataset[0]
    assert isinstance(soa, dns.rdtypes.ANY.SOA.SOA)
    _add(expected.authority, zone.origin, rdataset, min(rdataset.ttl, soa.minimum))


def _step(
    zone: dns.zone.Zone,
    name: dns.name.Name,
    qtype: dns.rdatatype.RdataType,
    expected: Expected,
    first: bool,
) -> dns.name.Name | None:
    """Look one name up; return the name to go on with, if any."""
    encloser = zone.origin
    assert encloser is not None
    dname = _get(zone, encloser, "DNAME")
    if dname and name != encloser:
        return _dname(encloser, dname, name, qtype, expected)
    for current in _between(zone, name):
        if not _exists(zone, current):
            source = dns.name.Name((b"*", *encloser.labels))
            if not _exists(zone, source):
                expected.rcode = dns.rcode.NXDOMAIN
                _add_soa(zone, expected)
                return None
            return _data(zone, source, name, qtype, expected)
        servers = _get(zone, current, "NS")
        if servers and not (qtype == dns.rdatatype.DS and current == name):
            _referral(zone, current, servers, expected, first)
            return None
        if servers:
            ds = _get(zone, current, "DS")
            if ds:
                _add(expected.answer, name, ds)
            else:
                _add_soa(zone, expected)
            return None
        dname = _get(zone, current, "DNAME")
        if dname and current != name:
            return _dname(current, dname, name, qtype, expected)
        encloser = current
    return _data(zone, name, name, qtype, expected)


def _data(
    zone: dns.zone.Zone,
    source: dns.name.Name,
    owner: dns.name.Name,
    qtype: dns.rdatatype.RdataType,
    expected: Expected,
) -> dns.name.Name | None:
    rdataset = zone.get_rdataset(source, qtype)
    if rdataset:
        _add(expected.answer, owner, rdataset)
        return None
    cname = _get(zone, source, "CNAME")
    if cname:
        _add(expected.answer, owner, cname)
        target: dns.name.Name = cname[0].target
        return target
    _add_soa(zone, expected)
    return None


def _dname(
    owner: dns.name.Name,
    dname: dns.rdataset.Rdataset,
    name: dns.name.Name,
    qtype: dns.rdatatype.RdataType,
    expected: Expected,
) -> dns.name.Name | None:
    _add(expected.answer, owner, dname)
    suffix: dns.name.Name = dname[0].target
    try:
        target = dns.name.Name(name.labels[: -len(owner)] + suffix.labels)
    except dns.name.NameTooLong:
        expected.rcode = dns.rcode.YXDOMAIN
        return None
    cname = dns.rdataset.from_text("IN", "CNAME", dname.ttl, target.to_text())
    _add(expected.answer, name, cname)
    return None if qtype == dns.rdatatype.CNAME else target


def _referral(
    zone: dns.zone.Zone,
    cut: dns.name.Name,
    servers: dns.rdataset.Rdataset,
    expected: Expected,
    first: bool,
) -> None:
    if first:
        expected.authoritative = False
    _add(expected.authority, cut, servers)
    for server in servers:
        target: dns.name.Name = server.target
        if target.is_subdomain(cut):
            for rtype in "A", "AAAA":
                glue = _get(zone, target, rtype)
                if glue:
                    _add(expected.glue, target, glue)
