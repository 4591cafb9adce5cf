"""A packet and its reply in one line, for the log of requests."""

import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype

_HEADER_BYTES = 12


def describe(packet: bytes, reply: bytes | None) -> str:
    r"""Return `NAME TYPE: RCODE, N bytes`, or what can be said of a packet without a question.

    The name is the peer's; dnspython writes unprintable bytes as `\DDD`, so that it is safe to log,
    and at most 1,016 characters long.
    """
    try:
        name, used = dns.name.from_wire(packet, _HEADER_BYTES)
        at = _HEADER_BYTES + used
        kind = dns.rdatatype.to_text(
            dns.rdatatype.RdataType(int.from_bytes(packet[at : at + 2], "big"))
        )
        asked = f"{name} {kind}"
    except dns.exception.DNSException:
        asked = f"{len(packet)} bytes without a question"
    if reply is None:
        return f"{asked}: no reply"
    return f"{asked}: {dns.rcode.to_text(dns.rcode.Rcode(reply[3] & 15))}, {len(reply)} bytes"
