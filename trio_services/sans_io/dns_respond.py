"""A packet in, the reply out: what both transports call for every message.

Three ways to a reply, the first that can wins:

1. *The cache.* Nearly all queries that a server gets are byte for byte like one it had, but for the
   id. The key is all the rest of the packet, the value all the rest of the reply. What a peer can
   make up freely must not fill it, so only replies about names that exist are kept, asked in lower
   case and without EDNS options: no random names, no mixed case (draft-vixie-dnsext-dns0x20), no
   cookies. When it is full it is emptied: that costs less than keeping track of what was used.
2. *The fast path*, for a well-formed query of a usual type whose reply is in the tree as it stands.
   It does not parse the name: a wire name says itself where it ends, so the bytes up to the first
   zero byte are the name if the tree knows them.
3. *The general path* (`parse_query`, `answer`, `assemble`) for everything else: aliases, referrals,
   truncation, errors. It can answer everything that the other two can, with the same bytes; a test
   holds them to that.

Nothing that a peer sends raises. If our own code does, that is a bug: the peer gets SERVFAIL,
`on_error` gets the exception, and the next packet is served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct

from trio_services.sans_io.dns_answer import answer
from trio_services.sans_io.dns_message import (
    CLASS_IN,
    EDNS_UDP_BYTES,
    HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    OPCODE,
    OPT_BYTES,
    PLAIN_UDP_BYTES,
    QR,
    TC,
    TYPE_ANY,
    TYPE_DS,
    TYPE_OPT,
    TYPE_TSIG,
    Edns,
    FormatError,
    Query,
    Rcode,
    assemble,
    format_error,
    not_implemented,
    parse_query,
    server_failure,
)
from trio_services.sans_io.dns_tree import OWNER, Zones, pointer, type_key

MAX_CACHED_REPLIES = 4_096  # at most 6 MiB: a query of 282 and a reply of 1,232 bytes each

TYPE_TKEY = 249
TYPE_IXFR, TYPE_AXFR, TYPE_MAILB, TYPE_MAILA = 251, 252, 253, 254
# Types that cannot be asked for as data, and what to say to who does.
_REFUSALS = {
    0: Rcode.FORMERR,
    TYPE_OPT: Rcode.FORMERR,
    TYPE_TKEY: Rcode.FORMERR,
    TYPE_TSIG: Rcode.FORMERR,
    TYPE_IXFR: Rcode.REFUSED,  # we do not offer transfers (RFC 5936 section 2.2.1)
    TYPE_AXFR: Rcode.REFUSED,
    TYPE_MAILB: Rcode.NOTIMP,
    TYPE_MAILA: Rcode.NOTIMP,
}

# The types and the class whose absence the fast path may report. DS is special at zone cuts.
_USUAL = frozenset(
    type_key(rtype) for rtype in (*range(1, 128), TYPE_ANY, 256, 257) if rtype not in _REFUSALS
) - {type_key(TYPE_DS)}
# The 8 bytes of counts in a header: one question and nothing else; or OPT, one assumes.
_COUNTS = {b"\0\1\0\0\0\0\0\0": 0, b"\0\1\0\0\0\0\0\1": 2}
_OPT = Struct("!BHHBBHH")
_OPT_REPLIES = Edns(0, 0, False).reply_record(), Edns(0, 0, True).reply_record()
# By offset: an SOA is owned by an end of the name in the question, which begins at 12.
_POINTERS = [pointer(offset) for offset in range(HEADER_BYTES + 256)]


@dataclass(frozen=True, slots=True)
class ResponderStatistics:
    """What became of all packets so far. `queries` is the sum of `replies` and `dropped`.

    Attributes:
        queries: Packets that came in.
        cache_hits: Replies that were in the cache.
        replies: Replies by rcode.
        truncated: Replies over UDP with TC set.
        dropped: Packets that got none: too short, or replies themselves.
        errors: Exceptions that should not have been, each answered with SERVFAIL.
        cached: Replies that are in the cache now.
    """

    queries: int
    cache_hits: int
    replies: Mapping[Rcode, int]
    truncated: int
    dropped: int
    errors: int
    cached: int


class Responder:
    """Answers packets from `zones`. `on_error` is told of bugs, and must not raise."""

    __slots__ = (
        "_cache", "_dropped", "_errors", "_find", "_hits", "_names", "_on_error", "_replies",
        "_truncated", "_zones",
    )  # fmt: skip

    def __init__(self, zones: Zones, *, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._replies = [0] * (max(Rcode) + 1)  # by rcode; a dictionary of Rcode hashes in Python
        self._hits = 0
        self._truncated = 0
        self._dropped = 0
        self._errors = 0
        self.replace_zones(zones)

    def replace_zones(self, zones: Zones) -> None:
        """Answer from `zones` from now on."""
        self._zones = zones
        self._names = zones.names
        self._find = zones.find
        self._cache: dict[bytes, bytes] = {}

    def statistics(self) -> ResponderStatistics:
        """Return the counters as they are now."""
        replies = {rcode: self._replies[rcode] for rcode in Rcode}
        replies[Rcode.NOERROR] += self._hits
        return ResponderStatistics(
            queries=sum(replies.values()) + self._dropped,
            cache_hits=self._hits,
            replies=replies,
            truncated=self._truncated,
            dropped=self._dropped,
            errors=self._errors,
            cached=len(self._cache),
        )

    def respond_udp(self, packet: bytes) -> bytes | None:
        """Return the reply to a datagram, at most 1,232 bytes; None if it is to be dropped."""
        reply = self._cache.get(packet[2:])
        if reply is not None:
            self._hits += 1
            return packet[:2] + reply
        try:
            return self._fast_reply(packet) or self._general_reply(packet, udp=True)
        except Exception as error:  # noqa: BLE001 - a bug costs one reply, and is reported
            return self._failure(packet, error)

    def respond_tcp(self, packet: bytes) -> bytes | None:
        """Return the reply to a message, at most 65,535 bytes; None to close the connection."""
        reply = self._cache.get(packet[2:])
        if reply is not None:
            self._hits += 1
            return packet[:2] + reply
        try:
            return self._fast_reply(packet) or self._general_reply(packet, udp=False)
        except Exception as error:  # noqa: BLE001 - a bug costs one reply, and is reported
            return self._failure(packet, error)

    def _failure(self, packet: bytes, error: Exception) -> bytes:
        self._errors += 1
        self._replies[Rcode.SERVFAIL] += 1
        self._on_error(error)
        return server_failure(packet)

    def _fast_reply(self, packet: bytes) -> bytes | None:
        """Return the reply if it is simple to make and fits into UDP, else None."""
        end = packet.find(0, HEADER_BYTES) + 1
        raw_name = packet[HEADER_BYTES:end]
        name = raw_name.lower()
        exists = True
        node = self._names.get(name)
        if node is None:
            exists = False
            node = self._find(name)
            if node is None:
                return None
        # From here on the name is well-formed, so the packet has a header.
        variant = _COUNTS.get(packet[4:12])
        if variant is None or packet[2] & 0xF8:
            return None
        end += 4
        if not variant:
            if len(packet) != end:
                return None
            limit = PLAIN_UDP_BYTES
            opt = b""
            options = 0
        else:
            if len(packet) < end + 11:
                return None
            owner, rtype, size, _, version, flags, options = _OPT.unpack_from(packet, end)
            if owner or rtype != TYPE_OPT or version or len(packet) != end + 11 + options:
                return None
            # One option, as dig sends, is well-formed if it fills the record.
            if options and (
                options < 4 or (packet[end + 13] << 8 | packet[end + 14]) != options - 4
            ):
                return None
            limit = EDNS_UDP_BYTES if size >= EDNS_UDP_BYTES else max(size, PLAIN_UDP_BYTES)
            opt = _OPT_REPLIES[flags >> 15]
        if packet[2] & 1:
            variant += 1

        key = packet[end - 4 : end]
        rrset = node.rrsets.get(key)
        if rrset is not None:
            rcode = Rcode.NOERROR
            head = rrset.heads[variant]
            body = rrset.body
        elif node.redirect is not None or key not in _USUAL:
            return None
        else:
            negative = node.negative
            rcode = negative.rcode
            head = negative.heads[variant]
            body = negative.soa
            if body:
                origin_bytes = negative.origin_bytes
                body = (_POINTERS[end - 4 - origin_bytes] if origin_bytes else OWNER) + body
        if end + len(body) + len(opt) > limit:
            return None
        reply = b"".join((packet[:2], head, raw_name, key, body, opt))
        self._replies[rcode] += 1
        if exists and not options and name == raw_name:
            self._remember(packet, reply)
        return reply

    def _remember(self, packet: bytes, reply: bytes) -> None:
        if len(self._cache) >= MAX_CACHED_REPLIES:
            self._cache.clear()
        self._cache[packet[2:]] = reply[2:]

    def _general_reply(self, packet: bytes, *, udp: bool) -> bytes | None:
        if len(packet) < HEADER_BYTES or packet[2] & (QR >> 8):
            self._dropped += 1  # nothing to answer to, or a reply: answering those makes loops
            return None
        if packet[2] & (OPCODE >> 8):
            self._replies[Rcode.NOTIMP] += 1
            return not_implemented(packet)
        try:
            query = parse_query(packet)
        except FormatError as error:
            self._replies[Rcode.FORMERR] += 1
            return format_error(packet, error)
        refusal = _refusal(query)
        if refusal is not None:
            self._replies[refusal] += 1
            return assemble(query, refusal)
        return self._answer(packet, query, udp=udp)

    def _answer(self, packet: bytes, query: Query, *, udp: bool) -> bytes:
        frame_bytes = HEADER_BYTES + len(query.question) + (OPT_BYTES if query.edns else 0)
        limit = query.udp_limit if udp else MAX_MESSAGE_BYTES
        result = answer(self._zones, query.name, query.qtype, limit - frame_bytes)
        rcode = result.rcode
        reply = result.reply_to(query)
        if reply is not None:
            # Kept for both transports, so it has to be what either would get: short, and with all
            # that is optional, or it would depend on who asked first.
            complete = len(reply) == frame_bytes + len(result.body) + len(result.optional[1])
            if (
                complete
                and rcode == Rcode.NOERROR
                and len(reply) <= query.udp_limit
                and len(packet) == frame_bytes  # no options, nothing trailing
                and query.name in self._names
            ):
                self._remember(packet, reply)
        elif udp:
            self._truncated += 1
            reply = assemble(query, rcode, flags=result.flags | TC)
        else:  # only an alias chain into an RRset of nearly 64 KiB gets here
            rcode = Rcode.SERVFAIL
            reply = assemble(query, rcode)
        self._replies[rcode] += 1
        return reply


def _refusal(query: Query) -> Rcode | None:
    """Return the rcode for what is well-formed and nevertheless not looked up."""
    if query.edns is not None and query.edns.version > 0:
        return Rcode.BADVERS
    if query.qclass != CLASS_IN:
        return Rcode.REFUSED
    return _REFUSALS.get(query.qtype)
