"""What a parent and its copies say to each other over a socket, and how trees are joined."""

import json
import math
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_services.status.await_stacks import Frame
from trio_services.status.copies import (
    ANSWER_DEADLINE,
    COPY_SHIFT,
    MAX_FRAME_BYTES,
    MAX_UNANSWERED,
    CopiesSource,
    CopyLink,
    SilentError,
    answer_parent,
    hang,
    receive_frame,
)
from trio_services.status.inside import Inside
from trio_services.status.source import CannotTraceError
from trio_services.status.task_tree import NurseryNode, Scope, TaskNode
from trio_services.status.task_tree_json import as_json, from_json


def frame(message: Any) -> bytes:
    """Return a message as it is sent."""
    data = json.dumps(message).encode()
    return struct.pack("!I", len(data)) + data


@asynccontextmanager
async def linked(number: int = 1) -> AsyncIterator[tuple[CopyLink, socket.socket]]:
    """Yield a parent's link, and the socket of the copy."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link = CopyLink(number, 4711, ours)
    with theirs:
        yield link, theirs
        link.close()


async def test_questions_and_answers() -> None:
    """A copy that lives answers with its report, and cancels nothing that is not there."""
    async with linked() as (link, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(answer_parent, Inside(), theirs)
        report = await link.ask("report", tree=True, fold=True)
        assert report["pid"] > 0
        assert from_json(report["tree"]).name == "<init>"
        assert "tree" not in await link.ask("report", tree=False, fold=True)
        assert await link.ask("cancel", task=1, why="why") is False
        nursery.cancel_scope.cancel()


async def test_a_copy_ends_answering_when_the_parent_is_gone() -> None:
    """The end of the socket is no error: it is another task's to act upon."""
    ours, theirs = socket.socketpair()
    with theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_parent, Inside(), theirs)
            await trio.testing.wait_all_tasks_blocked()
            ours.close()


async def test_a_copy_that_is_silent(autojump_clock: trio.testing.MockClock) -> None:
    """It is given up on after a while; its late answer is not taken for the next one."""
    async with linked() as (link, theirs):
        with pytest.raises(SilentError, match="within"):
            await link.ask("report")
        assert trio.current_time() == ANSWER_DEADLINE
        theirs.send(frame({"id": 1, "answer": "late"})[:10])
        with pytest.raises(SilentError):
            await link.ask("report")
        theirs.send(frame({"id": 1, "answer": "late"})[10:])
        theirs.send(frame({"id": 2, "answer": "late"}) + frame({"id": 3, "answer": "in time"}))
        assert await link.ask("report") == "in time"


async def test_a_copy_that_hangs(autojump_clock: trio.testing.MockClock) -> None:
    """It is not asked without end: what it has not read is bounded, and it is asked again later."""
    async with linked() as (link, theirs):
        for _ in range(3 * MAX_UNANSWERED):
            with pytest.raises(SilentError):
                await link.ask("report")
        asked = theirs.recv(1_000_000)
        assert asked.count(b'"ask"') == MAX_UNANSWERED
        theirs.send(b"".join(frame({"id": id_, "answer": 0}) for id_ in range(1, 9)))
        with pytest.raises(SilentError):
            await link.ask("report")  # which reads what was answered
        theirs.send(frame({"id": MAX_UNANSWERED + 1, "answer": "here again"}))
        assert await link.ask("report") == "here again"


@pytest.mark.parametrize(
    "said",
    [b"", struct.pack("!I", MAX_FRAME_BYTES + 1), struct.pack("!I", 3) + b"no!", frame({"no": 1})],
    ids=["hangs up", "too long", "no JSON", "no answer"],
)
async def test_a_copy_without_sense(said: bytes) -> None:
    """What is no answer is the same as none."""
    async with linked() as (link, theirs):
        if said:
            theirs.send(said)
        else:
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(SilentError, match="no answer"):
            await link.ask("report")


@pytest.mark.parametrize("unanswered", [0, MAX_UNANSWERED])
async def test_a_link_that_is_closed_meanwhile(
    unanswered: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Whoever waits for an answer of a copy that is given up, or asks it then, gets none."""
    async with linked() as (link, _):
        for _ in range(unanswered):
            with pytest.raises(SilentError, match="within"):
                await link.ask("report")

        async def ask() -> None:
            with pytest.raises(SilentError, match="no answer"):
                await link.ask("report")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            link.close()
        assert trio.current_time() == unanswered * ANSWER_DEADLINE
        await ask()


async def test_a_frame_that_is_cut_off_by_cancellation() -> None:
    """What had come of it is kept for the next attempt."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    inbox = bytearray()
    with ours, theirs:
        data = frame("x" * 1000)
        theirs.send(data[:500])
        with trio.move_on_after(0) as scope:
            await receive_frame(ours, inbox)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive_frame, ours, inbox)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert len(inbox) == 500
        theirs.send(data[500:])
        assert json.loads(await receive_frame(ours, inbox)) == "x" * 1000
        assert not inbox


async def test_missing_copies(autojump_clock: trio.testing.MockClock) -> None:
    """One that does not run or does not answer is shown so, after one deadline for all."""
    async with linked(2) as (link, _), linked(3) as (other, _):
        source = CopiesSource(3, links={2: link, 3: other})
        view = await source.view(tree=True)
        assert trio.current_time() == ANSWER_DEADLINE
        assert [report["pid"] for report in view.reports] == [None, 4711, 4711]
        assert all("missing" in report for report in view.reports)
        assert from_json(view.tree).name == "<init>"
        assert await source.cancel(5, "why") is False
        assert await source.cancel((2 << COPY_SHIFT) + 5, "why") is False


async def test_traces_of_copies_are_refused() -> None:
    """Their clocks are their own."""
    source = CopiesSource(2)
    with pytest.raises(CannotTraceError, match="--processes"):
        await source.start_trace()
    with pytest.raises(CannotTraceError):
        await source.stop_trace()


def node(number: int, name: str, *children: TaskNode) -> TaskNode:
    """Return a task with one nursery for its children."""
    here = Frame(f"{name}.py", number, name, name)
    scope = Scope(deadline=1.5, shielded=True)
    nursery = NurseryNode(number + 100, "nursery", here, scope, children)
    return TaskNode(number, name, (here,), (nursery,) if children else ())


def test_trees_are_joined() -> None:
    """The tree of a copy hangs in the task that keeps it, with numbers and frames of its own."""
    parent = node(1, "parent", node(2, "copy 1"), node(3, "copy 2", node(4, "keeper")))
    copy = node(1, "root", node(2, "service", node(3, "connection")))
    joined: Any = as_json(parent)
    hang(joined, "copy 1", as_json(copy), 1 << COPY_SHIFT)
    hang(joined, "copy 2", as_json(copy), 2 << COPY_SHIFT)
    tree = from_json(json.loads(json.dumps(joined)))
    [first, second] = tree.nurseries[0].tasks
    for number, keeper in enumerate((first, second), 1):
        below = keeper.nurseries[-1]
        assert (below.name, below.scope) == ("process", Scope())
        shift = number << COPY_SHIFT
        [root] = below.tasks
        assert (root.name, root.number, root.frames) == ("root", 1 + shift, copy.frames)
        [service] = root.nurseries[0].tasks
        [connection] = service.nurseries[0].tasks
        assert connection.number == 3 + shift
        assert service.nurseries[0].opened == copy.nurseries[0].tasks[0].nurseries[0].opened
    assert second.nurseries[0].tasks[0].name == "keeper"
    assert math.log2(256 << COPY_SHIFT) < 53  # so that JavaScript can tell them apart
