"""Answers: RFC 4592's own examples, the ways in which servers got them wrong, and an oracle."""

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sans_io.dns_asking import APEX, ask, load, responder
from tests.sans_io.dns_oracle import resolve, rows
from trio_services.sans_io.dns_answer import MAX_ALIASES
from trio_services.sans_io.dns_respond import Responder

RFC_4592 = """
$ORIGIN example.
$TTL 3600
@                   SOA   ns.example.com. hostmaster 1 2 3 4 60
                    NS    ns.example.com.
                    NS    ns.example.net.
*                   TXT   "this is a wildcard"
*                   MX    10 host1
sub.*               TXT   "this is not a wildcard"
host1               A     192.0.2.1
_ssh._tcp.host1     SRV   0 0 22 host1
_ssh._tcp.host2     SRV   0 0 22 host2
subdel              NS    ns.example.com.
                    NS    ns.example.net.
"""

NOERROR, NXDOMAIN = dns.rcode.NOERROR, dns.rcode.NXDOMAIN


def serve(body: str) -> Responder:
    """Serve the zone example. with an apex and `body`."""
    return responder(load("$ORIGIN example.\n$TTL 300\n" + APEX + body))


def kind(message: dns.message.Message) -> str:
    """Name a reply as RFC 2308 section 2 does."""
    if message.rcode() != NOERROR:
        return dns.rcode.to_text(message.rcode())
    if message.answer:
        return "answer"
    authority = {rrset.rdtype for rrset in message.authority}
    return "NODATA" if dns.rdatatype.SOA in authority else "referral"


@pytest.mark.parametrize(
    ("name", "rtype", "outcome"),
    [
        ("host3.example.", "MX", "answer"),
        ("host3.example.", "A", "NODATA"),
        ("foo.bar.example.", "TXT", "answer"),
        ("host1.example.", "MX", "NODATA"),
        ("sub.*.example.", "MX", "NODATA"),
        ("_telnet._tcp.host1.example.", "SRV", "NXDOMAIN"),
        ("host.subdel.example.", "A", "referral"),
        ("ghost.*.example.", "MX", "NXDOMAIN"),
        ("*.example.", "TXT", "answer"),
        ("_tcp.host1.example.", "TXT", "NODATA"),
        ("host2.example.", "TXT", "NODATA"),
        ("x.host1.example.", "TXT", "NXDOMAIN"),
    ],
)
def test_rfc_4592_section_2_2_1(name: str, rtype: str, outcome: str) -> None:
    """The examples of RFC 4592 come out as it says."""
    reply = ask(responder(load(RFC_4592)), name, rtype)
    assert kind(reply) == outcome
    assert all(rrset.name == dns.name.from_text(name) for rrset in reply.answer)


@pytest.mark.parametrize(
    ("body", "name", "outcome"),
    [
        ("f.*.e A 192.0.2.1", "x.e.example.", "NODATA"),
        ("f.*.e A 192.0.2.1", "y.x.e.example.", "NODATA"),
        ("f.*.e A 192.0.2.1", "f.x.e.example.", "NODATA"),
        ("* A 192.0.2.1\na.b.c A 192.0.2.2", "x.b.c.example.", "NXDOMAIN"),
        ("* A 192.0.2.1\na.b.c A 192.0.2.2", "x.c.example.", "NXDOMAIN"),
        ("* A 192.0.2.1\na.b.c A 192.0.2.2", "c.example.", "NODATA"),
        ("* A 192.0.2.1\na.b.c A 192.0.2.2", "x.y.z.example.", "answer"),
        ("*.b A 192.0.2.1\n* A 192.0.2.2", "b.example.", "NODATA"),
        ("*.*.b A 192.0.2.1", "x.b.example.", "NODATA"),
        ("*.*.b A 192.0.2.1", "x.*.b.example.", "answer"),
        ("d NS ns.d\nns.d A 192.0.2.3\n* A 192.0.2.1", "ns.d.example.", "referral"),
        ("d NS ns.d\nns.d A 192.0.2.3\n* A 192.0.2.1", "d.example.", "referral"),
    ],
)
def test_wildcards_and_empty_non_terminals(body: str, name: str, outcome: str) -> None:
    """What other servers got wrong for years is right: names that exist only above others."""
    assert kind(ask(serve(body), name)) == outcome


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "answers"),
    [
        ("in.example.", "A", NOERROR, ["CNAME", "A"]),
        ("in.example.", "AAAA", NOERROR, ["CNAME"]),
        ("in.example.", "CNAME", NOERROR, ["CNAME"]),
        ("in.example.", "ANY", NOERROR, ["CNAME"]),
        ("missing.example.", "A", NXDOMAIN, ["CNAME"]),
        ("out.example.", "A", NOERROR, ["CNAME"]),
        ("x.wild.example.", "A", NOERROR, ["CNAME", "A"]),
        ("deep.example.", "A", NOERROR, ["CNAME"]),
        ("self.example.", "A", NOERROR, ["CNAME"]),
        ("loop1.example.", "A", NOERROR, ["CNAME", "CNAME"]),
        ("x.old.example.", "A", NXDOMAIN, ["DNAME", "CNAME"]),
        ("host.old.example.", "A", NOERROR, ["DNAME", "CNAME", "A"]),
        ("host.old.example.", "CNAME", NOERROR, ["DNAME", "CNAME"]),
        ("old.example.", "DNAME", NOERROR, ["DNAME"]),
        ("old.example.", "A", NOERROR, []),
        ("x.round.example.", "A", NOERROR, ["DNAME", "CNAME"]),
    ],
)
def test_alias_chains(name: str, rtype: str, rcode: int, answers: list[str]) -> None:
    """The rcode is that of the last name of a chain, and what was found on the way is kept."""
    server = serve(
        "host A 192.0.2.1\nin CNAME host\nmissing CNAME nobody\nout CNAME www.example.com.\n"
        "*.wild CNAME host\ndeep CNAME x.cut\ncut NS ns.example.net.\nself CNAME self\n"
        "loop1 CNAME loop2\nloop2 CNAME loop1\nold DNAME example.\nround DNAME round\n"
    )
    reply = ask(server, name, rtype)
    assert reply.rcode() == rcode
    assert [dns.rdatatype.to_text(rrset.rdtype) for rrset in reply.answer] == answers
    assert reply.flags & dns.flags.AA


def test_made_up_aliases_are_what_was_asked_for() -> None:
    """A query for CNAME, or ANY, below a DNAME ends with the CNAME that it makes."""
    server = serve("old DNAME new\n")
    for rtype in "CNAME", "ANY":
        reply = ask(server, "x.old.example.", rtype)
        assert (reply.rcode(), len(reply.answer), len(reply.authority)) == (NOERROR, 2, 0)


def test_long_chains_stop() -> None:
    """A chain of aliases is followed to its limit and no further."""
    server = serve("".join(f"n{i} CNAME n{i + 1}\n" for i in range(100)))
    assert len(ask(server, "n0.example.").answer) == MAX_ALIASES + 1
    server = serve(
        "".join(f"n{i} CNAME n{i + 1}\n" for i in range(MAX_ALIASES)) + "n16 A 192.0.2.1"
    )
    assert ask(server, "n0.example.").answer[-1].rdtype == dns.rdatatype.A


def test_dname_whose_target_is_too_long() -> None:
    """RFC 6672 section 2.2: YXDOMAIN with the DNAME; a target of exactly 255 bytes is followed."""
    label = "a" * 60
    server = serve(f"d DNAME {label}.{label}.{label}\n")
    fits = "b" * (255 - 3 * 61 - len("example") - 2 - 1)
    assert ask(server, f"{fits}.d.example.").rcode() == NXDOMAIN
    reply = ask(server, f"{fits}b.d.example.")
    assert reply.rcode() == dns.rcode.YXDOMAIN
    assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.DNAME]


def test_a_referral_is_complete() -> None:
    """A referral has the name servers and their glue, and no claim to authority."""
    server = serve(
        "d NS ns.d\nd NS ns.other\nd NS ns\nns A 192.0.2.1\nns.d A 192.0.2.2\nns.d AAAA ::2\n"
        "other NS ns.other\nns.other A 192.0.2.3\n"
    )
    for name in "d.example.", "x.y.d.example.":
        reply = ask(server, name)
        assert not reply.flags & dns.flags.AA
        assert [(r.name.to_text(), len(r)) for r in reply.authority] == [("d.example.", 3)]
        assert {r.name.to_text() for r in reply.additional} == {
            "ns.d.example.",
            "ns.other.example.",
            "ns.example.",
        }


def test_the_parent_answers_for_ds() -> None:
    """DS at a cut is the parent's: an answer or its NODATA, also if the child is served here."""
    parent = (
        "$ORIGIN example.\n$TTL 300\n" + APEX + "signed NS ns\nsigned DS 1 8 2 " + "0" * 64 + "\n"
        "plain NS ns\nserved NS ns\nserved2 NS ns\nserved2 DS 1 8 2 " + "0" * 64 + "\n"
    )
    child = "$ORIGIN served.example.\n$TTL 300\n" + APEX
    child2 = "$ORIGIN served2.example.\n$TTL 300\n" + APEX
    server = responder(load(parent, child, child2))
    for name, found in ("signed", 1), ("plain", 0), ("served", 0), ("served2", 1):
        reply = ask(server, f"{name}.example.", "DS")
        assert reply.flags & dns.flags.AA
        assert len(reply.answer) == found
        if not found:
            assert reply.authority[0].name.to_text() == "example."
    assert kind(ask(server, "x.signed.example.", "DS")) == "referral"
    assert ask(server, "served.example.", "NS").flags & dns.flags.AA
    assert ask(server, "x.served.example.").authority[0].name.to_text() == "served.example."


def test_any_gets_the_smallest_rrset() -> None:
    """RFC 8482: ANY gets one RRset, over both transports, and is no way to amplify."""
    server = serve("a TXT " + " ".join(["x" * 200] * 5) + "\na A 192.0.2.1\n")
    for tcp in True, False:
        reply = ask(server, "a.example.", "ANY", tcp=tcp)
        assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.A]
    assert kind(ask(server, "nobody.example.", "ANY")) == "NXDOMAIN"


def test_unknown_types_are_data_like_others() -> None:
    """RFC 3597: a type nobody knows is answered if it is there, and NODATA if it is not."""
    server = serve("a TYPE65280 \\# 3 010203\n")
    assert ask(server, "a.example.", "TYPE65280").answer[0][0].to_text() == "\\# 3 010203"
    assert kind(ask(server, "a.example.", "TYPE65281")) == "NODATA"
    assert kind(ask(server, "b.example.", "TYPE65281")) == "NXDOMAIN"


def test_https_is_not_folded() -> None:
    """HTTPS is type 0x0041, which is "A" in ASCII: folding case must not make it 0x0061."""
    reply = ask(serve("a HTTPS 1 . alpn=h2\n"), "A.EXAMPLE.", "HTTPS")
    assert reply.answer[0].rdtype == dns.rdatatype.HTTPS


def test_labels_hold_any_byte() -> None:
    """Names are compared as wire bytes: a dot or a zero within a label separates nothing."""
    server = serve("a\\.b A 192.0.2.1\n\\000 A 192.0.2.2\n\\000.x A 192.0.2.3\n*.w A 192.0.2.4")
    assert kind(ask(server, "a\\.b.example.")) == "answer"
    assert kind(ask(server, "b.example.")) == "NXDOMAIN"
    assert ask(server, "\\000.example.").answer[0][0].to_text() == "192.0.2.2"
    assert ask(server, "\\000.x.example.").answer[0][0].to_text() == "192.0.2.3"
    assert kind(ask(server, "\\000\\000.example.")) == "NXDOMAIN"
    assert ask(server, "a\\000b.\\000.w.example.").answer[0][0].to_text() == "192.0.2.4"


def test_the_root_can_be_a_zone() -> None:
    """A root zone answers for every name."""
    server = responder(load("$ORIGIN .\n$TTL 300\n" + APEX + "ns A 192.0.2.1\ncom NS ns\n"))
    assert kind(ask(server, ".", "SOA")) == "answer"
    assert kind(ask(server, "org.")) == "NXDOMAIN"
    assert kind(ask(server, "www.com.")) == "referral"


def test_an_inner_zone_hides_what_the_outer_says() -> None:
    """Glue of the outer zone below the apex of a served inner zone is not an answer."""
    outer = "$ORIGIN example.\n$TTL 300\n" + APEX + "a.b NS ns.a.b\nns.a.b A 192.0.2.1\n"
    inner = "$ORIGIN a.b.example.\n$TTL 300\n" + APEX + "only A 192.0.2.2\n"
    for texts in (outer, inner), (inner, outer):
        server = responder(load(*texts))
        assert kind(ask(server, "ns.a.b.example.")) == "NXDOMAIN"
        assert kind(ask(server, "only.a.b.example.")) == "answer"
        assert kind(ask(server, "b.example.")) == "NODATA"
        assert ask(server, "x.b.example.").authority[0].name.to_text() == "example."


def test_an_inner_zone_below_a_cut_of_the_outer() -> None:
    """Where the outer zone has given names away it says nothing about them, DS included."""
    outer = "$ORIGIN example.\n$TTL 300\n" + APEX + "b NS ns\n"
    inner = "$ORIGIN a.x.b.example.\n$TTL 300\n" + APEX + "host A 192.0.2.1\n"
    server = responder(load(outer, inner))
    assert kind(ask(server, "x.b.example.")) == "referral"
    assert kind(ask(server, "host.a.x.b.example.")) == "answer"
    reply = ask(server, "a.x.b.example.", "DS")
    assert reply.authority[0].name.to_text() == "a.x.b.example."


LABELS = st.sampled_from(["a", "b", "c", "*"])
OWNERS = st.lists(LABELS, max_size=3).map(".".join).map(lambda text: text or "@")
TARGETS = st.one_of(OWNERS, st.sampled_from(["x.b", "a.example.com.", "ns.in.a", "in.a"]))
DATA = st.one_of(
    st.tuples(st.just("A"), st.integers(1, 3).map(lambda i: f"192.0.2.{i}")),
    st.tuples(st.just("TXT"), st.just('"text"')),
    st.tuples(st.just("DS"), st.just("1 8 2 " + "0" * 64)),
    st.tuples(st.sampled_from(["CNAME", "DNAME", "NS", "CNAME"]), TARGETS),
)
RECORDS = st.lists(st.tuples(OWNERS, DATA), max_size=12)
QUERY_NAMES = st.lists(st.sampled_from(["a", "b", "c", "*", "x", "in"]), max_size=4)
QUERY_TYPES = st.sampled_from(["A", "TXT", "NS", "CNAME", "DNAME", "DS", "SOA", "AAAA"])


def loadable(records: list[tuple[str, tuple[str, str]]]) -> str:
    """Leave out the records that the rules for zones forbid beside those before them."""
    kept: dict[str, list[tuple[str, str]]] = {"@": [("NS", "ns")], "ns": [("A", "192.0.2.9")]}
    for owner, (rtype, data) in records:
        here = kept.get(owner, [])
        types = {t for t, _ in here}
        above = owner.split(".")
        uppers = {"@", *(".".join(above[i:]) for i in range(1, len(above)))} - {owner}
        if (
            (rtype, data) in here
            or ("CNAME" in types or (rtype == "CNAME" and types))
            or (rtype == "DNAME" and ("DNAME" in types or owner == "@"))
            or (rtype == "DS" and owner == "@")
            or (rtype in ("NS", "DNAME") and owner.startswith("*"))
            or any(t == "DNAME" for upper in uppers for t, _ in kept.get(upper, []))
            or (rtype == "DNAME" and any(other.endswith("." + owner) for other in kept))
            or (rtype == "DNAME" and "NS" in types)
            or (rtype == "NS" and "DNAME" in types)
        ):
            continue
        kept.setdefault(owner, []).append((rtype, data))
    lines = [f"{owner} {rtype} {data}" for owner, here in kept.items() for rtype, data in here]
    soa = "@ SOA ns hostmaster 1 3600 600 604800 60\n"
    return "$TTL 300\n" + soa + "\n".join(lines) + "\n"


@settings(max_examples=400, deadline=None)
@given(RECORDS, st.none() | RECORDS, st.lists(st.tuples(QUERY_NAMES, QUERY_TYPES), min_size=5))
def test_answers_are_those_of_a_naive_resolver(
    outer: list[tuple[str, tuple[str, str]]],
    inner: list[tuple[str, tuple[str, str]]] | None,
    questions: list[tuple[list[str], str]],
) -> None:
    """Whatever the zones say, the compiled tree answers like RFC 1034 read literally."""
    delegation = [] if inner is None else [("in.a", ("NS", "ns"))]
    texts = ["$ORIGIN example.\n" + loadable(delegation + outer)]
    if inner is not None:
        texts.append("$ORIGIN in.a.example.\n" + loadable(inner))
    server = responder(load(*texts))
    zones = [dns.zone.from_text(text, relativize=False, check_origin=False) for text in texts]
    for labels, rtype in questions:
        name = dns.name.from_text(".".join([*labels, "example."]))
        expected = resolve(zones, name, dns.rdatatype.from_text(rtype))
        reply = ask(server, name.to_text(), rtype)
        assert reply.rcode() == expected.rcode
        assert bool(reply.flags & dns.flags.AA) == expected.authoritative
        assert rows(reply.answer) == expected.answer
        assert rows(reply.authority) == expected.authority
        assert rows(reply.additional) >= expected.glue
