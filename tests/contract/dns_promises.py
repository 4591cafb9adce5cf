"""What the DNS server promises, asked by dnspython, by dig, and by bytes that are no query."""

import shutil
import signal
import socket
import struct

import dns.asyncbackend
import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
import trio
from services_lab.variants import ANY_PORT

from tests.contract.promises import Subject, promise, written
from tests.system.serving import PATIENCE, is_closed, read_all, run
from tests.system.serving import addresses as ask_addresses
from trio_services.settings import Address

KNOWN = {"alpha.example": "192.0.2.10", "beta.example": "192.0.2.20", "gamma.example": "192.0.2.30"}
"""Names that every variant has, the originals too."""

FENCE = dns.message.make_query("gamma.example", "A", id=0xFE0C).to_wire()
"""A query whose reply shows that whatever was sent before it has been dealt with."""

GARBAGE = {
    "nothing": b"",
    "a byte": b"\x00",
    "half a header": bytes(11),
    "no question": bytes(12),
    "a question that is not there": struct.pack("!6H", 1, 0, 1, 0, 0, 0),
    "a name that does not end": struct.pack("!6H", 2, 0, 1, 0, 0, 0) + b"\x3f" + b"x" * 63,
    "a label longer than the packet": struct.pack("!6H", 3, 0, 1, 0, 0, 0) + b"\x20abc",
    "a name that points at itself": struct.pack("!6H", 4, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
    "half a type": struct.pack("!6H", 5, 0, 1, 0, 0, 0) + b"\1x\0\0",
    "counts without records": struct.pack("!6H", 6, 0, 1, 9, 9, 9) + b"\1x\0\0\1\0\1",
    "noise": bytes(range(256)) * 4,
}

BIG_ZONE = "$ORIGIN big.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 604800 30\n  NS ns\n" + "".join(
    f'long TXT "{number:03} {"x" * 196}"\n' for number in range(20)
)
"""4 KiB of records at one name: too much for any datagram."""


async def ask(
    server: Address, name: str, record_type: str, *, tcp: bool = False, edns: bool = False
) -> dns.message.Message:
    """Send one query by dnspython, which checks that the reply belongs to it."""
    query = dns.message.make_query(name, record_type, use_edns=0 if edns else None)
    over = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    backend = dns.asyncbackend.get_backend("trio")
    return await over(query, server.host, PATIENCE, server.port, backend=backend)


def records(message: dns.message.Message) -> list[str]:
    """Return the answer's records as `TYPE data`, sorted."""
    return sorted(
        f"{dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}"
        for rrset in message.answer
        for rdata in rrset
    )


async def replies(server: Address, *packets: bytes) -> list[bytes]:
    """Send packets from one UDP socket; return the replies that they got in all, which may be none.

    On loopback datagrams of one socket arrive in order, so a known query ends the wait.
    """
    received = []
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.connect((server.host, server.port))
        for packet in (*packets, FENCE):
            await sock.send(packet)
        with trio.fail_after(PATIENCE):
            while (reply := await sock.recv(65535))[:2] != FENCE[:2]:
                received.append(reply)
    return received


async def frames(server: Address, *pieces: bytes, count: int) -> list[bytes]:
    """Send pieces over one TCP connection, end it, and return the `count` messages that come."""
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream(server.host, server.port) as stream:
            for piece in pieces:
                await stream.send_all(piece)
            received = b""
            while not _whole(received, count):
                data = await stream.receive_some()
                assert data, f"the stream ended within {received!r}"
                received += data
    return _whole(received, count)


def _whole(data: bytes, count: int) -> list[bytes]:
    """Return the `count` messages that `data` holds, each behind its length; else nothing."""
    messages: list[bytes] = []
    while len(data) >= 2 and len(messages) < count:
        size = int.from_bytes(data[:2])
        messages.append(data[2 : 2 + size])
        if len(messages[-1]) < size:
            return []
        data = data[2 + size :]
    return messages if len(messages) == count else []


def framed(packet: bytes) -> bytes:
    """Return a message with its length before it, as it travels over TCP."""
    return len(packet).to_bytes(2) + packet


@promise("dns")
async def known_names(subject: Subject) -> None:
    """A name that it knows has its own address."""
    for name, address in KNOWN.items():
        assert await ask_addresses(subject.server.dns, name) == [address]


@promise("dns")
async def default_address(subject: Subject) -> None:
    """Every name outside of its zone has the default address."""
    assert await ask_addresses(subject.server.dns, "elsewhere.test") == ["127.0.0.1"]


@promise("dns")
async def dig(subject: Subject) -> None:
    """dig gets its answer, and has no complaint."""
    command = shutil.which("dig")
    if command is None:
        pytest.skip("dig is not installed (Debian's package bind9-dnsutils)")
    server = subject.server.dns
    shown = await run(
        command, f"@{server.host}", "-p", str(server.port), "alpha.example", "+noedns"
    )
    assert "status: NOERROR" in shown.out
    assert "192.0.2.10" in shown.out
    assert "WARNING: Message" not in shown.out
    assert "malformed" not in shown.out


@promise("dns")
async def many_at_once(subject: Subject) -> None:
    """A crowd that asks at once gets an answer each, to what it asked."""

    async def client(name: str, address: str) -> None:
        assert await ask_addresses(subject.server.dns, name) == [address]

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            for name, address in KNOWN.items():
                nursery.start_soon(client, name, address)


@promise("dns")
async def asks_in_any_case(subject: Subject) -> None:
    """Upper and lower case are one name, and come back as they were asked."""
    query = dns.message.make_query("AlPhA.eXaMpLe", "A").to_wire()
    [reply] = await replies(subject.server.dns, query)
    assert query[12:] in reply
    assert records(dns.message.from_wire(reply)) == ["A 192.0.2.10"]


@promise("dns")
async def other_types(subject: Subject) -> None:
    """Who asks for another type than A gets records of that type."""
    for name, record_type, expected in [
        ("alpha.example", "AAAA", ["AAAA 2001:db8::10"]),
        ("example", "MX", ["MX 10 mail.example."]),
        ("www.example", "CNAME", ["CNAME alpha.example."]),
        ("a.b.wild.example", "TXT", ['TXT "there is no such name, but here is an answer"']),
    ]:
        assert records(await ask(subject.server.dns, name, record_type)) == expected


@promise("dns")
async def no_data(subject: Subject) -> None:
    """A name without records of the type has none: no error, and an SOA to cache that by."""
    reply = await ask(subject.server.dns, "beta.example", "AAAA")
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]


@promise("dns")
async def no_such_name(subject: Subject) -> None:
    """A name that its zone does not hold does not exist: NXDOMAIN."""
    reply = await ask(subject.server.dns, "nowhere.example", "A")
    assert (reply.rcode(), reply.answer) == (dns.rcode.NXDOMAIN, [])


@promise("dns")
async def edns(subject: Subject) -> None:
    """A query with EDNS gets a reply with EDNS, and one without gets one without."""
    for wanted in (True, False):
        reply = await ask(subject.server.dns, "alpha.example", "A", edns=wanted)
        assert (reply.edns == 0) is wanted


@promise("dns")
async def malformed_packets(subject: Subject) -> None:
    """Whatever is no query gets an error of the format or silence, and no word in the log."""
    server = subject.server
    before = len(server.lines)
    for what, packet in GARBAGE.items():
        for reply in await replies(server.dns, packet):
            assert reply[:2] == packet[:2], what
            assert reply[3] & 15 in (dns.rcode.FORMERR, dns.rcode.NOTIMP), what
    assert server.lines[before:] == []


@promise("dns")
async def replies_are_not_answered(subject: Subject) -> None:
    """A packet that is a reply gets no reply: two servers never talk to each other for ever."""
    reply = dns.message.make_response(dns.message.make_query("alpha.example", "A")).to_wire()
    assert await replies(subject.server.dns, reply) == []


@promise("dns")
async def other_operations(subject: Subject) -> None:
    """An operation that is not a query is said to be not implemented."""
    notify = dns.message.make_query("example", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    [reply] = await replies(subject.server.dns, notify.to_wire())
    assert reply[3] & 15 == dns.rcode.NOTIMP


@promise("dns")
async def tcp(subject: Subject) -> None:
    """TCP answers on the same port."""
    reply = await ask(subject.server.dns, "alpha.example", "A", tcp=True)
    assert records(reply) == ["A 192.0.2.10"]


@promise("dns")
async def tcp_pipelining(subject: Subject) -> None:
    """A hundred queries in one write over TCP are answered in order."""
    names = list(KNOWN) * 33 + ["alpha.example"]
    queries = [dns.message.make_query(name, "A", id=at) for at, name in enumerate(names)]
    sent = b"".join(framed(query.to_wire()) for query in queries)
    for query, reply in zip(
        queries, await frames(subject.server.dns, sent, count=len(queries)), strict=True
    ):
        assert query.is_response(dns.message.from_wire(reply))


@promise("dns")
async def tcp_in_pieces(subject: Subject) -> None:
    """A message over TCP may arrive a byte at a time."""
    query = framed(dns.message.make_query("beta.example", "A").to_wire())
    [reply] = await frames(subject.server.dns, *(bytes([byte]) for byte in query), count=1)
    assert records(dns.message.from_wire(reply)) == ["A 192.0.2.20"]


@promise("dns")
async def tcp_half_close(subject: Subject) -> None:
    """Who closes the sending side after its query gets the answer, and then the end."""
    server = subject.server.dns
    async with await trio.open_tcp_stream(server.host, server.port) as stream:
        await stream.send_all(framed(dns.message.make_query("beta.example", "A").to_wire()))
        await stream.send_eof()
        with trio.fail_after(PATIENCE):
            [reply] = _whole(await read_all(stream), 1)
    assert records(dns.message.from_wire(reply)) == ["A 192.0.2.20"]


@promise("dns")
async def tcp_garbage(subject: Subject) -> None:
    """A message over TCP that is too short for a header ends the connection."""
    server = subject.server.dns
    async with await trio.open_tcp_stream(server.host, server.port) as stream:
        await stream.send_all(framed(b"no query"))
        with trio.fail_after(PATIENCE):
            assert await read_all(stream) == b""


@promise("dns")
async def truncation(subject: Subject) -> None:
    """What does not fit into a datagram is cut off and marked, and is complete over TCP."""
    with written(BIG_ZONE) as zone:
        async with subject.serving("--no-sort", "--zone", f"{zone}") as server:
            cut = await ask(server.dns, "long.big", "TXT", edns=True)
            assert cut.flags & dns.flags.TC
            assert cut.answer == []
            assert len(records(await ask(server.dns, "long.big", "TXT", tcp=True))) == 20


@promise("dns")
async def reload(subject: Subject) -> None:
    """SIGHUP serves the zone files anew; with a mistake in one the old zones are served on."""
    small = BIG_ZONE.partition("long")[0]
    with written(small + "www A 192.0.2.1\n") as zone:
        async with subject.serving("--no-sort", "--zone", f"{zone}") as server:
            zone.write_text(small + "www A 192.0.2.2\n")
            server.process.send_signal(signal.SIGHUP)
            with trio.fail_after(PATIENCE):
                while await ask_addresses(server.dns, "www.big") != ["192.0.2.2"]:
                    pass
            zone.write_text("a mistake\n")
            server.process.send_signal(signal.SIGHUP)
            await server.said(f"{zone}")
            assert await ask_addresses(server.dns, "www.big") == ["192.0.2.2"]


@promise("dns", about_option=True)
async def mistake_in_a_zone(subject: Subject) -> None:
    """A zone file with a mistake is one line at the start, which names it, and status 2."""
    with written("www A 192.0.2.1\n") as zone:
        ended = await subject.run("--dns", ANY_PORT, "--no-sort", "--zone", f"{zone}")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert f"{zone}" in ended.err


@promise("dns")
async def tcp_idle(subject: Subject) -> None:
    """A connection over which nothing comes is closed at its deadline."""
    with written("[dns]\ntcp_idle = 0.1\n") as config:
        async with (
            subject.serving("--no-sort", "--config", f"{config}") as server,
            await trio.open_tcp_stream(server.dns.host, server.dns.port) as stream,
        ):
            assert await is_closed(stream)
