"""One DNS query over UDP or TCP.

The messages and their transport are dnspython's, which has a Trio backend; this module decides what
counts as an answer. It is a tool to look at one server with, not a resolver: it does not recurse.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import trio

from trio_services.settings import Address

TIMEOUT = 5.0
"""Seconds for the whole query, dig's default for one try."""

EDNS_PAYLOAD = 1232
"""Bytes of a reply that fit through nearly every path unfragmented (DNS Flag Day 2020)."""


class Verdict(StrEnum):
    """What a reply amounts to."""

    ANSWER = "answer"
    NODATA = "NODATA"
    NXDOMAIN = "NXDOMAIN"
    REFERRAL = "referral"
    FAILURE = "failure"


class QueryError(Exception):
    """There was no reply that could be used; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that belongs to the query, and what it amounts to."""

    message: dns.message.Message
    verdict: Verdict
    tcp: bool

    @property
    def records(self) -> list[str]:
        """The answer's records in zone-file form, one line each."""
        return [line for rrset in self.message.answer for line in rrset.to_text().splitlines()]

    @property
    def summary(self) -> str:
        """The verdict in a word; for a refusal, the response code."""
        if self.verdict is Verdict.FAILURE:
            return dns.rcode.to_text(self.message.rcode())
        return self.verdict

    @property
    def exit_status(self) -> int:
        """0 for an answer, 1 for a sound reply that has none, 2 for a server that refused."""
        if self.verdict is Verdict.ANSWER:
            return 0
        return 2 if self.verdict is Verdict.FAILURE else 1

    def as_json(self) -> str:
        """Return the whole reply as one JSON object, its records in zone-file form."""
        message = self.message
        return json.dumps(
            {
                "verdict": self.verdict,
                "rcode": dns.rcode.to_text(message.rcode()),
                "flags": dns.flags.to_text(message.flags).split(),
                "transport": "tcp" if self.tcp else "udp",
                "question": [rrset.to_text() for rrset in message.question],
                **{
                    section: [line for rrset in rrsets for line in rrset.to_text().splitlines()]
                    for section, rrsets in (
                        ("answer", message.answer),
                        ("authority", message.authority),
                        ("additional", message.additional),
                    )
                },
            },
            indent=2,
        )


async def query(
    name: str,
    record_type: str,
    server: Address,
    *,
    tcp: bool = False,
    timeout: float = TIMEOUT,
) -> Reply:
    """Ask `server` for the records of a name; a truncated reply is asked for again over TCP.

    Args:
        name: Absolute, with or without the final dot.
        record_type: `A`, `AAAA`, …, or `TYPE123`.
        server: An address, or a name that the system resolves, and a port.
        tcp: Use TCP from the start.
        timeout: Seconds for all of it.

    Raises:
        QueryError: Nothing came back in time, the reply was malformed, or the arguments make no
            query.
    """
    try:
        request = dns.message.make_query(
            dns.name.from_text(name), record_type, use_edns=0, payload=EDNS_PAYLOAD
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise QueryError(f"{name} {record_type}: {error}") from None
    backend = dns.asyncbackend.get_backend("trio")
    try:
        with trio.fail_after(timeout):
            found = await trio.socket.getaddrinfo(server.host, server.port)
            host = str(found[0][4][0])
            if tcp:
                message = await dns.asyncquery.tcp(request, host, port=server.port, backend=backend)
            else:
                message, tcp = await dns.asyncquery.udp_with_fallback(
                    request, host, port=server.port, backend=backend, ignore_unexpected=True
                )
    except trio.TooSlowError:
        raise QueryError(f"no reply from {server} within {timeout:g} s") from None
    except (dns.exception.DNSException, EOFError) as error:
        raise QueryError(f"malformed reply from {server}: {_one_line(error)}") from None
    except (OSError, ValueError, trio.BrokenResourceError) as error:
        raise QueryError(f"no reply from {server}: {_one_line(error)}") from None
    return Reply(message, _verdict(message), tcp)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _verdict(message: dns.message.Message) -> Verdict:
    """Tell an answer from the ways of having none (RFC 2308 section 2)."""
    code = message.rcode()
    if code == dns.rcode.NXDOMAIN:
        return Verdict.NXDOMAIN
    if code != dns.rcode.NOERROR:
        return Verdict.FAILURE
    wanted = message.question[0].rdtype
    if any(wanted in (rrset.rdtype, dns.rdatatype.ANY) for rrset in message.answer):
        return Verdict.ANSWER
    if not message.answer and any(rrset.rdtype == dns.rdatatype.NS for rrset in message.authority):
        return Verdict.REFERRAL
    return Verdict.NODATA
