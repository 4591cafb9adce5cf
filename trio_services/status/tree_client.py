"""The task tree of a server that runs, asked for over HTTP and drawn in a terminal.

The server is trusted no more than any peer: its answer is bounded in size and time, and its texts
cannot move the cursor (`task_tree_text` sees to that, and `as_document`). Nothing here runs at the
same time as anything else, but for a clock that hangs up, so it needs no Trio.
"""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer

import orjson
from rich.live import Live
from rich.text import Text

from trio_services.settings import Address
from trio_services.status.task_tree import TaskNode
from trio_services.status.task_tree_json import as_json, from_json
from trio_services.status.task_tree_text import as_text, printable

DEADLINE = 10.0
"""Seconds for the whole answer."""

MAX_BYTES = 32 * 1024 * 1024
"""Of the answer: 100,000 tasks that are all different."""

WATCH_INTERVAL = 0.5
"""Seconds between two pictures, as on the page."""


class TreeError(Exception):
    """There is no tree to be shown; the text is one line that says why."""


def fetch_tree(server: Address) -> bytes:
    """Return what the status page at `server` gives for `/tree.json`.

    Raises:
        TreeError: It cannot be reached, refuses, or takes too long.
    """
    connection = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE)
    try:
        connection.connect()
        with _hanging_up(connection.sock):
            connection.request("GET", "/tree.json")
            response = connection.getresponse()
            document = bytearray()
            while data := response.read1(64 * 1024):
                document += data
                if len(document) > MAX_BYTES:
                    raise TreeError(f"the answer of {server} is too long")
            if response.length:
                raise http.client.IncompleteRead(bytes(document), response.length)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise TreeError(f"no status page at {server}: {printable(reason.strip())}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise TreeError(f"the status page at {server} says {response.status}")
    return bytes(document)


@contextmanager
def _hanging_up(sock: socket.socket) -> Iterator[None]:
    """End `sock` if the block takes longer than DEADLINE.

    A timeout of the socket begins anew with each byte, and headers have many.
    """

    is_late = False

    def hang_up() -> None:
        nonlocal is_late
        is_late = True
        with suppress(OSError):  # the server did so before
            sock.shutdown(socket.SHUT_RDWR)

    clock = Timer(DEADLINE, hang_up)
    clock.daemon = True
    clock.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not is_late:
            raise
    finally:
        clock.cancel()
    if is_late:
        raise TimeoutError(f"no whole answer within {DEADLINE:g} s")


def as_document(document: bytes) -> str:
    """Return the tree in `document` as JSON in ASCII; raises TreeError if there is none."""
    return json.dumps(as_json(_parsed(document)))


def show(document: bytes, *, frames: bool = False) -> str:
    """Return the tree in `document` as text; raises TreeError if there is none."""
    return as_text(_parsed(document), frames=frames)


def _parsed(document: bytes) -> TaskNode:
    try:
        return from_json(orjson.loads(document))
    except (ValueError, TypeError, LookupError) as error:
        raise TreeError(f"that is no task tree: {error}") from None


def watch_tree(server: Address, *, frames: bool = False) -> None:
    """Draw the tree of `server` again and again, until Ctrl-C.

    Raises:
        TreeError: It is not there any more.
    """
    try:
        with Live(auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                text = show(fetch_tree(server), frames=frames)
                live.update(Text(end_of(text, live.console.height)), refresh=True)
                time.sleep(WATCH_INTERVAL)
    except KeyboardInterrupt:
        pass  # that is how it ends


def end_of(text: str, height: int) -> str:
    """Return `text`, or as much of its end as fits into `height` lines, and how much is missing.

    The end is where the services are, and what they have in flight.
    """
    lines = text.splitlines()
    if len(lines) <= height:
        return text
    shown = lines[len(lines) - max(height - 1, 1) :]
    return "\n".join([f"… {len(lines) - len(shown)} lines more", *shown])
