"""Settings: what can be written is understood, and what cannot is said in one line."""

from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_services.sans_io.sort_jobs import Algorithm
from trio_services.settings import (
    Address,
    DnsSettings,
    LogLevel,
    Place,
    ServeSettings,
    SettingsError,
    SortSettings,
    StatusSettings,
    ZoneFile,
    parse_default_addresses,
    read_settings,
    with_overrides,
)

ADDRESSES = [
    ("127.0.0.1:4343", Address("127.0.0.1", 4343)),
    ("localhost:0", Address("localhost", 0)),
    ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
    ("[::1]:53", Address("::1", 53)),
    ("[::]:2015", Address("::", 2015)),
    ("[fe80::1%eth0]:53", Address("fe80::1%eth0", 53)),
]

NO_ADDRESSES = [
    "",
    ":",
    "localhost",
    "4343",
    ":4343",
    "[]:4343",
    "[localhost]:4343",
    "::1:53",
    "[::1]",
    "[::1",
    "::1]:53",
    "localhost:",
    "localhost:http",
    "localhost:-1",
    "localhost:+1",
    "localhost: 1",
    "localhost:65536",
    "localhost:٣",
    "localhost:" + "9" * 5000,
]


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_addresses_both_ways(text: str, address: Address) -> None:
    """HOST:PORT and [IPV6]:PORT are read, and written the same way."""
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address(text: str) -> None:
    """Anything else is refused in a line that quotes it."""
    with pytest.raises(SettingsError) as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


@given(st.text() | st.text("[]:%1a"))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    """Nothing but `SettingsError` comes out, and what is accepted can be written and read again."""
    try:
        address = Address.parse(text)
    except SettingsError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("a.zone", ZoneFile("a.zone")),
        ("a.zone=example.org.", ZoneFile("a.zone", "example.org.")),
        ("a=b.zone=example.org", ZoneFile("a=b.zone", "example.org")),
    ],
)
def test_zone_files(text: str, zone: ZoneFile) -> None:
    """FILE or FILE=ORIGIN; the last `=` counts."""
    assert ZoneFile.parse(text) == zone


def test_default_addresses() -> None:
    """IP addresses of both kinds, or `none`."""
    assert parse_default_addresses(["none"]) == ()
    assert parse_default_addresses(["192.0.2.1", "2001:db8::1"]) == (
        IPv4Address("192.0.2.1"),
        IPv6Address("2001:db8::1"),
    )


@pytest.mark.parametrize("texts", [["none", "192.0.2.1"], ["localhost"], [""], ["192.0.2.256"]])
def test_what_is_no_default_address(texts: list[str]) -> None:
    """Names, and `none` beside an address, are refused."""
    with pytest.raises(SettingsError, match=r"^default address: "):
        parse_default_addresses(texts)


def test_defaults_are_those_of_the_original() -> None:
    """Loopback, port 4343 for DNS and 2015 for lists."""
    settings = ServeSettings()
    assert settings.dns
    assert settings.sort
    assert settings.dns.addresses == (Address("127.0.0.1", 4343),)
    assert settings.sort.addresses == (Address("127.0.0.1", 2015),)


def write(folder: Path, text: str) -> str:
    """Write a settings file and return its path."""
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_setting_can_be_read(tmp_path: Path) -> None:
    """A file with a value for each field gives just these values."""
    path = write(
        tmp_path,
        """
        grace = 3
        processes = 2
        ready_file = "ready.json"
        trace = "trace.json"
        log_level = "debug"
        log_requests = true
        [dns]
        addresses = ["127.0.0.1:5300", "[::1]:5300"]
        zones = ["a.zone", "/etc/b.zone=b.example."]
        hosts = ["hosts"]
        default_addresses = ["192.0.2.1", "2001:db8::1"]
        tcp_idle = 1
        tcp_message_deadline = 2.5
        tcp_write_deadline = 3.5
        tcp_connections = 4
        tcp_connections_per_address = 5
        [sort]
        addresses = ["127.0.0.1:0"]
        algorithm = "gnome"
        sort_in = "thread"
        workers = 3
        max_payload = 1000
        idle_deadline = 1.5
        read_deadline = 2.5
        job_deadline = 3.5
        write_deadline = 4.5
        connections = 6
        connections_per_address = 7
        max_waiting = 0
        max_bytes = 8
        allow_half_close = true
        [status]
        address = "[::1]:8043"
        control = true
        streams = 9
        connections = 10
        """,
    )
    settings = read_settings(path)
    assert settings == ServeSettings(
        grace=3.0,
        processes=2,
        ready_file=str(tmp_path / "ready.json"),
        log_level=LogLevel.DEBUG,
        log_requests=True,
        dns=DnsSettings(
            addresses=(Address("127.0.0.1", 5300), Address("::1", 5300)),
            zones=(
                ZoneFile(str(tmp_path / "a.zone")),
                ZoneFile("/etc/b.zone", "b.example."),
            ),
            hosts=(str(tmp_path / "hosts"),),
            default_addresses=(IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")),
            tcp_idle=1.0,
            tcp_message_deadline=2.5,
            tcp_write_deadline=3.5,
            tcp_connections=4,
            tcp_connections_per_address=5,
        ),
        sort=SortSettings(
            addresses=(Address("127.0.0.1", 0),),
            algorithm=Algorithm.GNOME,
            sort_in=Place.THREAD,
            workers=3,
            max_payload=1000,
            idle_deadline=1.5,
            read_deadline=2.5,
            job_deadline=3.5,
            write_deadline=4.5,
            connections=6,
            connections_per_address=7,
            max_waiting=0,
            max_bytes=8,
            allow_half_close=True,
        ),
        status=StatusSettings(
            address=Address("::1", 8043), control=True, streams=9, connections=10
        ),
        trace=str(tmp_path / "trace.json"),
    )
    assert settings.status
    for read, default in (
        (settings, ServeSettings()),
        (settings.dns, DnsSettings()),
        (settings.sort, SortSettings()),
        (settings.status, StatusSettings()),
    ):
        for each in fields(default):
            untouched = getattr(read, each.name) == getattr(default, each.name)
            assert not untouched, f"{each.name} is not in the file of this test"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ServeSettings()),
        ("[dns]\n[sort]\n", ServeSettings()),
        ("dns = false", ServeSettings(dns=None)),
        ("sort = false", ServeSettings(sort=None)),
        ("status = false", ServeSettings()),
        ("[status]\n", ServeSettings(status=StatusSettings())),
        ("grace = 0", ServeSettings(grace=0.0)),
        (
            "[dns]\ndefault_addresses = ['none']",
            ServeSettings(dns=DnsSettings(default_addresses=())),
        ),
    ],
)
def test_what_is_left_out_has_its_default(
    tmp_path: Path, text: str, expected: ServeSettings
) -> None:
    """Only what the file names is changed; `false` runs no such service."""
    assert read_settings(write(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("speed = 1", "speed"),
        ("__doc__ = 'x'", "__doc__"),
        ("[dns]\n__module__ = 'x'", "dns.__module__"),
        ("[dns]\nparse = 1", "dns.parse"),
        ("[dns]\ntcp_idel = 1", "dns.tcp_idel"),
        ("[dns]\naddresses = '127.0.0.1:53'", "dns.addresses"),
        ("[dns]\naddresses = [53]", "dns.addresses"),
        ("[dns]\naddresses = ['127.0.0.1']", "dns.addresses"),
        ("[dns]\naddresses = []", "dns.addresses"),
        ("[dns]\ndefault_addresses = ['localhost']", "dns.default_addresses"),
        ("[dns]\nzones = 'a.zone'", "dns.zones"),
        ("[dns]\nhosts = {}", "dns.hosts"),
        ("[dns]\ntcp_idle = '1'", "dns.tcp_idle"),
        ("[dns]\ntcp_idle = 0", "tcp_idle"),
        ("[dns]\ntcp_idle = nan", "tcp_idle"),
        ("[dns]\ntcp_connections = 1.5", "dns.tcp_connections"),
        ("[dns]\ntcp_connections = -1", "tcp_connections"),
        ("[sort]\nworkers = true", "sort.workers"),
        ("[sort]\nworkers = 0", "workers"),
        ("[sort]\nmax_waiting = -1", "max_waiting"),
        ("[sort]\nalgorithm = 'bogo'", "sort.algorithm"),
        ("[sort]\nalgorithm = []", "sort.algorithm"),
        ("[sort]\nsort_in = 'cloud'", "sort.sort_in"),
        ("[sort]\nallow_half_close = 1", "sort.allow_half_close"),
        ("dns = true", "dns"),
        ("dns = 1", "dns"),
        ("[sort.addresses]", "sort.addresses"),
        ("[[sort]]", "sort"),
        ("grace = -1", "grace"),
        ("processes = 0", "processes"),
        ("log_level = 'loud'", "log_level"),
        ("ready_file = 1", "ready_file"),
        ('"a\\nb" = 1', r"'a\nb'"),
        ("grace = ?", "line 1"),
    ],
)
def test_errors_are_one_line_that_names_the_setting(tmp_path: Path, text: str, named: str) -> None:
    """Whatever does not fit is told in one line, with the file and the setting."""
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert named in message
    assert len(message.splitlines()) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text are told in one line each."""
    missing, binary = tmp_path / "missing.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (missing, tmp_path, binary):
        with pytest.raises(SettingsError) as caught:
            read_settings(str(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value).splitlines()) == 1


def test_overrides_change_what_is_given() -> None:
    """None means that an option was not given; 0 and False are values."""
    settings = SortSettings(max_waiting=5, allow_half_close=True)
    changed = with_overrides(
        settings, workers=3, max_waiting=0, allow_half_close=False, algorithm=None
    )
    assert changed == SortSettings(workers=3, max_waiting=0, allow_half_close=False)
    with pytest.raises(SettingsError, match=r"^workers must be"):
        with_overrides(settings, workers=0)


def test_the_file_goes_before_the_defaults_that_it_is_read_with(tmp_path: Path) -> None:
    """What a file does not say is as in the defaults; a status page can be taken out of them."""
    with_page = ServeSettings(status=StatusSettings())
    path = tmp_path / "settings.toml"
    path.write_text("grace = 1\n")
    assert read_settings(str(path), with_page) == replace(with_page, grace=1.0)
    path.write_text("status = false\n")
    assert read_settings(str(path), with_page) == ServeSettings()
