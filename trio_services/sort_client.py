"""One list in, the sorted list out: the client of the sort service."""

import json
import re
from collections.abc import Callable
from contextlib import suppress

import trio

from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.settings import Address

CHUNK_BYTES = 256 * 1024
"""Sent or received between two reports of progress."""

REPLY_GROWTH = 8
"""How many times longer than the list the sorted list can be: 1e15 comes back as
1000000000000000.0, which is 4.5 times. More is not kept."""

_JSON_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")

Progress = Callable[[str, int, int], None]
"""Called as `progress(phase, done, total)` in bytes; the phases are `sending` and `receiving`."""


class SortFailedError(Exception):
    """The server did not return a sorted list; the text is one line that says why."""


async def sort_list(
    payload: bytes,
    server: Address,
    *,
    progress: Progress | None = None,
) -> bytes:
    """Have `server` sort a JSON array.

    Args:
        payload: The array, as JSON.
        server: Where the sort service is.
        progress: Told how far it is.

    Returns:
        The sorted array, as JSON, as the server wrote it.

    Raises:
        SortFailedError: The server could not be reached, hung up, or sent an error.
    """
    try:
        stream = await trio.open_tcp_stream(server.host, server.port)
    except OSError as error:
        cause = error.__cause__  # a group, with one exception for each address that was tried
        tried = cause.exceptions if isinstance(cause, BaseExceptionGroup) else [error]
        reason = getattr(tried[0], "strerror", None) or tried[0]
        raise SortFailedError(f"cannot connect to {server}: {reason}") from None
    progress = progress or _no_progress
    longest = REPLY_GROWTH * len(payload) + CHUNK_BYTES
    reply = bytearray()
    async with stream, trio.open_nursery() as nursery:
        # An error may come back while we still send, so both are done at once.
        nursery.start_soon(_send, stream, payload, progress)
        with suppress(trio.BrokenResourceError):  # what came before is looked at all the same
            while data := await stream.receive_some(CHUNK_BYTES):
                reply += data
                if len(reply) > longest:
                    break
                # Sorting changes no number, so the reply is about as long as the list.
                progress("receiving", len(reply), max(len(reply), len(payload)))
        nursery.cancel_scope.cancel()
    if len(reply) > longest:
        raise SortFailedError("the server's reply is longer than the sorted list can be")
    return _checked(bytes(reply))


def _no_progress(phase: str, done: int, total: int) -> None:
    pass


async def _send(stream: trio.SocketStream, payload: bytes, progress: Progress) -> None:
    try:
        await stream.send_all(sort_prefix(len(payload)))
        for start in range(0, len(payload), CHUNK_BYTES):
            chunk = payload[start : start + CHUNK_BYTES]
            await stream.send_all(chunk)
            progress("sending", start + len(chunk), len(payload))
    except trio.BrokenResourceError:
        pass  # The server hung up; what it said last is being read beside us.


def _checked(reply: bytes) -> bytes:
    """Return `reply` if it is a sorted list, whole.

    Raises:
        SortFailedError: It is the server's error, or was cut off.
    """
    text = reply.strip()
    if text.startswith(b"[") and text.endswith(b"]"):
        try:
            if text[1:2] == b'"':  # a bracket within a string is no end; numbers have none
                json.loads(text)
            return reply
        except ValueError:
            raise SortFailedError("the server's reply was cut off") from None
    if not text:
        raise SortFailedError("the server hung up without a reply")
    try:
        error = json.loads(text)["error"]
        told = f"{error['code']}: {error['message']}"
    except (ValueError, TypeError, LookupError, RecursionError):
        raise SortFailedError("the server's reply is neither a list nor an error") from None
    # The text is the server's: it must not move the cursor of our terminal.
    printable = "".join(each if each.isprintable() else " " for each in told)
    raise SortFailedError(" ".join(printable.split()))


def from_lines(text: bytes) -> bytes:
    """Return the JSON array of the numbers in `text`, one a line; blank lines are left out.

    Raises:
        SortFailedError: A line is no JSON number; the message says which.
    """
    numbers = []
    for at, line in enumerate(text.split(b"\n"), 1):
        number = line.strip()
        if not number:
            continue
        if not _JSON_NUMBER.fullmatch(number):
            raise SortFailedError(
                f"line {at}: {number[:40].decode(errors='replace')!a} is no number"
            )
        numbers.append(number)
    return b"[%s]" % b",".join(numbers)


def to_lines(reply: bytes) -> bytes:
    """Return the numbers of a JSON array, each on a line of its own."""
    numbers = reply.strip().removeprefix(b"[").removesuffix(b"]").split(b",")
    return b"".join(number.strip() + b"\n" for number in numbers if number.strip())
