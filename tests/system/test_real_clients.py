"""The DNS clients that people have: dig, kdig, drill and nslookup.

They are skipped where they are not installed, and fail there if REQUIRE_DNS_CLIENTS is set, so that
a machine that is meant to run them cannot leave them out unseen.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.system.serving import run, serving
from trio_services.settings import Address

PACKAGES = {
    "dig": "bind9-dnsutils",
    "nslookup": "bind9-dnsutils",
    "kdig": "knot-dnsutils",
    "drill": "ldnsutils",
}

LONG = 20
"""TXT records of 200 bytes under `long`, 4 KiB in all: too much for any datagram of ours."""

MIDDLE = 4
"""The same under `middle`, 900 bytes: too much for a client without EDNS (512), else not."""

ZONE = """\
$ORIGIN test.
$TTL 60
@       SOA   ns hostmaster 1 3600 600 604800 30
        NS    ns
        MX    10 mail
        MX    20 mail.elsewhere.example.
ns      A     192.0.2.1
mail    A     192.0.2.25
        AAAA  2001:db8::25
        TXT   "one" "two"
first   CNAME second
second  CNAME third
third   CNAME mail
lost    CNAME nowhere
away    CNAME www.elsewhere.example.
*.wild  A     192.0.2.99
empty.between A 192.0.2.98
""" + "".join(
    f'{owner} TXT "{number:03} {"x" * 196}"\n'
    for owner, count in (("long", LONG), ("middle", MIDDLE))
    for number in range(count)
)

CASES = {
    "mail.test A": ("NOERROR", ["A 192.0.2.25"]),
    "mail.test AAAA": ("NOERROR", ["AAAA 2001:db8::25"]),
    "mail.test TXT": ("NOERROR", ['TXT "one" "two"']),
    "test MX": ("NOERROR", ["MX 10 mail.test.", "MX 20 mail.elsewhere.example."]),
    "test SOA": ("NOERROR", ["SOA ns.test. hostmaster.test. 1 3600 600 604800 30"]),
    "first.test A": (
        "NOERROR",
        ["A 192.0.2.25", "CNAME mail.test.", "CNAME second.test.", "CNAME third.test."],
    ),
    "first.test CNAME": ("NOERROR", ["CNAME second.test."]),
    "lost.test A": ("NXDOMAIN", ["CNAME nowhere.test."]),
    "away.test A": ("NOERROR", ["CNAME www.elsewhere.example."]),
    "any.thing.wild.test A": ("NOERROR", ["A 192.0.2.99"]),
    "*.wild.test A": ("NOERROR", ["A 192.0.2.99"]),
    "wild.test A": ("NOERROR", []),
    "between.test A": ("NOERROR", []),
    "mail.test SRV": ("NOERROR", []),
    "mail.test TYPE65280": ("NOERROR", []),
    "nowhere.test A": ("NXDOMAIN", []),
    "x.mail.test A": ("NXDOMAIN", []),
    "elsewhere.example A": ("REFUSED", []),
    "MaIl.TeSt A": ("NOERROR", ["A 192.0.2.25"]),
}
"""What is asked, and which code and which answers are right, sorted."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What dig, kdig or drill showed of a reply."""

    text: str
    rcode: str
    flags: list[str]
    answers: list[str]


def shown(text: str) -> Shown:
    """Read what dig, kdig or drill print; they agree in all that matters here."""
    rcode = re.search(r"->>HEADER<<-.*(?:status|rcode): (\w+)", text)
    flags = re.search(r"^;; flags: ([\w ]+?) *;", text, re.MULTILINE | re.IGNORECASE)
    assert rcode, text
    assert flags, text
    answers, section = [], ""
    for line in text.splitlines():
        if heading := re.match(r";; (\w+) SECTION:", line):
            section = heading[1]
        elif section == "ANSWER" and line and not line.startswith(";"):
            _, _, _, record_type, data = line.split(maxsplit=4)
            answers.append(f"{record_type} {data}")
    return Shown(text, rcode[1], flags[1].split(), sorted(answers))


def client(name: str) -> str:
    """Return the command `name`, or skip the test if this machine has it not."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed (Debian's package {PACKAGES[name]})"
        if os.environ.get("REQUIRE_DNS_CLIENTS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def arguments(name: str, server: Address, question: str, *, tcp: bool) -> list[str]:
    """Return what makes the client `name` ask the server one question."""
    port = str(server.port)
    if name == "drill":
        return [
            client(name),
            "-t" if tcp else "-u",
            "-p",
            port,
            f"@{server.host}",
            *question.split(),
        ]
    transport = "+tcp" if tcp else "+notcp"
    return [client(name), f"@{server.host}", "-p", port, transport, *question.split()]


DIGS = pytest.mark.parametrize("name", ["dig", "kdig", "drill"])
TRANSPORTS = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


@pytest.fixture
def zone(tmp_path: Path) -> str:
    """A zone file with something of everything."""
    path = tmp_path / "test.zone"
    path.write_text(ZONE)
    return str(path)


@DIGS
@TRANSPORTS
async def test_answers(zone: str, name: str, tcp: bool) -> None:
    """Each client gets the right answer to each kind of question, over UDP and TCP."""
    client(name)

    async def check(question: str) -> None:
        seen = shown((await run(*arguments(name, server.dns, question, tcp=tcp))).out)
        rcode, answers = CASES[question]
        assert (seen.rcode, seen.answers) == (rcode, answers), (question, seen.text)
        assert ("aa" in seen.flags) == (rcode != "REFUSED"), (question, seen.text)
        assert "ra" not in seen.flags
        denied = rcode == "NXDOMAIN" or (rcode == "NOERROR" and not answers)
        assert ("hostmaster.test." in seen.text) == (denied or "SOA" in question), seen.text
        if question == "MaIl.TeSt A" and name != "kdig":  # kdig asks in lower case
            assert re.search(r"^;+ ?MaIl\.TeSt\.", seen.text, re.MULTILINE), seen.text
        assert not re.search("malformed|mismatch|extra|warning: (?!rec)", seen.text.lower())

    async with serving("--no-sort", "--zone", zone) as server:
        for question in CASES:
            await check(question)


@DIGS
async def test_truncation(zone: str, name: str) -> None:
    """What does not fit is cut off and marked over UDP, at the limit that the client states and at
    most at 1232 bytes, and is complete over TCP.
    """
    command = client(name)

    def limit(size: int | None) -> list[str]:
        if name == "drill":
            return ["-b", str(size)] if size else []
        return ["+ignore", f"+bufsize={size}" if size else "+noedns"]

    async with serving("--no-sort", "--zone", zone) as server:

        async def ask(question: str, *options: str, tcp: bool = False) -> Shown:
            line = arguments(name, server.dns, question, tcp=tcp)
            return shown((await run(command, *options, *line[1:])).out)

        for question, size, fits in [
            ("long.test TXT", None, False),
            ("long.test TXT", 512, False),
            ("long.test TXT", 1232, False),
            ("long.test TXT", 65535, False),
            ("middle.test TXT", None, False),
            ("middle.test TXT", 512, False),
            ("middle.test TXT", 1232, True),
            ("middle.test TXT", 4096, True),
        ]:
            seen = await ask(question, *limit(size))
            assert ("tc" in seen.flags) is not fits, (question, size, seen.text)
            assert len(seen.answers) == (MIDDLE if fits else 0), (question, size, seen.text)
        for question, count in (("long.test TXT", LONG), ("middle.test TXT", MIDDLE)):
            seen = await ask(question, tcp=True)
            assert "tc" not in seen.flags
            assert len(seen.answers) == count


@pytest.mark.parametrize("name", ["dig", "kdig"])
async def test_truncated_answers_are_asked_for_again(zone: str, name: str) -> None:
    """A client that meets a truncated answer gets all of it over TCP by itself."""
    async with serving("--no-sort", "--zone", zone, "--log-requests") as server:
        line = arguments(name, server.dns, "long.test TXT", tcp=False)
        line.remove("+notcp")
        assert len(shown((await run(*line)).out).answers) == LONG
        assert await server.said("udp long.test. TXT")
        assert await server.said("tcp long.test. TXT")


@DIGS
async def test_any(name: str) -> None:
    """ANY is answered with one RRset (RFC 8482), and changes nothing about names that are not."""
    async with serving("--no-sort") as server:
        for tcp in (False, True):
            line = arguments(name, server.dns, "alpha.example ANY", tcp=tcp)
            assert shown((await run(*line)).out).answers == ["A 192.0.2.10"]
            line = arguments(name, server.dns, "nowhere.example ANY", tcp=tcp)
            assert shown((await run(*line)).out).rcode == "NXDOMAIN"


async def test_kdig_keeps_one_connection_open(tmp_path: Path) -> None:
    """`kdig +tcp +keepopen` asks everything on one connection."""
    command = client("kdig")
    config = tmp_path / "one.toml"
    config.write_text("[dns]\ntcp_connections = 1\n")
    async with serving("--no-sort", "--config", f"{config}") as server:
        questions = ["alpha.example", "A", "alpha.example", "AAAA", "example", "MX"] * 5
        server_at = [f"@{server.dns.host}", "-p", str(server.dns.port)]
        seen = await run(command, *server_at, "+tcp", "+keepopen", "+short", *questions)
        assert seen.out.split("\n")[:-1] == ["192.0.2.10", "2001:db8::10", "10 mail.example."] * 5


@pytest.mark.parametrize(
    ("option", "a", "aaaa"),
    [
        ((), ["A 127.0.0.1"], []),
        (("--default-address", "192.0.2.200"), ["A 192.0.2.200"], []),
        (
            ("--default-address", "192.0.2.200", "--default-address", "2001:db8::200"),
            ["A 192.0.2.200"],
            ["AAAA 2001:db8::200"],
        ),
        (("--default-address", "none"), None, None),
    ],
    ids=["as in the original", "another", "both", "none"],
)
async def test_default_address(
    option: tuple[str, ...], a: list[str] | None, aaaa: list[str] | None
) -> None:
    """Names that no zone holds get the default address, or REFUSED where there is none."""
    async with serving("--no-sort", *option) as server:
        for record_type, expected in (("A", a), ("AAAA", aaaa), ("MX", a and [])):
            line = arguments("dig", server.dns, f"elsewhere.test {record_type}", tcp=False)
            seen = shown((await run(*line)).out)
            assert seen.rcode == ("REFUSED" if expected is None else "NOERROR")
            assert seen.answers == (expected or [])


@TRANSPORTS
async def test_nslookup(tcp: bool) -> None:
    """nslookup finds addresses and mail exchangers, and says of a name that it does not exist."""
    command = client("nslookup")
    async with serving("--no-sort") as server:

        async def look_up(name: str, *options: str) -> str:
            transport = ["-vc"] if tcp else []
            port = f"-port={server.dns.port}"
            return (await run(command, *transport, port, *options, name, server.dns.host)).out

        found = await look_up("www.example")
        assert "canonical name = alpha.example" in found
        assert "Address: 192.0.2.10" in found
        assert "Address: 2001:db8::10" in found
        assert "mail exchanger = 10 mail.example" in await look_up("example", "-type=MX")
        assert "can't find no.example: NXDOMAIN" in await look_up("no.example")
        assert "Address: 127.0.0.1" in await look_up("elsewhere.test")
        assert "No answer" in await look_up("gamma.example", "-type=AAAA")


async def test_options_of_edns() -> None:
    """Cookies, client subnets, NSID, padding and unknown flags do not disturb; versions do."""
    command = client("dig")
    async with serving("--no-sort") as server:

        async def ask(*options: str) -> Shown:
            line = arguments("dig", server.dns, "alpha.example A", tcp=False)
            return shown((await run(command, *line[1:], *options)).out)

        harmless = [
            ("+cookie=0123456789abcdef",),
            ("+subnet=192.0.2.0/24",),
            ("+nsid", "+padding=128", "+expire", "+keepalive"),
            ("+ednsopt=65001:abcd", "+ednsflags=0x7fff"),
            ("+dnssec", "+adflag", "+cdflag"),
            ("+noedns",),
            ("+norecurse",),
        ]
        for options in harmless:
            seen = await ask(*options)
            assert (seen.rcode, seen.answers) == ("NOERROR", ["A 192.0.2.10"]), options
            assert ("EDNS: version: 0" in seen.text) is (options != ("+noedns",))
        seen = await ask("+edns=1", "+noednsnegotiation")
        assert (seen.rcode, seen.answers) == ("BADVERS", [])
        seen = await ask("+opcode=NOTIFY")
        assert seen.rcode == "NOTIMP"


@pytest.mark.parametrize("name", ["dig", "kdig", "drill"])
async def test_many_at_once(name: str) -> None:
    """A crowd of clients is answered, each with what it asked for."""
    async with serving("--no-sort") as server:

        async def ask(number: int) -> None:
            names = ["alpha", "beta", "gamma"]
            question = f"{names[number % 3]}.example A"
            seen = shown((await run(*arguments(name, server.dns, question, tcp=number > 10))).out)
            assert seen.answers == [f"A 192.0.2.{number % 3 + 1}0"]

        client(name)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)
