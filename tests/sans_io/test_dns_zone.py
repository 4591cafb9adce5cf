"""Zone files: what loads, and the one line that says where and why something does not."""

import gc
import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sans_io.dns_asking import ask, responder
from trio_services.sans_io import dns_zone
from trio_services.sans_io.dns_compile import ZoneError
from trio_services.sans_io.dns_tree import Zones
from trio_services.sans_io.dns_zone import load_builtin_zones, load_zones

APEX = "$ORIGIN example.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\n"  # 4 lines


def load_file(folder: Path, text: str | bytes, origin: str | None = None) -> Zones:
    """Load one zone file with the given content."""
    path = folder / "a.zone"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_zones([(str(path), origin)], [], [])


def error_of(folder: Path, text: str | bytes, origin: str | None = None) -> str:
    """Return what is said about the file, without the folder."""
    with pytest.raises(ZoneError) as caught:
        load_file(folder, text, origin)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a A", ""),
        ("a A ; nothing", ""),
        ("a A 192.0.2.256", ""),
        ("a A 192.0.2.1 192.0.2.2", ""),
        ("a NONSENSE x", "unknown rdatatype 'NONSENSE'"),
        ("a CH TXT x", ""),
        ('a TXT "open', ""),
        ('a TXT "' + "x" * 256 + '"', ""),
        ("a MX 70000 b", ""),
        ("a..b A 192.0.2.1", "empty"),
        ("a" * 64 + " A 192.0.2.1", "63 octets"),
        (".".join(["a" * 49] * 6) + " A 192.0.2.1", "255 octets"),
        ("a CNAME " + ".".join(["a" * 49] * 6), "255 octets"),
        ("a 2147483648 A 192.0.2.1", "TTL 2147483648 is more than 2147483647"),
        ("a 9999999999 A 192.0.2.1", ""),
        ("www.example.com. A 192.0.2.1", "www.example.com.: is outside the zone example."),
        ("a SOA ns hostmaster 1 2 3 4 5", "belongs at the apex"),
        ("@ SOA ns hostmaster 1 2 3 4 5", "a second SOA"),
        ("@ CNAME a", "example.: CNAME and other data"),
        ("@ NS ns", "the same record twice"),
        ("*.a NS ns", "wildcard"),
        ("* DNAME a", "wildcard"),
        ("a TYPE255 \\# 0", "type 255 is for queries"),
        ("a TYPE41 \\# 0", "type 41 is for queries"),
        ("$NONSENSE 1", "NONSENSE"),
        ("$TTL never", ""),
        ("$ORIGIN", ""),
        ("$INCLUDE", "$INCLUDE takes a file"),
        ("$INCLUDE no-such-file", "No such file"),
        ("$INCLUDE .", "directory"),
        ("$GENERATE 1-x a$ A 192.0.2.$", "$GENERATE begins with FIRST-LAST"),
        ("$GENERATE 2-1 a$ A 192.0.2.$", "$GENERATE begins with FIRST-LAST"),
        ("$GENERATE 1-2/0 a$ A 192.0.2.$", "$GENERATE begins with FIRST-LAST"),
        ("$GENERATE 1 a$ A 192.0.2.$", "$GENERATE begins with FIRST-LAST"),
        ("$GENERATE", "$GENERATE begins with FIRST-LAST"),
        ("$GENERATE 1-2 a$", ""),
        ("$GENERATE 0-65536 a$ A 192.0.2.1", "$GENERATE makes at most 65536 records"),
        ("$GENERATE 1-999999999999/9 a$ A 192.0.2.1", "$GENERATE makes at most 65536 records"),
        ("\0\1\2", ""),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    """A mistake in a line is reported with the file, that line and the reason."""
    for after in "", "\n", "\n\nok A 192.0.2.1\n":
        said = error_of(tmp_path, f"{APEX}\nok2 A 192.0.2.1 ; fine\n{line}{after}")
        place, _, said_reason = said.partition(": ")
        assert reason in said_reason
        assert place == "a.zone:7"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("a A 192.0.2.1", "a CNAME b", "CNAME and other data"),
        ("a CNAME b", "a A 192.0.2.1", "CNAME and other data"),
        ("a CNAME b", "A CNAME c", "a second SOA, CNAME or DNAME"),
        ("a DNAME b", "a DNAME c", "a second SOA, CNAME or DNAME"),
        ("a DNAME b", "x.y.a A 192.0.2.1", "is below a DNAME"),
        ("x.y.a A 192.0.2.1", "a DNAME b", "is below a DNAME"),
        ("a A 192.0.2.1", "a 5 A 192.0.2.1", "the same record twice"),
    ],
)
def test_records_that_exclude_each_other(
    tmp_path: Path, first: str, second: str, reason: str
) -> None:
    """What only two records together do wrong is reported at one of them."""
    said = error_of(tmp_path, f"{APEX}{first}\n{second}\n")
    assert said.startswith(("a.zone:5: ", "a.zone:6: "))
    assert reason in said


@pytest.mark.parametrize(
    ("text", "origin", "said"),
    [
        ("", None, "a.zone:1: the zone has no SOA"),
        ("$ORIGIN example.\n", None, "a.zone:1: the zone has no SOA"),
        ("", "example.", "a.zone:1: example.: the zone has no SOA at its apex"),
        (
            APEX.replace("@ NS ns", "\n\nns A 192.0.2.1"),
            None,
            "a.zone:3: example.: the zone has no NS at its apex",
        ),
        (APEX, "example.com", "a.zone:3: example.: SOA is not at the given origin example.com."),
        ("@ SOA ns h 1 2 3 4 5\n", None, "a.zone:1: no origin is known: put $ORIGIN before it"),
        (APEX, "a..b", "a.zone: origin 'a..b': "),
        (b"\xff\xfe", None, "a.zone:1: not UTF-8 text"),
        (APEX.encode() + b"a TXT \xe9\n", None, "a.zone:5: not UTF-8 text"),
        (bytes(range(256)) * 100, None, "a.zone:2: not UTF-8 text"),
        (APEX + "a A ( 192.0.2.1\n\n", None, "a.zone:5: unbalanced parentheses"),
    ],
)
def test_whole_files(tmp_path: Path, text: str | bytes, origin: str | None, said: str) -> None:
    """What is wrong with a file as a whole is said of the file."""
    assert error_of(tmp_path, text, origin).startswith(said)


def test_a_line_that_cannot_be_read_is_shown(tmp_path: Path) -> None:
    """What cannot be read is quoted, on one line, with controls escaped, and cut if long."""
    malformed = "a.zone:5: Text input is malformed, in: "
    for line, shown in [
        ("a A 192.0.2.256 ; x", malformed + "a A 192.0.2.256 ; x"),
        ("a\tA \x1b[31m", malformed + "a A \\x1b[31m"),
        ("a NONSENSE " + "y" * 99, "a.zone:5: unknown rdatatype 'NONSENSE', in: a NONSENSE yyy"),
        ('$GENERATE 1-9 a$ TXT "$"', "a.zone:5: unknown rdatatype '$' ($GENERATE makes no quoted"),
        ("a " + "N" * 100_000 + " x", "a.zone:5: unknown rdatatype 'NNN"),
        ("a TXT (\n( x\n", "a.zone:6: unbalanced parentheses"),
    ]:
        said = error_of(tmp_path, APEX + line)
        assert said.startswith(shown)
        assert len(said) < 300
    (tmp_path / "b").write_text("\na A nowhere\n")
    said = error_of(tmp_path, APEX + "\n$INCLUDE b\n")
    assert said == "b:2: Text input is malformed, in: a A nowhere"
    assert len(error_of(tmp_path, f"{APEX}$INCLUDE {'b' * 100_000}\n")) < 300
    (tmp_path / "hosts").write_text("x" * 100_000)
    with pytest.raises(ZoneError, match=r"hosts:1: 'xxx") as caught:
        load_zones([], [str(tmp_path / "hosts")], [])
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "owner",
    ["exa..mple.", "a" * 64 + ".example.", "ex\\300mple.", "xn--\u2603\ufffd.", "\u00ad.", ".."],
)
def test_an_soa_owner_that_is_no_name(tmp_path: Path, owner: str) -> None:
    """The owner of the SOA, which is read before everything else, is refused at its line."""
    said = error_of(tmp_path, f"$TTL 60\n{owner} SOA ns h 1 2 3 4 5\n")
    assert said.startswith("a.zone:2: owner of the SOA ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """What is not there, or no file (a pipe, which would be read forever), is named."""
    os.mkfifo(tmp_path / "pipe")
    for path in str(tmp_path), str(tmp_path / "none"), str(tmp_path / "pipe"), "/dev/zero":
        for zone_files, hosts_files in ([(path, None)], []), ([], [path]):
            with pytest.raises(ZoneError) as caught:
                load_zones(zone_files, hosts_files, [])
            assert str(caught.value).startswith(f"{path}: ")
    assert "a.zone:5: $INCLUDE " in error_of(tmp_path, APEX + "$INCLUDE pipe\n")


@pytest.mark.parametrize("name", ["zero\0byte", "line\nend", "escape\x1b", "not\udcffutf8"])
def test_a_file_name_is_shown_on_one_line(name: str) -> None:
    """The name of a file that is not there is escaped, so that any log and terminal takes it."""
    with pytest.raises(ZoneError) as caught:
        load_zones([(name, None)], [], [])
    assert str(caught.value).startswith(f"{ascii(name)[1:-1]}: ")


def test_a_zone_can_be_served_once(tmp_path: Path) -> None:
    """Two files for one zone are a mistake."""
    for name in "a", "b":
        (tmp_path / name).write_text(APEX)
    paths = [(str(tmp_path / name), None) for name in ("a", "b")]
    with pytest.raises(ZoneError, match=r"b: zone example\. is served already"):
        load_zones(paths, [], [])


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n", "example"),
        ("@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n", "EXAMPLE."),
        ("example. 60 IN SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n", None),
        ("; SOA\n$TTL 1m\nexample. SOA ns h (1\n2 3\n4 5)\n NS ns\nns A 192.0.2.1\n", None),
        ("$ORIGIN .\n$TTL 60\nexample SOA ns h 1 2 3 4 5\n NS ns\nns.example A 192.0.2.1", None),
        ("\ufeff" + APEX + "ns A 192.0.2.1", None),
        ((APEX + "ns A 192.0.2.1\n").replace("\n", "\r\n"), None),
    ],
)
def test_where_the_origin_comes_from(tmp_path: Path, text: str, origin: str | None) -> None:
    """The origin is the given one, or the owner of the SOA, or what $ORIGIN says."""
    server = responder(load_file(tmp_path, text, origin))
    assert ask(server, "ns.example.").answer[0][0].to_text() == "192.0.2.1"


def test_generate_and_ttls(tmp_path: Path) -> None:
    """$GENERATE makes its records, and an RRset has one TTL: the lowest (RFC 2181 section 5.2)."""
    text = APEX + "$GENERATE 1-9 host$ A 192.0.2.$\na 60 A 192.0.2.1\na 30 A 192.0.2.2\n"
    server = responder(load_file(tmp_path, text))
    assert ask(server, "host7.example.").answer[0][0].to_text() == "192.0.2.7"
    assert ask(server, "a.example.").answer[0].ttl == 30


def test_a_generate_makes_as_many_as_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of a $GENERATE are counted by its steps; one too many is refused."""
    monkeypatch.setattr(dns_zone, "MAX_GENERATED", 10)
    for good, bad in ("1-10", "1-11"), ("5-24/2", "5-25/2"):
        zones = load_file(tmp_path, f"{APEX}$GENERATE {good} a$ A 192.0.2.$\n")
        assert len(zones.names) == 1 + 10
        said = error_of(tmp_path, f"{APEX}$GENERATE {bad} a$ A 192.0.2.$\n")
        assert said.startswith("a.zone:5: $GENERATE makes at most 10 records")


def test_an_include_is_relative_to_its_file(tmp_path: Path) -> None:
    """$INCLUDE finds its file beside the one it stands in, and its $ORIGIN ends with it."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("x A 192.0.2.2\n$ORIGIN other.example.\n$INCLUDE c ; c\n")
    (tmp_path / "sub" / "c").write_text("y A 192.0.2.3")
    text = APEX + '$include "sub/b" in.example.\nz A 192.0.2.4\n'
    server = responder(load_file(tmp_path, text))
    for name in "x.in", "y.other", "z":
        assert ask(server, f"{name}.example.").answer


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    """The place of an error is where it is, also when it is noticed afterwards."""
    for line in "a A nowhere", "a CNAME b\na A 192.0.2.1", "www.example.com. A 192.0.2.1":
        (tmp_path / "b").write_text(f"\n{line}\n")
        said = error_of(tmp_path, APEX + "$INCLUDE b\n")
        assert said.startswith(("b:2: ", "b:3: "))
    said = error_of(tmp_path, APEX + "\n$INCLUDE b\nc A nowhere\n".replace("$INCLUDE b", ""))
    assert said.startswith("a.zone:7: ")
    (tmp_path / "b").write_text("b A 192.0.2.1\n\n")
    assert error_of(tmp_path, APEX + "$INCLUDE b\n\nc A nowhere\n").startswith("a.zone:7: ")


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    """Endless inclusion ends."""
    assert "nested more than" in error_of(tmp_path, APEX + "$INCLUDE a.zone\n")


def test_an_rrset_that_fits_no_message(tmp_path: Path) -> None:
    """An RRset that could never be sent is refused with the record that is too many."""
    lines = "".join(f'a TXT "{i:0200}"\n' for i in range(400))
    assert "a.example.: more records of one type than fit" in error_of(tmp_path, APEX + lines)


def test_loading_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    """Neither records nor text nor zones wait in cycles, as the collector never sees them again."""
    gc.collect()
    gc.disable()  # so that nothing is frozen either
    try:
        zones = load_file(tmp_path, APEX + "$GENERATE 1-99 a$ A 192.0.2.$\n*.w A 192.0.2.1\n")
        assert gc.collect() == 0
        del zones
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_what_is_loaded_is_frozen(tmp_path: Path) -> None:
    """The collector does not walk what was loaded, neither at once nor later; nor does it rest."""
    before = gc.get_freeze_count()
    zones = load_file(tmp_path, APEX + "$GENERATE 1-99 a$ A 192.0.2.$\n")
    assert gc.get_freeze_count() > before + 99
    assert not any(thing is zones for thing in gc.get_objects())
    assert gc.isenabled()


def test_the_built_in_zone() -> None:
    """The zone that comes with the package has what the documentation says."""
    server = responder(load_builtin_zones())
    for name, last in ("alpha", 10), ("beta", 20), ("gamma", 30), ("x.y.wild", 99):
        assert ask(server, f"{name}.example.").answer[0][0].to_text() == f"192.0.2.{last}"
    for name, rtype in ("alpha", "AAAA"), ("@", "MX"), ("alpha", "TXT"), ("www", "CNAME"):
        owner = "example." if name == "@" else f"{name}.example."
        assert ask(server, owner, rtype).answer
    assert ask(server, "anything.else.").answer[0][0].to_text() == "127.0.0.1"
    assert ask(responder(load_builtin_zones([])), "anything.else.").rcode() == 5
    assert load_builtin_zones([IPv4Address("192.0.2.1")]).unknown.rrsets


# What mistakes are made of: names that are none, escapes, quotes, numbers that are too large.
SCRAPS = [
    *'\n\r\t .;()"@*$\\\0\x85\u2028\u00e9\u00ad\U0001f600',
    *("a", "..", "\\300", "\\0", "\\", "xn--\u2603", "example.", "a" * 64, "a." * 130, "::1"),
    *("9" * 5000, "9999999999", "192.0.2.1", "\\# 4 c00002", "1-3 ", "${0,3,x}", " IN ", " CH "),
    *(" SOA ", " NS ", " A ", " CNAME ", " DNAME ", " TXT ", " TYPE65280 ", " SVCB "),
    *("\n$ORIGIN ", "\n$TTL ", "\n$GENERATE ", "\n$INCLUDE ", "\n$UNICODE 2008\n"),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | st.lists(st.sampled_from(SCRAPS), max_size=30).map(lambda scraps: "".join(scraps).encode()),
    st.booleans(),
)
def test_any_file_is_served_or_an_error(tmp_path: Path, data: bytes, after_apex: bool) -> None:
    """Whatever a file holds, it loads or gives a ZoneError of one line that names the file."""
    path = tmp_path / "a"
    path.write_bytes(APEX.encode() + data if after_apex else data)
    for zone_files, hosts_files in ([(str(path), None)], []), ([], [str(path)]):
        said = str(path)
        try:
            load_zones(zone_files, hosts_files, [])
        except ZoneError as error:
            said = str(error)
        assert said.startswith(str(path))
        assert said.isprintable()
