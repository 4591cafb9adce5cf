"""The algorithm of RFC 1034 section 4.3.2 as cleaned up since: a question in, records out.

The tree has done the hard part (see `dns_tree`): what is left is to follow aliases through it. Each
turn of the loop looks up one name. The records that it finds are owned by that name, which is
always somewhere in the reply already: in the question at offset 12, or in the data of the CNAME
that led here. So every owner is a compression pointer, and so is the owner of the SOA and of a
zone cut, which are ancestors of the name: a pointer into its middle.

What ends the chain decides the reply: its rcode (RFC 6604 section 3) and its authority section. AA
is about the first name only (RFC 2181, RFC 1034). A chain that leaves our zones ends there with
what we have; the default address is no place for an alias to lead, because it answers names that
nobody knows, and the owner of the alias meant somebody.
"""

from dataclasses import dataclass

from trio_services.sans_io.dns_message import (
    AA,
    HEADER_BYTES,
    MAX_NAME_BYTES,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_DS,
    Query,
    Rcode,
    assemble,
)
from trio_services.sans_io.dns_tree import (
    Alias,
    Delegation,
    Negative,
    RRset,
    SubtreeAlias,
    Zones,
    pointer,
    type_key,
)

_CNAME = type_key(TYPE_CNAME)
MAX_ALIASES = 16  # the chain a reply follows; BIND and NSD stop at about as many


@dataclass(slots=True)
class Answer:
    """What the reply to a question says.

    Attributes:
        room: How many bytes of records the reply has room for.
        overflows: There are more than that, and they are not in `body`: a peer that asks over UDP
            for 64 KiB of records must not have them put together to be thrown away.
        counts: The records of `body` by section: answers, authorities, additionals.
        optional: Additional records to be left out if they do not fit: their number, and they.
    """

    room: int
    overflows: bool = False
    rcode: Rcode = Rcode.NOERROR
    flags: int = AA
    counts: tuple[int, int, int] = (0, 0, 0)
    body: bytes = b""
    optional: tuple[int, bytes] = (0, b"")

    def reply_to(self, query: Query) -> bytes | None:
        """Return the reply, with the optional records if there is room; None if it overflows."""
        if self.overflows or len(self.body) > self.room:
            return None
        answers, authorities, additionals = self.counts
        count, records = self.optional
        if len(self.body) + len(records) > self.room:
            count, records = 0, b""
        counts = answers, authorities, additionals + count
        records = self.body + records
        return assemble(query, self.rcode, flags=self.flags, counts=counts, records=records)

    def add_answers(self, count: int, records: bytes) -> None:
        """Append records to the answer section, while the others are empty."""
        self.counts = (self.counts[0] + count, 0, 0)
        self.body += records

    def add_rrset(self, rrset: RRset, offset: int) -> None:
        """End with the RRset of the name that lies at `offset`."""
        if len(self.body) + len(rrset.body) > self.room:
            self.overflows = True
        else:
            self.add_answers(rrset.count, rrset.owned_by(offset))

    def add_subtree_alias(self, alias: SubtreeAlias, name: bytes, offset: int) -> bytes:
        """Append the DNAME and the CNAME it makes for `name` at `offset`; return the target.

        The rcode is YXDOMAIN, and there is no CNAME, if the target is too long (RFC 6672
        section 2.2).
        """
        prefix = name[: -len(alias.owner)]
        self.add_answers(1, alias.rrset.owned_by(offset + len(prefix)))
        target = prefix + alias.target
        if len(target) > MAX_NAME_BYTES:
            self.rcode = Rcode.YXDOMAIN
        else:
            # The same TTL as the DNAME: RFC 6672 section 3.1.
            ttl = alias.ttl.to_bytes(4, "big")
            length = len(target).to_bytes(2, "big")
            self.add_answers(1, pointer(offset) + _CNAME + ttl + length + target)
        return target

    def add_negative(self, negative: Negative, name: bytes, offset: int) -> None:
        """End with the reply that `name`, which lies at `offset`, has no such data."""
        self.rcode = negative.rcode
        if not negative.soa:
            self.flags = 0
            return
        origin_bytes = negative.origin_bytes or len(name)
        self.counts = (self.counts[0], 1, 0)
        self.body += pointer(offset + len(name) - origin_bytes) + negative.soa

    def add_referral(self, cut: Delegation, offset: int) -> None:
        """End with the name servers of the cut whose name lies at `offset`."""
        if not self.counts[0]:
            self.flags = 0
        glue_count, glue = cut.glue
        if len(self.body) + len(cut.servers.body) + len(glue) > self.room:
            self.overflows = True
            return
        self.counts = (self.counts[0], cut.servers.count, glue_count)
        self.body += cut.servers.owned_by(offset) + glue
        self.optional = cut.more_glue


def answer(zones: Zones, question_name: bytes, qtype: int, room: int) -> Answer:
    """Answer the question for a well-formed wire name, in any case, in class IN.

    `room` is how many bytes of records its reply has room for.
    """
    result = Answer(room)
    key = type_key(qtype)
    name = question_name
    offset = HEADER_BYTES
    seen: set[bytes] = set()
    while len(seen) <= MAX_ALIASES and (folded := name.lower()) not in seen:
        node = zones.find(folded)
        assert node is not None, "the name was parsed"
        if seen and node is zones.unknown:
            break
        seen.add(folded)
        redirect = node.redirect
        if (rrset := node.rrsets.get(key)) is not None:
            result.add_rrset(rrset, offset)
            break
        if qtype == TYPE_DS and folded in zones.parent_negatives:
            result.add_negative(zones.parent_negatives[folded], name, offset)
            break
        if redirect is None:
            result.add_negative(node.negative, name, offset)
            break
        if isinstance(redirect, Delegation):
            result.add_referral(redirect, offset + len(name) - len(redirect.owner))
            break
        if isinstance(redirect, Alias):
            result.add_answers(1, node.rrsets[_CNAME].owned_by(offset))
            name = redirect.target
        else:
            name = result.add_subtree_alias(redirect, name, offset)
        if result.rcode != Rcode.NOERROR or qtype in (TYPE_CNAME, TYPE_ANY):
            break
        # The target is the last thing in the reply so far.
        offset = HEADER_BYTES + len(question_name) + 4 + len(result.body) - len(name)
    return result
