"""Hosts files: what a line means, and what is said about a line that means nothing."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sans_io.dns_asking import APEX, ask, load, responder
from trio_services.sans_io.dns_compile import ZoneError
from trio_services.sans_io.dns_hosts import read_hosts
from trio_services.sans_io.dns_respond import Responder

HOSTS = """\
# The usual.
127.0.0.1\tlocalhost
::1       localhost ip6-localhost   # two names

192.0.2.5 Printer.lan printer
192.0.2.6 printer.lan
192.0.2.5 printer.lan other.lan.
fe80::1%eth0 router.lan
"""


def found(server: Responder, name: str, rtype: str) -> list[str]:
    """Return the data of the answer, in order."""
    return [rdata.to_text() for rrset in ask(server, name, rtype).answer for rdata in rrset]


@pytest.mark.parametrize("text", [HOSTS, HOSTS.replace("\n", "\r\n"), HOSTS.rstrip("\n")])
def test_addresses_aliases_and_reverse_names(text: str) -> None:
    """Names get all their addresses once; addresses get the first canonical name."""
    server = responder(load(hosts=[text]))
    assert found(server, "localhost.", "A") == ["127.0.0.1"]
    assert found(server, "localhost.", "AAAA") == ["::1"]
    assert found(server, "PRINTER.lan.", "A") == ["192.0.2.5", "192.0.2.6"]
    assert found(server, "other.lan.", "A") == ["192.0.2.5"]
    assert found(server, "router.lan.", "AAAA") == ["fe80::1"]
    assert found(server, "5.2.0.192.in-addr.arpa.", "PTR") == ["Printer.lan."]
    assert found(server, "6.2.0.192.in-addr.arpa.", "PTR") == ["printer.lan."]
    reverse = IPv6Address("fe80::1").reverse_pointer
    assert found(server, reverse + ".", "PTR") == ["router.lan."]


def test_other_types_are_no_data_and_other_names_refused() -> None:
    """A hosts name has no other types, said with an SOA; nothing is known of other names."""
    server = responder(load(hosts=[HOSTS]))
    reply = ask(server, "printer.lan.", "AAAA")
    assert (reply.rcode(), len(reply.answer)) == (0, 0)
    assert reply.authority[0].to_text().startswith("printer.lan. 60 IN SOA printer.lan. nobody.")
    for name in "lan.", "x.printer.lan.", "nobody.":
        assert ask(server, name).rcode() == 5


def test_the_default_address_is_for_names_of_no_hosts_file() -> None:
    """The default address answers for unknown names, not for types that a known name lacks."""
    server = responder(load(hosts=[HOSTS], default=[IPv4Address("192.0.2.7"), IPv6Address("::7")]))
    assert found(server, "printer.lan.", "A") == ["192.0.2.5", "192.0.2.6"]
    assert found(server, "printer.lan.", "AAAA") == []
    assert found(server, "x.printer.lan.", "A") == ["192.0.2.7"]
    assert found(server, ".", "AAAA") == ["::7"]
    reply = ask(server, "x.printer.lan.", "MX")
    assert (reply.rcode(), len(reply.answer)) == (0, 0)
    assert reply.authority[0].name.to_text() == "x.printer.lan."


def test_files_are_merged() -> None:
    """Several files are like one."""
    server = responder(load(hosts=["192.0.2.1 a", "192.0.2.2 a\n192.0.2.1 b"]))
    assert found(server, "a.", "A") == ["192.0.2.1", "192.0.2.2"]
    assert found(server, "1.2.0.192.in-addr.arpa.", "PTR") == ["a."]


def test_names_inside_a_zone_become_names_of_it() -> None:
    """A hosts name in a served zone is as if it stood in the zone file, which wins."""
    zone = "$ORIGIN example.\n$TTL 300\n" + APEX + "a A 192.0.2.1\n* A 192.0.2.2\nx.ent A 192.0.2.3"
    hosts = "10.0.0.1 a.example b.c.example\n10.0.0.2 ent.example example\n"
    server = responder(load(zone, hosts=[hosts]))
    assert found(server, "a.example.", "A") == ["192.0.2.1"]
    assert found(server, "b.c.example.", "A") == ["10.0.0.1"]
    assert found(server, "ent.example.", "A") == ["10.0.0.2"]
    assert found(server, "example.", "A") == []
    assert found(server, "z.example.", "A") == ["192.0.2.2"]
    # RFC 8020: what is above an existing name exists, and blocks the wildcard.
    assert found(server, "c.example.", "A") == []
    assert ask(server, "c.example.").authority[0].name.to_text() == "example."


@pytest.mark.parametrize(
    "line",
    [
        "localhost 127.0.0.1",
        "127.0.0.1",
        "127.0.0.1 # localhost",
        "127.0.0 a",
        "127.0.0.256 a",
        "127.0.0.01 a",
        "::g a",
        "1::2::3 a",
        "127.0.0.1 a..b",
        "127.0.0.1 .",
        "127.0.0.1 *.a",
        "127.0.0.1 " + "a" * 64,
        "127.0.0.1 " + ".".join(["a" * 49] * 6),
        "127.0.0.1 bücher",
        "\0",
    ],
)
def test_bad_lines_are_named(line: str) -> None:
    """A bad line is an error with its file and number, in one line."""
    with pytest.raises(ZoneError) as caught:
        read_hosts([("/etc/hosts", f"127.0.0.1 ok\n\n{line}\n")])
    assert str(caught.value).startswith("/etc/hosts:3: ")
    assert "\n" not in str(caught.value)


def test_more_addresses_than_fit_in_a_message() -> None:
    """A name with too many addresses to be answered is refused at load time, with its line."""
    text = "".join(f"10.0.{i >> 8}.{i & 255} a\n" for i in range(5000))
    with pytest.raises(ZoneError, match=r"hosts0:\d+: a\.: more records"):
        load(hosts=[text])


def test_a_blocking_list_makes_one_reverse_name() -> None:
    """Many names for one address share what is stored, and make one PTR record."""
    text = "".join(f"0.0.0.0 ads{i}.example\n" for i in range(5000))
    zones = load(hosts=[text])
    assert len(zones.names) == 5001
    assert len({id(node) for node in zones.names.values()}) == 2


@given(st.text())
def test_any_text_is_records_or_an_error(text: str) -> None:
    """Nothing but ZoneError comes out of any text."""
    said = "hosts:"
    try:
        read_hosts([("hosts", text)])
    except ZoneError as error:
        said = str(error)
    assert said.startswith("hosts:")
