"""Properties of the responder over generated packets: fast like general, never an exception."""

import struct

import dns.flags
import dns.message
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sans_io.dns_asking import APEX, COOKIE, OPT, load, make_query, responder
from trio_services.sans_io.dns_tree import Zones
from trio_services.sans_io.dns_zone import load_builtin_zones

BUILTIN = load_builtin_zones()
ZONES = load(
    "$ORIGIN example.\n$TTL 300\n"
    + APEX
    + "a A 192.0.2.1\na AAAA ::1\nx.y.b TXT t\n*.w A 192.0.2.2\n"
    "*.v CNAME a\nc CNAME a\nd NS ns.d\nns.d A 192.0.2.3\ns NS ns\ns DS 1 8 2 " + "0" * 64 + "\n"
    "e DNAME b\nf.*.g A 192.0.2.4\nbig TXT " + " ".join(["x" * 250] * 6) + "\n",
    "$ORIGIN z.a.example.\n$TTL 300\n" + APEX,
    hosts=["192.0.2.9 host other.lan\n::9 host"],
)
WITH_DEFAULT = Zones(ZONES.names, BUILTIN.unknown, ZONES.parent_negatives)
LABELS = st.sampled_from(
    [
        *map(str.encode, "abcdefgsvwxyz*A"),
        b"big",
        b"ns",
        b"host",
        b"lan",
        b"other",
        b"\0",
        b"n" * 63,
        b"n" * 64,
    ]
)
NAMES = st.builds(
    lambda labels, end: b"".join(bytes([len(label)]) + label for label in labels) + end,
    st.lists(LABELS, max_size=5),
    st.sampled_from([b"\7example\0", b"\7EXAmple\0", b"\0"]),
)
OPTS = st.one_of(
    st.just(b""),
    st.just(OPT),
    st.just(b"\1" + OPT[1:]),
    st.builds(
        lambda size, flags, options: (
            struct.pack("!BHHIH", 0, 41, size, flags, len(options)) + options
        ),
        st.sampled_from([0, 512, 1232, 4096]),
        st.sampled_from([0, 0x8000, 0x10000, 0x7FFF, 0xFF000000]),
        st.sampled_from([b"", b"\0\x0a\0\x0812345678", b"\0\3\0\0\0\3\0\0", b"\0", b"\0\3\0\1"]),
    ),
)
QUERIES = st.builds(
    lambda name, qtype, qclass, opt, flags, tail: (
        make_query(name, qtype, qclass=qclass, opt=opt, flags=flags) + tail
    ),
    NAMES,
    st.sampled_from([1, 2, 5, 6, 12, 16, 28, 39, 43, 65, 255, 0, 41, 252, 300]),
    st.sampled_from([1, 1, 1, 1, 3, 255]),
    OPTS,
    st.sampled_from([0x0000, 0x0100, 0x0130, 0x0780, 0x0010]),
    st.sampled_from([b"", b"", b"", b"x"]),
)
MUTATED = st.builds(
    lambda packet, at, junk, cut: (packet[: at % len(packet)] + junk + packet[at % len(packet) :])[
        : len(packet) + cut
    ],
    QUERIES,
    st.integers(0, 400),
    st.binary(max_size=3),
    st.integers(-30, 3),
)


@settings(max_examples=2000, deadline=None)
@given(QUERIES | MUTATED, st.sampled_from([ZONES, WITH_DEFAULT]))
def test_fast_and_general_replies_are_the_same_bytes(packet: bytes, zones: Zones) -> None:
    """The fast path and the cache change what a reply costs, never what it is."""
    server = responder(zones)
    general = responder(zones)._general_reply(packet, udp=True)
    fast = server._fast_reply(packet)
    assert fast in (None, general)
    assert server.respond_udp(packet) == general
    assert server.respond_udp(packet) == general
    over_tcp = responder(zones)._general_reply(packet, udp=False)
    assert server.respond_tcp(packet) == over_tcp


def test_the_fast_path_is_taken() -> None:
    """The usual queries do take the fast path: known, absent, wildcard and unknown names."""
    server = responder(WITH_DEFAULT)
    for name in "a.example.", "no.example.", "x.w.example.", "host.", "else.where.", "y.b.example.":
        for qtype in 1, 28:
            for opt in b"", OPT, COOKIE % 1:
                assert server._fast_reply(make_query(name, qtype, opt=opt)) is not None


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=600) | MUTATED | QUERIES)
def test_any_bytes_get_a_well_formed_reply_or_none(packet: bytes) -> None:
    """Nothing raises; a reply has the id of its query, parses, and is within the limit."""
    server = responder(WITH_DEFAULT)
    for respond, limit in (server.respond_udp, 1232), (server.respond_tcp, 65_535):
        reply = respond(packet)
        if reply is None:
            assert len(packet) < 12 or packet[2] & 0x80
            continue
        assert reply[:2] == packet[:2]
        assert len(reply) <= limit
        message = dns.message.from_wire(reply)
        assert message.flags & dns.flags.QR
        assert not message.flags & (dns.flags.RA | dns.flags.AD | dns.flags.CD | 0x0040)
        if packet[10:12] == b"\0\0":
            assert message.edns < 0
        if message.edns < 0 and respond == server.respond_udp:
            assert len(reply) <= 512
    assert server.statistics().errors == 0
