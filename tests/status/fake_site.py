"""The status site as tests of the page want it: it says what it is told to, and when.

The real one is tested with the page in `test_page_of_a_server.py`. This one shows what a real
server rarely is (draining, ten thousand tasks, lost, hostile), pushes a snapshot when the test says
so, and speaks just enough HTTP/1.1 for a browser: one request a connection.
"""

import json
import mimetypes
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import trio

from trio_services.status.await_stacks import Frame
from trio_services.status.task_tree import NurseryNode, Scope, TaskNode
from trio_services.status.task_tree_json import as_json

STATIC = files("trio_services.status") / "static"

REQUEST_HEAD_BYTES = 65536


@dataclass(slots=True)
class FakeSite:
    """A site that is served.

    Attributes:
        state: The snapshot that is shown, its `tree` a TaskNode or None.
        streaming: Whether event streams are let in; False as if there were too many.
        replies: By path: the status and the body of the reply to other requests.
        asked: The first lines of the requests, without those for files.
        streams: How many event streams have been opened.
        down: Whether connections are closed without a reply.
    """

    url: str
    state: dict[str, Any]
    streaming: bool = True
    replies: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    streams: int = 0
    down: bool = False
    _connections: set[trio.SocketStream] = field(default_factory=set)
    _listening: set[trio.SocketStream] = field(default_factory=set)

    async def show(self, **changes: object) -> None:
        """Change parts of the snapshot and push it."""
        self.state |= changes
        for stream in list(self._listening):
            with suppress(trio.BrokenResourceError):  # that page has left
                await stream.send_all(self._event())

    async def cut(self) -> None:
        """Close every connection."""
        for stream in list(self._connections):
            await stream.aclose()

    def _event(self) -> bytes:
        return f"event: state\ndata: {self._state()}\n\n".encode()

    def _state(self) -> str:
        return json.dumps(self.state | {"tree": self.state["tree"] and as_json(self.state["tree"])})

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one request."""
        self._connections.add(stream)
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # cut, or left
                if not self.down:
                    await self._answer(stream)
        finally:
            self._connections.discard(stream)
            self._listening.discard(stream)
            await stream.aclose()

    async def _answer(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some(REQUEST_HEAD_BYTES)
            if not data:
                return
            head += data
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        missing = int(length[1]) - len(head.partition(b"\r\n\r\n")[2]) if length else 0
        while missing > 0:  # closing with unread bytes would reset the connection
            data = await stream.receive_some(missing)
            if not data:
                return
            missing -= len(data)
        line = head.split(b"\r\n", 1)[0].decode()
        path = line.split()[1].partition("?")[0]
        if path == "/events" and self.streaming:
            self.streams += 1
            await stream.send_all(_head(200, "text/event-stream") + b"retry: 50\n\n")
            await stream.send_all(self._event())
            self._listening.add(stream)
            while await stream.receive_some(1):  # until the page leaves
                pass
            return
        await stream.send_all(self._page(path, line))

    def _page(self, path: str, line: str) -> bytes:
        if path == "/state.json":
            return _head(200, "application/json") + self._state().encode()
        if path == "/" or path.startswith("/static/"):
            name = path.removeprefix("/static/").strip("/") or "index.html"
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return _head(200, kind) + STATIC.joinpath(name).read_bytes()
        self.asked.append(line)
        status, body = self.replies.get(path, (503, "not here"))
        return _head(status, "application/json") + body.encode()


def _head(status: int, kind: str) -> bytes:
    phrase = HTTPStatus(status).phrase
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {kind}; charset=utf-8\r\n"
    return f"{head}Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()


@asynccontextmanager
async def fake_site(**changes: object) -> AsyncIterator[FakeSite]:
    """Serve a site on a free port, with `snapshot(**changes)` as its state."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        site = FakeSite(f"http://127.0.0.1:{port}/", snapshot(**changes))
        nursery.start_soon(trio.serve_listeners, site.serve, [listener])
        yield site
        nursery.cancel_scope.cancel()


def snapshot(**changes: object) -> dict[str, Any]:
    """Return what `/state.json` gives for a quiet server, with some parts changed.

    The tree is a TaskNode.
    """
    return {
        "version": "0.2.0",
        "python": "3.11.7",
        "pid": 4711,
        "uptime": 12.0,
        "draining": False,
        "control": False,
        "tracing": False,
        "copies": [{"pid": 4711}],
        "dns": {
            "queries": 123456,
            "per_second": 1400.5,
            "cache_hits": 100000,
            "rcodes": {"NOERROR": 123, "NXDOMAIN": 4},
            "tcp": {"open": 2, "idle": 1},
            "latency": {"p50": 12e-6, "p99": 88e-6},
        },
        "sort": {
            "lists": 77,
            "per_second": 2.5,
            "errors_by_code": {"not-json": 3},
            "latency": {"p50": 0.0012, "p99": 2.3},
            "connections": {"open": 5, "idle": 1},
            "workers": {"running": 2, "waiting": 1, "size": 2},
        },
        "memory": 54 * 1024**2,
        "loop_lag": {"now": 0.0003, "p99": 0.002},
        "recent": [],
        "tree": task("main", 1, [nursery(2, [task("signals", 3)], "everything")]),
    } | changes


def task(name: str, number: int, nurseries: Sequence[NurseryNode] = (), **more: Any) -> TaskNode:
    """Return a task that waits in `serve`."""
    frames = (Frame("/lib/app.py", 12, "serve", "app"),)
    return TaskNode(number, name, frames, tuple(nurseries), **more)


def nursery(
    number: int, tasks: Sequence[TaskNode], name: str = "nursery", **scope: Any
) -> NurseryNode:
    """Return a nursery with some tasks; `scope` is what `Scope` takes."""
    return NurseryNode(number, name, None, Scope(**scope), tuple(tasks))
