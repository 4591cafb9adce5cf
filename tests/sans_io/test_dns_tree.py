"""The look-up in the tree: which node answers for a name, and what is no name at all."""

from hypothesis import given
from hypothesis import strategies as st

from tests.sans_io.dns_asking import APEX, load, wire_name
from trio_services.sans_io.dns_name import ancestors
from trio_services.sans_io.dns_tree import Node, Zones

ZONES = load(
    f"$ORIGIN example.\n{APEX}www A 192.0.2.1\n*.wild A 192.0.2.2\nd NS ns\na.b.c.e TXT x\n",
    hosts=["192.0.2.3 lone.host"],
)
ROOTED = load(f"$ORIGIN .\n{APEX}com NS ns.com\n")
NOTHING = load()
LABELS = st.sampled_from([b"www", b"*", b"wild", b"d", b"e", b"c", b"x", b"A" * 63, b"\0", b"com"])
TAILS = st.sampled_from(
    [wire_name(name) for name in (".", "example.", "lone.host.", "c.e.example.")]
)


def slowly(zones: Zones, name: bytes) -> Node | None:
    """Find the node label by label, without any short cut."""
    if name in zones.names:
        return zones.names[name]
    for above in ancestors(name):
        if above in zones.names:
            return zones.names[above].below
    return zones.unknown


@given(st.lists(LABELS, max_size=120), TAILS)
def test_the_closest_encloser_answers(labels: list[bytes], tail: bytes) -> None:
    """A name is found by the longest of its ends that exists, however many labels it has."""
    name = b"".join(bytes([len(label)]) + label for label in labels) + tail
    for zones in ZONES, ROOTED, NOTHING:
        assert zones.find(name) is (slowly(zones, name) if len(name) <= 255 else None)


def test_what_is_no_name_is_not_found() -> None:
    """Bytes that are merely up to some zero byte are no name: too long, cut off, a pointer."""
    for name in [
        b"",
        b"\3ab\0",
        b"\1a\5bc\0",
        b"\x40" + b"a" * 64 + b"\0",
        b"\xff\0",
        b"\1a\xc0\x0c\0",
        (b"\1a" * 127) + b"\1\0",
        b"\1a" * 128 + b"\0",
        b"\x40" + b"a" * 64 + wire_name("example.")[:-1] + b"\1\0",
    ]:
        assert ZONES.find(name) is None
    assert ZONES.find(b"\1a" * 127 + b"\0") is ZONES.unknown
    assert ZONES.find(b"\0") is ZONES.unknown
