"""Length-prefixed frames: 2 bytes before a DNS message, 8 bytes before a list.

A TCP stream has no messages, only bytes in arbitrary pieces. Both protocols mark a message by
its length in big-endian order in front of it: DNS over TCP with 2 bytes (RFC 1035 section
4.2.2, RFC 7766 section 8), many messages a connection; the sort protocol with 8 bytes, one
message a connection. The peer chooses the pieces, so a prefix may itself arrive byte by byte.
"""

DNS_PREFIX_BYTES = 2
SORT_PREFIX_BYTES = 8


class DnsFrames:
    """Cuts the bytes of one DNS-over-TCP connection into messages.

    Holds at most one unfinished message (65,537 bytes) plus whatever was fed last, so the
    caller bounds memory by the size of its reads.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next `data` of the stream; return the messages that it completes, in order."""
        buffer = self._buffer + data
        messages = []
        start = 0
        while len(buffer) - start >= DNS_PREFIX_BYTES:
            begin = start + DNS_PREFIX_BYTES
            end = begin + int.from_bytes(buffer[start:begin], "big")
            if len(buffer) < end:
                break
            messages.append(buffer[begin:end])
            start = end
        self._buffer = buffer[start:]
        return messages

    @property
    def pending(self) -> bool:
        """Whether a message has begun and is not complete: the message deadline is running."""
        return bool(self._buffer)


def dns_frame(message: bytes) -> bytes:
    """Return `message` (at most 65,535 bytes) with its 2-byte length in front.

    Raises:
        OverflowError: The message is longer than its length field can say.
    """
    return len(message).to_bytes(DNS_PREFIX_BYTES, "big") + message


def sort_prefix(length: int) -> bytes:
    """Return the 8 bytes that announce a list of `length` bytes."""
    return length.to_bytes(SORT_PREFIX_BYTES, "big")


def parse_sort_prefix(prefix: bytes) -> int:
    """Return the announced length in bytes; `prefix` is exactly 8 bytes."""
    assert len(prefix) == SORT_PREFIX_BYTES
    return int.from_bytes(prefix, "big")
