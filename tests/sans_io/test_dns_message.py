"""Parsing queries: what is well-formed, what is not, and what a malformed one gets."""

import struct

import dns.message
import pytest

from trio_services.sans_io.dns_message import (
    EDNS_UDP_BYTES,
    Edns,
    FormatError,
    Query,
    Rcode,
    assemble,
    format_error,
    not_implemented,
    parse_query,
    read_question,
    server_failure,
)

NAME = b"\3wWw\7Example\0"
QUESTION = NAME + b"\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"
TSIG = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\2ab"
COOKIE = b"\0\0\x29\x10\0\0\0\0\0\0\x0c\0\x0a\0\x0812345678"


def packet(
    body: bytes, *, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    """Put a header with id 0x8001 in front of `body`."""
    return struct.pack("!HHHHHH", 0x8001, flags, *counts) + body


LONGEST = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"

GOOD = {
    "plain": (packet(QUESTION), None),
    "trailing bytes": (packet(QUESTION + b"junk"), None),
    "root": (packet(b"\0\0\1\0\1"), None),
    "255 bytes": (packet(LONGEST + b"\0\1\0\1"), None),
    "any bytes": (packet(b"\3\0.\xff\0\0\1\0\1"), None),
    "EDNS": (packet(QUESTION + OPT, counts=(1, 0, 0, 1)), Edns(1232, 0, True)),
    "EDNS option": (packet(QUESTION + COOKIE, counts=(1, 0, 0, 1)), Edns(4096, 0, False)),
    "EDNS, TSIG": (packet(QUESTION + OPT + TSIG, counts=(1, 0, 0, 2)), Edns(1232, 0, True)),
    "TSIG": (packet(QUESTION + TSIG, counts=(1, 0, 0, 1)), None),
    "version 1": (
        packet(QUESTION + b"\0\0\x29\x02\0\0\1\0\0\0\0", counts=(1, 0, 0, 1)),
        Edns(512, 1, False),
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_well_formed_queries(case: str) -> None:
    """A well-formed query is read, and its question kept as it came."""
    wire, edns = GOOD[case]
    query = parse_query(wire)
    assert query.edns == edns
    assert wire[12:].startswith(query.question)
    assert query.question[:-4] == query.name
    assert (query.qtype, query.qclass) == (1, 1)


BAD_QUESTION = {
    "no question": packet(b"", counts=(0, 0, 0, 0)),
    "two questions": packet(QUESTION * 2, counts=(2, 0, 0, 0)),
    "an answer": packet(QUESTION, counts=(1, 1, 0, 0)),
    "an authority": packet(QUESTION, counts=(1, 0, 1, 0)),
    "three additionals": packet(QUESTION, counts=(1, 0, 0, 3)),
    "question missing": packet(b""),
    "name cut off": packet(NAME[:-3]),
    "name without root": packet(NAME[:-1]),
    "no type": packet(NAME),
    "no class": packet(NAME + b"\0\1"),
    "half a class": packet(NAME + b"\0\1\0"),
    "label type 0x40": packet(b"\x40a\0\0\1\0\1"),
    "label type 0x80": packet(b"\x80a\0\0\1\0\1"),
    "pointer": packet(b"\xc0\x0c\0\1\0\1"),
    "pointer after label": packet(b"\1a\xc0\x0c\0\1\0\1"),
    "256 bytes": packet(LONGEST[:192] + b"\x3e" + b"b" * 62 + b"\0\0\1\0\1"),
    "many labels": packet(b"\1a" * 128 + b"\0\0\1\0\1"),
}
BAD_ADDITIONAL = {
    "OPT missing": packet(QUESTION, counts=(1, 0, 0, 1)),
    "OPT cut off": packet(QUESTION + OPT[:-1], counts=(1, 0, 0, 1)),
    "OPT of a name": packet(QUESTION + b"\1a" + OPT, counts=(1, 0, 0, 1)),
    "OPT owner a pointer": packet(QUESTION + b"\xc0\x0c" + OPT[1:], counts=(1, 0, 0, 1)),
    "options too long": packet(QUESTION + OPT[:-1] + b"\4\0\1\0\1", counts=(1, 0, 0, 1)),
    "options too short": packet(QUESTION + OPT[:-1] + b"\5\0\1\0\0x", counts=(1, 0, 0, 1)),
    "half an option": packet(QUESTION + OPT[:-1] + b"\3\0\1\0", counts=(1, 0, 0, 1)),
    "data cut off": packet(QUESTION + OPT[:-1] + b"\x20\0\1\0\0", counts=(1, 0, 0, 1)),
    "an A record": packet(QUESTION + b"\0\0\1\0\1\0\0\0\0\0\0", counts=(1, 0, 0, 1)),
    "TSIG first": packet(QUESTION + TSIG + OPT, counts=(1, 0, 0, 2)),
    "bad owner": packet(QUESTION + b"\x40" + OPT, counts=(1, 0, 0, 1)),
    "endless owner": packet(QUESTION + b"\1a" * 200 + OPT, counts=(1, 0, 0, 1)),
}
BAD_AFTER_OPT = {
    "second OPT": packet(QUESTION + OPT * 2, counts=(1, 0, 0, 2)),
    "garbage after OPT": packet(QUESTION + OPT + b"\x40", counts=(1, 0, 0, 2)),
}


@pytest.mark.parametrize("case", BAD_QUESTION)
def test_bad_questions_get_a_bare_format_error(case: str) -> None:
    """Without a question that parses, FORMERR is the header alone, byte for byte as BIND's."""
    with pytest.raises(FormatError) as caught:
        parse_query(BAD_QUESTION[case])
    reply = format_error(BAD_QUESTION[case], caught.value)
    assert reply == bytes.fromhex("8001 8101 0000 0000 0000 0000")


@pytest.mark.parametrize("case", BAD_ADDITIONAL)
def test_bad_additional_sections_get_the_question_back(case: str) -> None:
    """FORMERR echoes a question that parsed, and has no OPT when none did."""
    with pytest.raises(FormatError) as caught:
        parse_query(BAD_ADDITIONAL[case])
    reply = format_error(BAD_ADDITIONAL[case], caught.value)
    assert reply == bytes.fromhex("8001 8101 0001 0000 0000 0000") + QUESTION


@pytest.mark.parametrize("case", BAD_AFTER_OPT)
def test_format_errors_after_opt_have_opt(case: str) -> None:
    """RFC 6891 section 7: an OPT that parsed is answered with ours, in FORMERR too."""
    with pytest.raises(FormatError) as caught:
        parse_query(BAD_AFTER_OPT[case])
    reply = format_error(BAD_AFTER_OPT[case], caught.value)
    assert reply == bytes.fromhex("8001 8101 0001 0000 0000 0001") + QUESTION + OPT


@pytest.mark.parametrize("case", GOOD)
def test_every_cut_of_a_query_is_a_query_or_a_format_error(case: str) -> None:
    """A query that ends early is malformed, wherever it ends; nothing is read beyond its end."""
    wire, edns = GOOD[case]
    complete = 12 + len(parse_query(wire).question)
    for length in range(12, len(wire)):
        if length >= complete and not any(wire[6:12]):
            assert isinstance(parse_query(wire[:length]), Query)
        elif length < complete or edns is not None or "TSIG" in case:
            with pytest.raises(FormatError):
                parse_query(wire[:length])


@pytest.mark.parametrize("flags", [0x0000, 0x0100, 0x7FF0 & ~0x7800, 0x0030, 0x000F])
def test_header_bits(flags: int) -> None:
    """Of the flags of a query only RD comes back; RA, Z, AD and CD are 0."""
    query = parse_query(packet(QUESTION, flags=flags))
    for reply in assemble(query, Rcode.NXDOMAIN, flags=0x0400), server_failure(query.header):
        bits = int.from_bytes(reply[2:4], "big")
        assert bits & 0x8000
        assert bits & 0x0100 == flags & 0x0100
        assert bits & 0x00F0 == 0
        assert bits & 0x0200 == 0


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes_get_a_header(opcode: int) -> None:
    """Whatever the opcode is about, NOTIMP is twelve bytes that echo id, opcode and RD."""
    reply = not_implemented(packet(b"\xff" * 9, flags=opcode << 11 | 0x0130, counts=(9, 9, 9, 9)))
    assert reply == struct.pack("!HHHHHH", 0x8001, 0x8104 | opcode << 11, 0, 0, 0, 0)


def test_extended_rcodes_are_split() -> None:
    """BADVERS is 0 in the header and 1 in OPT, whose version is ours."""
    query = parse_query(GOOD["version 1"][0])
    reply = assemble(query, Rcode.BADVERS)
    assert reply[3] & 0x0F == 0
    assert reply[-11:] == b"\0\0\x29\x04\xd0\1\0\0\0\0\0"
    assert int(dns.message.from_wire(reply).rcode()) == Rcode.BADVERS


@pytest.mark.parametrize(
    ("size", "limit"),
    [(0, 512), (511, 512), (512, 512), (513, 513), (1232, 1232), (1233, 1232), (65535, 1232)],
)
def test_udp_limits(size: int, limit: int) -> None:
    """The limit is the requestor's, but never less than 512 nor more than 1232 bytes."""
    assert Edns(size, 0, False).udp_limit == limit
    assert limit <= EDNS_UDP_BYTES


def test_server_failure_echoes_a_question_that_can_be_read() -> None:
    """SERVFAIL has the question if there is one: stub resolvers disregard it otherwise."""
    assert server_failure(packet(QUESTION))[12:] == QUESTION
    assert server_failure(packet(b"\xff")) == bytes.fromhex("8001 8102 0000 0000 0000 0000")
    assert read_question(packet(QUESTION + b"more")) == QUESTION
