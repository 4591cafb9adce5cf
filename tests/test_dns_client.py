"""The DNS client against servers that answer, refuse, lie, and say nothing."""

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio

from trio_services.dns_client import QueryError, Reply, Verdict, query
from trio_services.sans_io.length_prefix import dns_frame
from trio_services.settings import Address

Respond = Callable[[dns.message.Message], bytes]
SOA = "ns.example. admin.example. 1 2 3 4 5"


@asynccontextmanager
async def serving(udp: Respond | None = None, tcp: Respond | None = None) -> AsyncIterator[Address]:
    """Run fake servers on one port of loopback; None stays silent."""

    async def serve_tcp(stream: trio.SocketStream) -> None:
        request = await stream.receive_some()
        if tcp is None:
            await trio.sleep_forever()
        else:
            await stream.send_all(tcp(dns.message.from_wire(request[2:])))

    async def serve_udp(sock: trio.socket.SocketType) -> None:
        while udp is not None:
            request, peer = await sock.recvfrom(4096)
            await sock.sendto(udp(dns.message.from_wire(request)), peer)

    with trio.fail_after(30), socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.bind(address)
            async with trio.open_nursery() as nursery:
                tcp_listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
                nursery.start_soon(serve_udp, sock)
                nursery.start_soon(trio.serve_listeners, serve_tcp, [tcp_listener])
                yield Address(*address)
                nursery.cancel_scope.cancel()


def replying(
    *answers: tuple[str, str], rcode: str = "NOERROR", authority: tuple[str, str] | None = None
) -> Respond:
    """Return a server that gives these (type, data) as its answer."""

    def respond(request: dns.message.Message) -> bytes:
        reply = dns.message.make_response(request)
        reply.set_rcode(dns.rcode.from_text(rcode))
        name = request.question[0].name
        for rtype, data in answers:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", rtype, data))
        if authority:
            reply.authority.append(dns.rrset.from_text("example.", 60, "IN", *authority))
        return reply.to_wire(max_size=65535)

    return respond


def truncated(request: dns.message.Message) -> bytes:
    """Reply that there is more than fits."""
    reply = dns.message.make_response(request)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


@pytest.mark.parametrize(
    ("respond", "verdict", "records", "summary", "status"),
    [
        (
            replying(("A", "192.0.2.1")),
            Verdict.ANSWER,
            ["a.example. 60 IN A 192.0.2.1"],
            "answer",
            0,
        ),
        (
            replying(("CNAME", "b.example."), ("A", "192.0.2.1")),
            Verdict.ANSWER,
            ["a.example. 60 IN CNAME b.example.", "a.example. 60 IN A 192.0.2.1"],
            "answer",
            0,
        ),
        (replying(authority=("SOA", SOA)), Verdict.NODATA, [], "NODATA", 1),
        (replying(), Verdict.NODATA, [], "NODATA", 1),
        (
            replying(("CNAME", "b.elsewhere.")),
            Verdict.NODATA,
            ["a.example. 60 IN CNAME b.elsewhere."],
            "NODATA",
            1,
        ),
        (replying(rcode="NXDOMAIN"), Verdict.NXDOMAIN, [], "NXDOMAIN", 1),
        (replying(authority=("NS", "ns.elsewhere.")), Verdict.REFERRAL, [], "referral", 1),
        (replying(rcode="REFUSED"), Verdict.FAILURE, [], "REFUSED", 2),
        (replying(rcode="SERVFAIL"), Verdict.FAILURE, [], "SERVFAIL", 2),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
async def test_verdicts(
    respond: Respond, verdict: Verdict, records: list[str], summary: str, status: int, tcp: bool
) -> None:
    """An answer is told from the ways of having none, over either transport."""
    servers = {"tcp": lambda request: dns_frame(respond(request))} if tcp else {"udp": respond}
    async with serving(**servers) as address:
        reply = await query("a.example", "A", address, tcp=tcp)
    assert reply.verdict is verdict
    assert reply.records == records
    assert reply.summary == summary
    assert reply.exit_status == status
    assert reply.tcp is tcp


async def test_json_tells_the_whole_reply() -> None:
    """The JSON form has the verdict, the header and each section in zone-file form."""
    async with serving(replying(("A", "192.0.2.1"), authority=("NS", "ns.example."))) as address:
        reply = await query("a.example", "A", address)
    assert json.loads(reply.as_json()) == {
        "verdict": "answer",
        "rcode": "NOERROR",
        "flags": ["QR", "RD"],
        "transport": "udp",
        "question": ["a.example. IN A"],
        "answer": ["a.example. 60 IN A 192.0.2.1"],
        "authority": ["example. 60 IN NS ns.example."],
        "additional": [],
    }


async def test_truncated_over_udp_is_asked_again_over_tcp() -> None:
    """A reply that did not fit is fetched whole."""
    whole = replying(*[("TXT", f'"{number:0>200}"') for number in range(20)])
    async with serving(truncated, lambda request: dns_frame(whole(request))) as address:
        reply = await query("a.example", "TXT", address)
    assert reply.tcp
    assert len(reply.records) == 20
    assert json.loads(reply.as_json())["transport"] == "tcp"


@pytest.mark.parametrize("tcp", [False, True])
async def test_silence_is_an_error(tcp: bool) -> None:
    """A server that never replies is given up at the deadline."""
    async with serving() as address:
        with pytest.raises(QueryError, match=f"no reply from {address} within 0.01 s"):
            await query("a.example", "A", address, tcp=tcp, timeout=0.01)


def with_wrong_id(request: dns.message.Message) -> bytes:
    """Reply to another query."""
    reply = dns.message.make_response(request)
    reply.id = request.id ^ 1
    return reply.to_wire()


def with_wrong_question(request: dns.message.Message) -> bytes:
    """Reply with the right id to another question."""
    other = dns.message.make_query("b.example.", "A", id=request.id)
    return dns.message.make_response(other).to_wire()


@pytest.mark.parametrize(
    "respond",
    [
        with_wrong_id,
        with_wrong_question,
        lambda request: b"",
        lambda request: b"garbage",
        lambda request: request.to_wire(),
        lambda request: replying(("A", "192.0.2.1"))(request)[:-3],
        lambda request: replying(("A", "192.0.2.1"))(request) + b"trailing",
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
async def test_malformed_replies_are_errors(respond: Respond, tcp: bool) -> None:
    """What is no reply to our question is told as such, over either transport."""
    servers = {"tcp": lambda request: dns_frame(respond(request))} if tcp else {"udp": respond}
    async with serving(**servers) as address:
        with pytest.raises(QueryError, match=f"malformed reply from {address}: "):
            await query("a.example", "A", address, tcp=tcp)


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\x40abc"])
async def test_a_reply_that_is_cut_off(sent: bytes) -> None:
    """A server that hangs up within its reply is told as such."""
    async with serving(tcp=lambda request: sent) as address:
        with pytest.raises(QueryError, match=f"from {address}: "):
            await query("a.example", "A", address, tcp=True)


async def test_a_server_that_resets_the_connection() -> None:
    """A connection that breaks before the reply is an error like the others."""

    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, reset, 0, host="127.0.0.1"))
        address = Address(*listener.socket.getsockname())
        with pytest.raises(QueryError, match=f"no reply from {address}: "):
            await query("a.example", "A", address, tcp=True)
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_not_there() -> None:
    """An address that nobody listens on is named."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    with pytest.raises(QueryError, match=f"no reply from {address}: "):
        await query("a.example", "A", address, tcp=True)


@pytest.mark.parametrize(
    ("name", "record_type"),
    [
        ("a..example", "A"),
        ("a" * 64, "A"),
        ("a.example", "NOTATYPE"),
        ("a.example", "TYPE70000"),
        ("a.example", ""),
    ],
)
async def test_what_makes_no_query(name: str, record_type: str) -> None:
    """A name or a type that cannot be asked for is told in one line, and nothing is sent."""
    with pytest.raises(QueryError) as caught:
        await query(name, record_type, Address("127.0.0.1", 9))
    assert str(caught.value).startswith(f"{name} {record_type}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_any_is_answered_by_any_type() -> None:
    """A query for ANY has an answer whatever the type of the records is (RFC 8482)."""
    request = dns.message.make_query("a.example.", "ANY")
    message = dns.message.from_wire(replying(("HINFO", '"RFC8482" ""'))(request))
    reply = Reply(message, Verdict.ANSWER, tcp=False)
    assert reply.records == ['a.example. 60 IN HINFO "RFC8482" ""']


async def test_a_server_may_be_named() -> None:
    """The server's host may be a name that the system resolves."""
    async with serving(replying(("A", "192.0.2.10"))) as address:
        reply = await query("alpha.example", "A", Address("localhost", address.port))
    assert reply.records == ["alpha.example. 60 IN A 192.0.2.10"]
