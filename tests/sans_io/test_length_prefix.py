"""Frames are the same frames whatever pieces they arrive in."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_services.sans_io.length_prefix import (
    DnsFrames,
    dns_frame,
    parse_sort_prefix,
    sort_prefix,
)

# The bytes of a stream, the messages in it, and what is left of an unfinished one.
STREAMS = [
    (b"", [], b""),
    (b"\0", [], b"\0"),
    (b"\0\0", [b""], b""),
    (b"\0\0\0\0", [b"", b""], b""),
    (b"\0\1a", [b"a"], b""),
    (b"\0\1a\0", [b"a"], b"\0"),
    (b"\0\1a\0\2b", [b"a"], b"\0\2b"),
    (b"\0\1a\0\2bc\0\0\0\1d", [b"a", b"bc", b"", b"d"], b""),
    (b"\0\2\0\1\0\1\0", [b"\0\1", b"\0"], b""),
    (b"\xff\xffabc", [], b"\xff\xffabc"),
]


def feed_all(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """Feed `pieces` to a fresh parser; return its messages and whether one is pending."""
    frames = DnsFrames()
    messages = [message for piece in pieces for message in frames.feed(piece)]
    return messages, frames.pending


@pytest.mark.parametrize(("stream", "messages", "rest"), STREAMS)
def test_frames_fed_whole(stream: bytes, messages: list[bytes], rest: bytes) -> None:
    """A stream fed at once gives its messages in order."""
    assert feed_all([stream]) == (messages, bool(rest))


@pytest.mark.parametrize(("stream", "messages", "rest"), STREAMS)
def test_frames_fed_byte_by_byte(stream: bytes, messages: list[bytes], rest: bytes) -> None:
    """A stream fed byte by byte gives the same messages."""
    pieces = [stream[at : at + 1] for at in range(len(stream))]
    assert feed_all(pieces) == (messages, bool(rest))


@pytest.mark.parametrize(("stream", "messages", "rest"), STREAMS)
def test_frames_fed_in_all_splits(stream: bytes, messages: list[bytes], rest: bytes) -> None:
    """A stream cut into three pieces anywhere gives the same messages."""
    for first, second in combinations(range(len(stream) + 1), 2):
        pieces = [stream[:first], stream[first:second], stream[second:]]
        assert feed_all(pieces) == (messages, bool(rest))


@pytest.mark.parametrize(("stream", "messages", "rest"), STREAMS)
def test_frames_with_trailing_data(stream: bytes, messages: list[bytes], rest: bytes) -> None:
    """What follows complete messages is kept for the next feed and disturbs none of them."""
    complete = stream.removesuffix(rest)
    frames = DnsFrames()
    assert frames.feed(complete + b"\0\3x") == messages
    assert frames.pending
    assert frames.feed(b"yz") == [b"xyz"]
    assert not frames.pending


def test_a_message_is_returned_by_the_feed_that_completes_it() -> None:
    """No message is held back for the next one, and none is returned twice."""
    frames = DnsFrames()
    assert frames.feed(b"\0\2a") == []
    assert frames.feed(b"b\0\1") == [b"ab"]
    assert frames.feed(b"") == []
    assert frames.feed(b"c") == [b"c"]
    assert frames.feed(b"") == []


@given(st.lists(st.binary(max_size=600), max_size=8), st.data())
def test_frames_survive_any_pieces(messages: list[bytes], data: st.DataObject) -> None:
    """Messages that were framed come out equal, however the stream is cut."""
    stream = b"".join(map(dns_frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = [0, *cuts, len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(bounds)]
    assert feed_all(pieces) == (messages, False)


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_are_frames_and_a_rest(pieces: list[bytes]) -> None:
    """Garbage gives messages and a rest that together are the garbage; nothing raises."""
    messages, pending = feed_all(pieces)
    stream = b"".join(pieces)
    framed = b"".join(map(dns_frame, messages))
    assert stream.startswith(framed)
    assert pending == (len(framed) < len(stream))


def test_longest_message_fits_its_prefix() -> None:
    """A message of 65,535 bytes is framed; a longer one is refused instead of cut."""
    assert feed_all([dns_frame(b"x" * 65535)]) == ([b"x" * 65535], False)
    with pytest.raises(OverflowError):
        dns_frame(b"x" * 65536)


@pytest.mark.parametrize(
    ("length", "prefix"),
    [
        (0, b"\0\0\0\0\0\0\0\0"),
        (1, b"\0\0\0\0\0\0\0\1"),
        (0x0102030405060708, b"\1\2\3\4\5\6\7\10"),
        (2**64 - 1, b"\xff" * 8),
    ],
)
def test_sort_prefix_is_8_bytes_big_endian(length: int, prefix: bytes) -> None:
    """The original's prefix, both ways."""
    assert sort_prefix(length) == prefix
    assert parse_sort_prefix(prefix) == length
