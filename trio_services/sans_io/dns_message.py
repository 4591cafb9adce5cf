"""DNS messages: parse a query, assemble the reply to it.

A static server reads very little of the wire format: a header, one question, and perhaps an OPT
(RFC 6891) and a TSIG record. It writes a header, the question as it came (bytes verbatim, so that
clients that mix case see their own spelling), records that were rendered at load time, and its own
OPT. So nothing here builds or walks general messages; dnspython does that in the tests.

Rules that hold here:

- Every byte is the peer's. A read is checked against the end of the packet before it is made;
  counts in the header are never trusted further than the bytes go.
- A name is *wire bytes*: length-prefixed labels up to and including the root's zero byte. Labels
  hold any byte, dots and zeros included (RFC 2181 section 11), so names are never compared as
  text. `bytes.lower()` folds the case of a whole wire name, because a length byte is at most 63
  and "A" is 65. It must never touch a type: HTTPS is 0x0041.
- A question's name cannot be compressed: nothing precedes it but the header.
- Malformed queries raise `FormatError`, which carries what did parse, for the shape of the reply.

Left out: cookies, padding, keepalive and client subnet (options are skipped unread, RFC 6891
section 6.1.2), TSIG verification (we hold no keys; the reply is unsigned).
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

MAX_NAME_BYTES = 255  # RFC 1035 section 2.3.4; counts the length bytes and the root's
MAX_LABEL_BYTES = 63  # RFC 1035 section 2.3.4: the two high bits of a length byte say "pointer"
MAX_MESSAGE_BYTES = 65_535  # what the length prefix over TCP can say
PLAIN_UDP_BYTES = 512  # RFC 1035 section 4.2.1: what a client without EDNS can take
EDNS_UDP_BYTES = 1_232  # DNS Flag Day 2020: IPv6's minimum MTU less its headers; never fragments
HEADER_BYTES = 12
OPT_BYTES = 11  # an OPT record without options, as ours are
MAX_ADDITIONAL = 2  # one OPT and one TSIG: nothing else belongs in a query

QR = 0x8000
AA = 0x0400
TC = 0x0200
RD = 0x0100
OPCODE = 0x7800
DNSSEC_OK = 0x8000  # in the flags of OPT (RFC 3225)

CLASS_IN = 1
TYPE_NS = 2
TYPE_CNAME = 5
TYPE_SOA = 6
TYPE_DNAME = 39
TYPE_OPT = 41
TYPE_DS = 43
TYPE_TSIG = 250
TYPE_ANY = 255

HEADER = Struct("!HHHHHH")
_OPT = Struct("!HHBBHH")  # after the owner: type, payload size, rcode high bits, version, flags, n
_RECORD = Struct("!HHIH")  # after the owner: type, class, TTL, length of the data
_QUESTION = Struct("!HH")


class Rcode(IntEnum):
    """What became of a query (RFC 6895 section 2.3)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    BADVERS = 16


@dataclass(frozen=True, slots=True)
class Edns:
    """What the OPT record of a query says; options are not kept."""

    payload_size: int
    version: int
    dnssec_ok: bool

    def reply_record(self, rcode: Rcode = Rcode.NOERROR) -> bytes:
        """Our own OPT in return: our size, version 0, DO copied, no options."""
        flags = DNSSEC_OK if self.dnssec_ok else 0
        return b"\0" + _OPT.pack(TYPE_OPT, EDNS_UDP_BYTES, rcode >> 4, 0, flags, 0)

    @property
    def udp_limit(self) -> int:
        """The largest reply in bytes, by the requestor's word and ours."""
        return min(max(self.payload_size, PLAIN_UDP_BYTES), EDNS_UDP_BYTES)


@dataclass(frozen=True, slots=True)
class Query:
    """A well-formed query. `question` is its bytes as they came, `name` the name in them."""

    header: bytes
    question: bytes
    name: bytes
    qtype: int
    qclass: int
    edns: Edns | None

    @property
    def udp_limit(self) -> int:
        """The largest reply over UDP in bytes."""
        return PLAIN_UDP_BYTES if self.edns is None else self.edns.udp_limit


class FormatError(Exception):
    """The peer's mistake, answered with FORMERR; carries the question and OPT that did parse."""

    def __init__(self, question: bytes = b"", edns: Edns | None = None) -> None:
        super().__init__()
        self.question = question
        self.edns = edns


def parse_query(packet: bytes) -> Query:
    """Parse a query of at least 12 bytes whose QR bit and opcode are 0.

    Trailing bytes are ignored. The rcode and the flags other than RD are noise in a query, and
    ignored too.

    Raises:
        FormatError: Not exactly one question, records where a query has none, a bad name, a
            second OPT or one that is not the root's, or a packet that ends early.
    """
    _, _, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if questions != 1 or answers or authorities or additionals > MAX_ADDITIONAL:
        raise FormatError
    question = read_question(packet)
    qtype, qclass = _QUESTION.unpack_from(question, len(question) - 4)
    edns = _parse_additional(packet, question, additionals)
    return Query(packet[:HEADER_BYTES], question, question[:-4], qtype, qclass, edns)


def read_question(packet: bytes) -> bytes:
    """Return the bytes of the first question: an uncompressed name, a type and a class.

    Raises:
        FormatError: There is no such thing at the start of the packet's body.
    """
    end = HEADER_BYTES
    while True:
        if end >= len(packet) or packet[end] > MAX_LABEL_BYTES:
            raise FormatError
        length = packet[end]
        end += 1 + length
        if end - HEADER_BYTES > MAX_NAME_BYTES:
            raise FormatError
        if length == 0:
            break
    end += 4
    if end > len(packet):
        raise FormatError
    return packet[HEADER_BYTES:end]


def _parse_additional(packet: bytes, question: bytes, count: int) -> Edns | None:
    """Walk the additional section: at most one OPT, and at most one TSIG, which is last."""
    edns: Edns | None = None
    at = HEADER_BYTES + len(question)
    for left in range(count - 1, -1, -1):
        owner = at
        at = _skip_name(packet, at)
        if at < 0 or at + _RECORD.size > len(packet):
            raise FormatError(question, edns)
        rtype, size, ttl, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        data = packet[at : at + length]
        if len(data) < length:
            raise FormatError(question, edns)
        if rtype == TYPE_OPT:
            if edns is not None or packet[owner] != 0 or not _well_formed_options(data):
                raise FormatError(question, edns)
            edns = Edns(size, (ttl >> 16) & 0xFF, bool(ttl & DNSSEC_OK))
        elif rtype != TYPE_TSIG or left:
            raise FormatError(question, edns)
        at += length
    return edns


def _skip_name(packet: bytes, at: int) -> int:
    """Return where the name at `at` ends, or -1 if it does not: a pointer ends it, unfollowed."""
    begin = at
    while at < len(packet) and at - begin < MAX_NAME_BYTES:
        length = packet[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > MAX_LABEL_BYTES:
            return -1
        at += 1 + length
    return -1


def _well_formed_options(data: bytes) -> bool:
    at = 0
    while at + 4 <= len(data):
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at == len(data)


def assemble(
    query: Query,
    rcode: Rcode,
    *,
    flags: int = 0,
    counts: tuple[int, int, int] = (0, 0, 0),
    records: bytes = b"",
) -> bytes:
    """Return the reply to `query`: `records` hold `counts` answers, authorities, additionals.

    Record owners may point into the question at offset 12. `flags` is AA and TC, or neither.
    """
    opt = b"" if query.edns is None else query.edns.reply_record(rcode)
    return _reply(query.header, rcode, flags, query.question, counts, records, opt)


def format_error(packet: bytes, error: FormatError) -> bytes:
    """Return the FORMERR reply, with the question and an OPT only if those parsed."""
    opt = b"" if error.edns is None else error.edns.reply_record()
    return _reply(packet, Rcode.FORMERR, 0, error.question, (0, 0, 0), b"", opt)


def not_implemented(packet: bytes) -> bytes:
    """Return the reply to an opcode we do not serve: the header only (RFC 8906 section 3.1.4)."""
    return _reply(packet, Rcode.NOTIMP, 0, b"", (0, 0, 0), b"", b"")


def server_failure(packet: bytes) -> bytes:
    """Return the SERVFAIL reply to a packet of at least 12 bytes; cannot fail.

    Stub resolvers disregard a reply without their question, so it is there if it can be read.
    """
    try:
        question = read_question(packet)
    except FormatError:
        question = b""
    return _reply(packet, Rcode.SERVFAIL, 0, question, (0, 0, 0), b"", b"")


def _reply(
    header: bytes,
    rcode: Rcode,
    flags: int,
    question: bytes,
    counts: tuple[int, int, int],
    records: bytes,
    opt: bytes,
) -> bytes:
    # RA, Z and AD are always 0, CD is cleared: RFC 8906 section 8.1.3, RFC 6840 section 5.7.
    identity, asked = HEADER.unpack_from(header)[:2]
    bits = QR | (asked & (OPCODE | RD)) | flags | (rcode & 0xF)
    answers, authorities, additionals = counts
    total = additionals + bool(opt)
    head = HEADER.pack(identity, bits, bool(question), answers, authorities, total)
    return b"".join((head, question, records, opt))
