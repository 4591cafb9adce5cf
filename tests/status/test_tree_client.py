"""What asks a server for its tree: how long it waits, and what it lets onto a terminal."""

import json
from functools import partial

import pytest
import trio

from tests.status.http_client import PATIENCE
from trio_services.settings import Address
from trio_services.status import tree_client
from trio_services.status.task_tree import TaskNode
from trio_services.status.task_tree_json import as_json
from trio_services.status.tree_client import TreeError, as_document, end_of, fetch_tree, show

HOSTILE = TaskNode(1, "\x1b[2J\x9b2J\u202e<b>", (), ())


@pytest.mark.parametrize(
    ("once", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["head", "body"],
)
async def test_an_answer_without_end(
    once: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a server goes on to send, it is hung up on in the end."""
    monkeypatch.setattr(tree_client, "DEADLINE", 0.5)

    async def answer(stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(once)
            while True:
                await stream.send_all(again)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        server = Address("127.0.0.1", listener.socket.getsockname()[1])
        with trio.fail_after(PATIENCE), pytest.raises(TreeError, match=r"within 0\.5 s"):
            await trio.to_thread.run_sync(fetch_tree, server, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def test_names_do_not_move_the_cursor() -> None:
    """Neither as a drawing nor as JSON does a tree have more than characters."""
    document = json.dumps(as_json(HOSTILE), ensure_ascii=False).replace("\\u001b", "x").encode()
    for shown in (show(document).rstrip("\n"), as_document(document)):
        assert shown.isprintable()
    assert json.loads(as_document(document)) == json.loads(document)


@pytest.mark.parametrize("document", [b"\x1b]0;title\x07", b"\x1b[2J{}", b"[]", b'{"tasks": []}'])
def test_what_is_no_tree(document: bytes) -> None:
    """It is refused, and not repeated, also where JSON was asked for."""
    for render in (show, as_document):
        with pytest.raises(TreeError) as refused:
            render(document)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("height", "shown"),
    [
        (4, "a\nb\nc\nd"),
        (3, "… 2 lines more\nc\nd"),
        (2, "… 3 lines more\nd"),
        (1, "… 3 lines more\nd"),
    ],
)
def test_the_end_of_a_tree_that_is_too_long(height: int, shown: str) -> None:
    """A terminal shows the services, which come last, and says how much it does not show."""
    assert end_of("a\nb\nc\nd", height) == shown
