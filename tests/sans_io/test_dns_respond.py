"""The responder: any bytes in, a well-formed reply or nothing out; fast and general alike."""

import struct
from ipaddress import IPv4Address, IPv6Address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from tests.sans_io.dns_asking import APEX, COOKIE, OPT, ask, load, make_query, responder
from trio_services.sans_io import dns_respond
from trio_services.sans_io.dns_message import Edns, Rcode
from trio_services.sans_io.dns_respond import MAX_CACHED_REPLIES, Responder
from trio_services.sans_io.dns_tree import RRset, Zones
from trio_services.sans_io.dns_zone import load_builtin_zones

BUILTIN = load_builtin_zones()


def rcode_of(reply: bytes | None) -> int:
    """Return the extended rcode of a reply that has to be there."""
    assert reply is not None
    return dns.message.from_wire(reply).rcode()


# --- which queries get what ------------------------------------------------------------------


@pytest.mark.parametrize("length", range(12))
def test_packets_without_a_header_get_nothing(length: int) -> None:
    """What is too short to have an id is dropped, and ends a connection."""
    server = responder(BUILTIN)
    packet = make_query("alpha.example.")[:length]
    assert server.respond_udp(packet) is None
    assert server.respond_tcp(packet) is None
    assert server.statistics().dropped == server.statistics().queries == 2


@pytest.mark.parametrize("opcode", range(16))
def test_replies_get_nothing(opcode: int) -> None:
    """A packet with QR set is never answered, or two servers would talk forever."""
    packet = make_query("alpha.example.", flags=0x8000 | opcode << 11)
    assert responder(BUILTIN).respond_udp(packet) is None
    assert responder(BUILTIN).respond_tcp(packet) is None


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    """Only QUERY is served."""
    packet = make_query("alpha.example.", flags=opcode << 11)
    assert rcode_of(responder(BUILTIN).respond_udp(packet)) == Rcode.NOTIMP


@pytest.mark.parametrize(
    ("qtype", "rcode"),
    [
        (0, Rcode.FORMERR),
        (41, Rcode.FORMERR),
        (249, Rcode.FORMERR),
        (250, Rcode.FORMERR),
        (251, Rcode.REFUSED),
        (252, Rcode.REFUSED),
        (253, Rcode.NOTIMP),
        (254, Rcode.NOTIMP),
        (255, Rcode.NOERROR),
        (128, Rcode.NOERROR),
        (65535, Rcode.NOERROR),
    ],
)
@pytest.mark.parametrize(
    "name", ["alpha.example.", "x.wild.example.", "elsewhere.", "www.example."]
)
def test_types_that_are_no_data(name: str, qtype: int, rcode: Rcode) -> None:
    """Types for messages are errors, transfers are refused, unknown types are just not there."""
    for opt in b"", OPT:
        reply = responder(BUILTIN).respond_udp(make_query(name, qtype, opt=opt))
        assert rcode_of(reply) == rcode


@pytest.mark.parametrize("qclass", [0, 3, 254, 255, 0x0101])
@pytest.mark.parametrize("name", ["alpha.example.", "nobody.example.", "version.bind."])
def test_other_classes_are_refused(name: str, qclass: int) -> None:
    """We serve class IN and nothing else."""
    reply = responder(BUILTIN).respond_udp(make_query(name, 16, qclass=qclass))
    assert rcode_of(reply) == Rcode.REFUSED


def test_names_that_only_seem_to_end() -> None:
    """A zero byte within a label, a label of 64 bytes, a name of 256: none is taken for a name."""
    longest = (b"\x3f" + b"n" * 63) * 3 + b"\x3d" + b"n" * 61 + b"\0"
    too_long = longest[:192] + b"\x3e" + b"n" * 62 + b"\0"
    header = make_query("a.")[:12]
    for body, rcode in [
        (longest + b"\0\1\0\1", Rcode.NOERROR),
        (too_long + b"\0\1\0\1", Rcode.FORMERR),
        (b"\x40" + b"n" * 64 + b"\0\0\1\0\1", Rcode.FORMERR),
        (b"\5a\0\0\1\0\1", Rcode.FORMERR),
    ]:
        assert rcode_of(responder(BUILTIN).respond_udp(header + body)) == rcode


def test_unknown_names_are_refused_without_authority() -> None:
    """Without a zone or a default address: REFUSED, no AA, no SOA, no referral to the root."""
    for opt in b"", OPT:
        packet = make_query("example.com.", opt=opt)
        reply = responder(load_builtin_zones([])).respond_udp(packet)
        assert reply is not None
        assert reply[2:12] == b"\x81\x05\0\1\0\0\0\0\0" + bytes([bool(opt)])
        assert reply[12:] == packet[12:]


def test_the_default_address_stays_out_of_zones() -> None:
    """Names in a served zone that are not there are NXDOMAIN, default address or not."""
    zones = load_builtin_zones([IPv4Address("192.0.2.7"), IPv6Address("::7")])
    server = responder(zones)
    assert ask(server, "nobody.example.").rcode() == dns.rcode.NXDOMAIN
    assert ask(server, "example.com.").answer[0][0].to_text() == "192.0.2.7"
    assert ask(server, "example.com.", "AAAA").answer[0][0].to_text() == "::7"
    assert ask(server, "example.com.", "TXT").authority[0].rdtype == dns.rdatatype.SOA
    only_v6 = responder(load_builtin_zones([IPv6Address("::7")]))
    assert not ask(only_v6, "example.com.", "A").answer


def test_questions_come_back_as_they_were_asked() -> None:
    """The case of a question is kept, and its bytes, whatever the outcome."""
    names = "aLPHa.ExamplE.", "nOBOdy.eXample.", "X.wILd.example.", "eLSEwhere.", "wWw.example."
    for name in names:
        for qtype in 1, 15, 252:
            packet = make_query(name, qtype)
            reply = responder(BUILTIN).respond_udp(packet)
            assert reply is not None
            assert reply[12:].startswith(packet[12:])


# --- EDNS ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alpha.example.", "no.example.", "www.example.", "else.where."])
@pytest.mark.parametrize("qtype", [1, 41, 252, 99])
def test_opt_comes_back_exactly_if_it_was_sent(name: str, qtype: int) -> None:
    """Every reply to a query with OPT has one, with DO copied; no other reply has."""
    options = b"\0\x03\0\0" + b"\xff\xff\0\2ab"
    for sent, expected in [
        (b"", b""),
        (OPT, Edns(0, 0, False).reply_record()),
        (OPT[:7] + b"\x80\0" + OPT[9:], Edns(0, 0, True).reply_record()),
        (OPT[:7] + b"\x7f\xff" + OPT[9:], Edns(0, 0, False).reply_record()),
        (OPT[:5] + b"\x99" + OPT[6:], Edns(0, 0, False).reply_record()),
        (OPT[:-1] + bytes([len(options)]) + options, Edns(0, 0, False).reply_record()),
    ]:
        for respond in responder(BUILTIN).respond_udp, responder(BUILTIN).respond_tcp:
            reply = respond(make_query(name, qtype, opt=sent))
            assert reply is not None
            assert reply[11] == bool(sent)
            assert reply.endswith(expected)


def test_other_versions_of_edns() -> None:
    """BADVERS, with our version 0 and without an answer, however the query is."""
    for name in "alpha.example.", "no.example.":
        for version in 1, 255:
            sent = OPT[:6] + bytes([version]) + OPT[7:]
            reply = responder(BUILTIN).respond_udp(make_query(name, opt=sent))
            assert reply is not None
            assert rcode_of(reply) == Rcode.BADVERS
            assert reply[2:12] == bytes.fromhex("8100 0001 0000 0000 0001")


@pytest.mark.parametrize("size", [0, 100, 512, 600, 1231, 1232, 4096, 65535])
@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize("alias", [False, True])
def test_truncation_is_exact_to_the_byte(size: int, edns: bool, alias: bool) -> None:
    """A reply of exactly the limit is sent whole; one byte more is cut to question and OPT."""
    limit = min(max(size, 512), 1232) if edns else 512
    opt = OPT[:3] + struct.pack("!H", size) + OPT[5:] if edns else b""
    packet = make_query("c.example." if alias else "a.example.", 16, opt=opt)
    fixed = len(packet) + 12 + 1  # owner to length of data, and the length of one string
    if alias:
        fixed += 12 + len(b"\1a\7example\0")
    for excess in 0, 1:
        room = limit + excess - fixed
        parts = []
        while room > 256:
            parts.append(200)
            room -= 201
        parts.append(room)
        text = " ".join(f'"{"x" * part}"' for part in parts)
        server = responder(load(f"$ORIGIN example.\n$TTL 300\n{APEX}a TXT {text}\nc CNAME a"))
        reply = server.respond_udp(packet)
        assert reply is not None
        if excess:
            assert reply[2] & 0x02
            assert reply[6:12] == b"\0\0\0\0\0" + bytes([edns])
            assert reply[12:] == (packet[12:-11] + OPT if edns else packet[12:])
            whole = server.respond_tcp(packet)
            assert whole is not None
            assert len(whole) == limit + 1
            assert server.statistics().truncated == 1
        else:
            assert len(reply) == limit
            assert not reply[2] & 0x02


def test_referrals_drop_what_they_may_and_truncate_what_they_must() -> None:
    """Glue below the cut must be complete or TC set; other glue goes without saying."""
    hosts = "".join(f"d NS ns{i}.d\nns{i}.d AAAA ::{i}\n" for i in range(8))
    spare = "".join(f"d NS n{i}\nn{i} AAAA ::{i}\n" for i in range(4))
    packet = make_query("x.d.example.")
    server = responder(load("$ORIGIN example.\n$TTL 300\n" + APEX + "d NS ns1\nns1 A 192.0.2.1"))
    reply = dns.message.from_wire(server.respond_udp(packet) or b"")
    assert len(reply.additional) == 1
    zone = "$ORIGIN example.\n$TTL 300\n" + APEX + "".join(hosts.splitlines(True)[:10]) + spare
    reply = dns.message.from_wire(responder(load(zone)).respond_udp(packet) or b"")
    assert not reply.flags & dns.flags.TC
    assert {rrset.name.to_text()[:2] for rrset in reply.additional} == {"ns"}
    assert len(reply.additional) == 5
    many = "$ORIGIN example.\n$TTL 300\n" + APEX + hosts
    wire = responder(load(many)).respond_udp(packet)
    assert wire is not None
    assert wire[2] & 0x02
    assert (
        len(dns.message.from_wire(responder(load(many)).respond_tcp(packet) or b"").additional) == 8
    )


def test_what_does_not_fit_is_not_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram for an alias to 4,000 records, or a cut, costs no look at them; TCP gets all."""
    addresses = [f"192.12.{i >> 8}.{i & 255}" for i in range(4000)]  # 0xC00C, as OWNER is
    lines = "al CNAME big\n" + "".join(f"big A {address}\n" for address in addresses)
    lines += "".join(f"d NS ns{i}\n" for i in range(1000))
    server = responder(load("$ORIGIN example.\n$TTL 300\n" + APEX + lines))
    rendered: list[int] = []
    owned_by = RRset.owned_by

    def watched(rrset: RRset, offset: int) -> bytes:
        rendered.append(rrset.count)
        return owned_by(rrset, offset)

    monkeypatch.setattr(RRset, "owned_by", watched)
    for name in "al.example.", "big.example.", "x.d.example.":
        for opt in b"", OPT:
            reply = server.respond_udp(make_query(name, opt=opt))
            assert reply is not None
            assert reply[2] & 0x02
            assert len(reply) == len(make_query(name, opt=opt))
    assert set(rendered) == {1}
    whole = dns.message.from_wire(server.respond_tcp(make_query("al.example.")) or b"")
    assert whole.answer[1].name == dns.name.from_text("big.example.")
    assert [rdata.to_text() for rdata in whole.answer[1]] == addresses


def test_a_reply_too_large_for_tcp() -> None:
    """What no message can hold is SERVFAIL over TCP, and truncated over UDP."""
    record = " ".join([f'"{"x" * 255}"'] * 200)
    parts = "".join(f'big TXT "{i}" {record}\n' for i in range(1))
    filler = "big TXT " + " ".join([f'"{"y" * 255}"'] * 53) + "\n"
    longest = ".".join(["n" * 60] * 3)
    zone = f"$ORIGIN example.\n$TTL 300\n{APEX}{longest} CNAME big\n{parts}{filler}"
    server = responder(load(zone))
    wire = server.respond_tcp(make_query("big.example.", 16))
    assert wire is not None
    assert 64_000 < len(wire) <= 65_535
    chain = "".join(f"{i}.{longest} CNAME {i + 1}.{longest}\n" for i in range(10))
    server = responder(load(zone + chain + f"10.{longest} CNAME big\n"))
    packet = make_query(f"0.{longest}.example.", 16, opt=OPT)
    assert rcode_of(server.respond_tcp(packet)) == Rcode.SERVFAIL
    reply = server.respond_udp(packet)
    assert reply is not None
    assert reply[2] & 0x02
    assert server.statistics().replies[Rcode.SERVFAIL] == 1


# --- the cache and the counters --------------------------------------------------------------


def test_a_hit_is_the_same_reply_with_another_id() -> None:
    """The second time a packet comes its reply is looked up, and differs in its id only."""
    server = responder(BUILTIN)
    for name, opt in ("alpha.example.", b""), ("alpha.example.", OPT), ("www.example.", OPT):
        packet = make_query(name, opt=opt)
        first = server.respond_udp(packet)
        second = server.respond_udp(b"zz" + packet[2:])
        third = server.respond_tcp(b"yy" + packet[2:])
        assert first is not None
        assert second == b"zz" + first[2:]
        assert third == b"yy" + first[2:]
    counters = server.statistics()
    assert counters.queries == counters.replies[Rcode.NOERROR] == 9
    assert (counters.cache_hits, counters.cached) == (6, 3)


def test_new_zones_answer_at_once() -> None:
    """After a reload no reply is of the old zones."""
    server = responder(BUILTIN)
    packet = make_query("alpha.example.")
    server.respond_udp(packet)
    server.replace_zones(load("$ORIGIN example.\n$TTL 300\n" + APEX))
    assert rcode_of(server.respond_udp(packet)) == Rcode.NXDOMAIN
    assert server.statistics().cached == 0


def test_what_a_peer_makes_up_is_not_kept() -> None:
    """Random names, cookies and mixed case cost no memory: 200,000 of them leave nothing."""
    server = responder(BUILTIN)
    for i in range(50_000):
        label = b"%08d" % i
        server.respond_udp(make_query(b"\x08" + label + b"\7example\0"))
        server.respond_udp(make_query(b"\x08" + label + b"\4wild\7example\0"))
        server.respond_udp(make_query(b"\x08" + label + b"\3com\0"))
        server.respond_udp(make_query(b"\5alpha\7example\0", opt=COOKIE % i))
    for name in "ALPHA.example.", "WWW.example.":
        server.respond_udp(make_query(name))
    server.respond_udp(make_query("www.example.", opt=COOKIE % 1))
    for name in "alpha.example.", "www.example.":
        server.respond_udp(make_query(name) + b"trailing")
    counters = server.statistics()
    assert counters.cached == counters.cache_hits == 0
    assert counters.queries == 200_005
    assert counters.replies[Rcode.NXDOMAIN] == 50_000
    assert len(server._zones.names) == len(BUILTIN.names)


def test_the_cache_is_bounded() -> None:
    """Variants of queries for a name that exists are kept, up to the limit and not beyond."""
    server = responder(BUILTIN)
    for size in range(2 * MAX_CACHED_REPLIES + 10):
        opt = OPT[:3] + struct.pack("!H", size) + OPT[5:]
        server.respond_udp(make_query("alpha.example.", opt=opt))
        assert server.statistics().cached <= MAX_CACHED_REPLIES
    assert server.statistics().cached == 10


def test_a_bug_costs_one_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of ours is SERVFAIL to the peer, told to on_error, counted, and over."""
    errors: list[Exception] = []
    server = Responder(BUILTIN, on_error=errors.append)
    bug = RuntimeError("a bug")

    def broken(zones: Zones, name: bytes, qtype: int, room: int) -> None:
        raise bug

    with monkeypatch.context() as patch:
        patch.setattr(dns_respond, "answer", broken)
        packet = make_query("www.example.")
        for respond in server.respond_udp, server.respond_tcp:
            reply = respond(packet)
            assert rcode_of(reply) == Rcode.SERVFAIL
            assert reply is not None
            assert reply[12:] == packet[12:]
    assert errors == [bug, bug]
    assert server.statistics().errors == server.statistics().replies[Rcode.SERVFAIL] == 2
    assert rcode_of(server.respond_udp(packet)) == Rcode.NOERROR


def test_every_packet_is_counted_once() -> None:
    """The counters add up: each packet is one reply of one rcode, or dropped."""
    zone = "$ORIGIN example.\n$TTL 300\n" + APEX + "alpha A 192.0.2.1\ndangling CNAME no\n"
    server = responder(load(zone))
    packets = {
        Rcode.NOERROR: make_query("alpha.example."),
        Rcode.NXDOMAIN: make_query("no.example."),
        Rcode.REFUSED: make_query("example.com."),
        Rcode.FORMERR: make_query(b"\xc0\x0c"),
        Rcode.NOTIMP: make_query("a.", flags=0x2800),
        Rcode.BADVERS: make_query("a.", opt=OPT[:6] + b"\1" + OPT[7:]),
    }
    for rcode, packet in packets.items():
        for _ in range(3):
            assert rcode_of(server.respond_udp(packet)) == rcode
    for _ in range(2):
        server.respond_udp(make_query("dangling.example."))
    server.respond_udp(b"")
    counters = server.statistics()
    assert counters.replies == {r: 3 * (r in packets) + 2 * (r == Rcode.NXDOMAIN) for r in Rcode}
    assert (counters.queries, counters.cache_hits, counters.dropped) == (21, 2, 1)
