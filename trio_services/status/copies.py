"""What a parent knows of its copies: it asks each, over a socket of their own, and adds up.

The socket is one end of a socketpair, and the copy inherits the other. Frames are 4 bytes of length
and JSON; the parent sends `{"id": …, "ask": …}`, and the copy answers in order. Neither waits for
the other: a copy that does not answer within ANSWER_DEADLINE is shown as missing, the others are
shown all the same, and what it says later is recognised by its id and dropped.

The copies' trees hang below the parent's own, each in the task that keeps the copy. Numbers of
tasks are unique in a process, so those of copy N are shown with N × 2^40 added.
"""

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import trio

from trio_services.status.inside import Inside
from trio_services.status.loop_lag import LoopLag
from trio_services.status.recent import Recent
from trio_services.status.source import CannotTraceError, LocalSource, Report, View
from trio_services.status.task_tree import take_task_tree
from trio_services.status.task_tree_json import as_json

ANSWER_DEADLINE = 1.0
"""Seconds for the answer of a copy. It takes a few milliseconds; a loop that is kept for a second
is what the page is to show."""

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Of an answer; the tree of 10,000 tasks, each for itself, has 2 MiB."""

MAX_UNANSWERED = 8
"""Questions to a copy that are under way; more would fill the socket of one that hangs."""

COPY_SHIFT = 40
"""Bits of a task's number within its process; with a copy's number above them it is still exact in
JavaScript."""

_LENGTH = struct.Struct("!I")


class SilentError(Exception):
    """A copy did not answer, or not with sense."""


class CopyLink:
    """The parent's end of the socket to one copy; closed with the copy."""

    def __init__(self, number: int, pid: int, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.number = number
        self.pid = pid
        self._peer = peer
        self._inbox = bytearray()
        self._asked = 0
        self._answered = 0
        self._turn = trio.Lock()

    async def ask(self, ask: str, **arguments: object) -> Any:
        """Ask the copy something, and return its answer.

        Raises:
            SilentError: It did not answer in time.
        """
        with trio.move_on_after(ANSWER_DEADLINE):
            async with self._turn:
                try:
                    return await self._ask({"ask": ask, **arguments})
                except (OSError, ValueError, LookupError, trio.ClosedResourceError) as error:
                    raise SilentError(f"no answer: {error}") from None
        raise SilentError(f"no answer within {ANSWER_DEADLINE:g} s")

    async def _ask(self, question: dict[str, object]) -> Any:
        if self._peer.fileno() < 0:  # a number that must not be waited for
            raise OSError("the copy has ended")
        if self._asked - self._answered < MAX_UNANSWERED:
            self._asked += 1
            _send_small(self._peer, {"id": self._asked, **question})
            wanted = self._asked
        else:  # it is still busy with what was asked before
            wanted = -1
        while True:
            answer = orjson.loads(await receive_frame(self._peer, self._inbox))
            self._answered = answer["id"]
            if answer["id"] == wanted:
                return answer["answer"]

    def close(self) -> None:
        """Close the socket; whoever waits for an answer gets none."""
        trio.lowlevel.notify_closing(self._peer)
        self._peer.close()


def _send_small(peer: socket.socket, message: Mapping[str, object]) -> None:
    """Send a frame that any socket buffer takes; raises OSError if this one does not."""
    data = orjson.dumps(message)
    frame = _LENGTH.pack(len(data)) + data
    if peer.send(frame) != len(frame):
        raise OSError("the socket took half a question")


async def receive_frame(peer: socket.socket, inbox: bytearray) -> bytes:
    """Return the next frame; what of it had come when this was cancelled stays in `inbox`.

    Raises:
        OSError: The other end is gone, or sends too much.
    """
    while True:
        if len(inbox) >= _LENGTH.size:
            [length] = _LENGTH.unpack_from(inbox)
            if length > MAX_FRAME_BYTES:
                raise OSError("the answer is too long")
            end = _LENGTH.size + length
            if len(inbox) >= end:
                frame = bytes(inbox[_LENGTH.size : end])
                del inbox[:end]
                return frame
        await trio.lowlevel.wait_readable(peer)
        try:
            data = peer.recv(256 * 1024)
        except BlockingIOError:
            continue
        if not data:
            raise OSError("the other end is gone")
        inbox += data


@dataclass(slots=True)
class CopiesSource:
    """What all copies say of themselves.

    Attributes:
        count: How many copies there are to be.
        links: To those that run, by the number of the copy.
        recent: What happened in the parent.
    """

    count: int
    links: dict[int, CopyLink] = field(default_factory=dict)
    recent: Recent = field(default_factory=Recent)
    tracing: bool = field(default=False, init=False)

    async def view(self, *, tree: bool, fold: bool = True) -> View:
        """Ask all copies at once, and return what they said in time."""
        reports: list[Report] = [{} for _ in range(self.count)]

        async def ask(number: int) -> None:
            link = self.links.get(number)
            try:
                if link is None:
                    raise SilentError("it does not run")
                reports[number - 1] = await link.ask("report", tree=tree, fold=fold)
            except SilentError as error:
                pid = link.pid if link else None
                reports[number - 1] = {"pid": pid, "missing": str(error)}

        async with trio.open_nursery() as nursery:
            for number in range(1, self.count + 1):
                nursery.start_soon(ask, number, name=f"ask copy {number}")
        recent = [{**asdict(each), "pid": os.getpid()} for each in self.recent.all()]
        shown = None
        if tree:
            shown = as_json(await take_task_tree(fold=fold))
            for number, report in enumerate(reports, 1):
                if "tree" in report:
                    hang(shown, f"copy {number}", report.pop("tree"), number << COPY_SHIFT)
        return View(reports, recent, shown)

    async def cancel(self, task: int, why: str) -> bool:
        """Cancel a connection of a copy."""
        link = self.links.get(task >> COPY_SHIFT)
        try:
            number = task & ((1 << COPY_SHIFT) - 1)
            return link is not None and bool(await link.ask("cancel", task=number, why=why))
        except SilentError:
            return False

    async def start_trace(self) -> None:
        """Refuse: the traces of several processes have no common clock to be drawn on."""
        await trio.lowlevel.checkpoint()
        raise CannotTraceError("only one process can be traced: serve without --processes")

    async def stop_trace(self) -> bytes:
        """Refuse, since nothing is ever traced."""
        await trio.lowlevel.checkpoint()
        raise CannotTraceError("nothing is being recorded")


Tables = dict[str, list[dict[str, Any]]]
"""A tree as `task_tree_json` has it."""


def hang(tree: Tables, keeper: str, below: Tables, shift: int) -> None:
    """Hang the tree of another process into the task `keeper` of `tree`, its numbers shifted."""
    at = next((index for index, row in enumerate(tree["tasks"]) if row["name"] == keeper), 0)
    tasks, nurseries, frames = (len(tree[table]) for table in ("tasks", "nurseries", "frames"))
    nursery = {"number": shift, "name": "process", "task": at, "opened": None}
    scope = {"deadline": None, "shielded": False, "cancel_called": False}
    tree["nurseries"].append({**nursery, **scope})
    for row in below["tasks"]:
        inside = row["nursery"]
        tree["tasks"].append(
            {
                **row,
                "number": row["number"] + shift,
                "nursery": nurseries if inside is None else inside + nurseries + 1,
                "frames": [frame + frames for frame in row["frames"]],
            }
        )
    for row in below["nurseries"]:
        opened = row["opened"]
        tree["nurseries"].append(
            {
                **row,
                "number": row["number"] + shift,
                "task": row["task"] + tasks,
                "opened": None if opened is None else opened + frames,
            }
        )
    tree["frames"] += below["frames"]


async def answer_parent(inside: Inside, peer: socket.socket) -> None:
    """Be the copy's end: answer questions until the parent is gone or this is cancelled."""
    peer.setblocking(False)
    lag = LoopLag()
    source = LocalSource(inside, lag)
    inbox = bytearray()
    async with trio.open_nursery() as answering:
        answering.start_soon(lag.keep, name="loop lag")
        try:
            while True:
                question = orjson.loads(await receive_frame(peer, inbox))
                answer = await _answer(source, question)
                data = orjson.dumps({"id": question["id"], "answer": answer})
                if len(data) > MAX_FRAME_BYTES:
                    del answer["tree"]  # which is all that can be so large
                    data = orjson.dumps({"id": question["id"], "answer": answer})
                await _send_all(peer, _LENGTH.pack(len(data)) + data)
        except OSError:
            pass  # the parent is gone, which another task sees and acts upon
        answering.cancel_scope.cancel()


async def _answer(source: LocalSource, question: Mapping[str, Any]) -> Any:
    if question["ask"] == "cancel":
        return await source.cancel(question["task"], question["why"])
    return await source.report(tree=question["tree"], fold=question["fold"])


async def _send_all(peer: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[peer.send(view) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(peer)
