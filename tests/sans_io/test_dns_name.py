"""Names in wire form: shown, and found above and inside each other."""

from trio_services.sans_io.dns_name import ancestors, enclosing, name_text


def test_names_are_shown_as_in_zone_files() -> None:
    """Bytes that mean something in a zone file, or nothing, are escaped."""
    assert name_text(b"\4a.b\x00\3www\0") == "a\\046b\\000.www."
    assert name_text(b"\0") == "."


def test_names_above() -> None:
    """The names above a name end with the root, which has none."""
    assert list(ancestors(b"\1a\2bc\0")) == [b"\2bc\0", b"\0"]
    assert list(ancestors(b"\0")) == []


def test_the_innermost_enclosing_name() -> None:
    """A name is at or below another by labels, not by bytes; the longest one counts."""
    origins = {b"\3com\0", b"\1b\3com\0"}
    assert enclosing(b"\1b\3com\0", origins) == b"\1b\3com\0"
    assert enclosing(b"\1a\1b\3com\0", origins) == b"\1b\3com\0"
    assert enclosing(b"\1c\3com\0", origins) == b"\3com\0"
    assert enclosing(b"\5x\3com\0", origins) is None
    assert enclosing(b"\3org\0", origins) is None
