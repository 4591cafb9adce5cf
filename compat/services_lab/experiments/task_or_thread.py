"""What it costs to keep a client that says nothing: a task, or a thread.

A thread needs a stack for its whole life. The kernel reserves 8 MiB of addresses for it (they cost
nothing until touched), the interpreter touches some pages of it, and the kernel keeps a stack of
its own, 16 KiB on x86-64 Linux, which no process is told of. A task is a coroutine, its frames and
what the library keeps about it, all on the heap.

So the claim that tasks are light and threads heavy is right, but by a factor that is far smaller
than the reserved 8 MiB suggest, and that layers upon layers of a library can use up. The sockets
cost the same for both.

Measured is what a process that holds COUNT connections has grown by, for each, when every one of
them has been served once by a task or a thread of its own, which waits for more.
"""

import asyncio
import gc
import socket
import threading
from typing import TYPE_CHECKING

import anyio
import psutil
import trio
from anyio.abc import SocketStream

from services_lab.experiment import (
    Experiment,
    Family,
    Figure,
    Measured,
    Observation,
    Ratio,
)
from services_lab.facts import Report
from services_lab.measuring import any_of, numbers_of
from services_lab.subjects import programs
from trio_services.listeners import raise_open_file_limit

if TYPE_CHECKING:
    from services_lab.trial import Trial

QUICK_COUNT, FULL_COUNT = 400, 2000
"""Clients. Each takes two descriptors."""

WARM_UP = 20
"""Clients that come first, so that what all share is there before anything is measured."""

Pairs = list[tuple[socket.socket, socket.socket]]


class Growth:
    """What the memory of this process has grown by since this was made."""

    def __init__(self) -> None:
        gc.collect()
        self._before = psutil.Process().memory_info()

    def report(self, report: Report, count: int) -> None:
        """Report the growth for each of `count`."""
        now = psutil.Process().memory_info()
        report(
            resident=(now.rss - self._before.rss) / count,
            reserved=(now.vms - self._before.vms) / count,
        )


def open_pairs(count: int) -> Pairs:
    """Return `count` connections: the server's end, and the client's."""
    raise_open_file_limit()
    return [socket.socketpair() for _ in range(count)]


def greet(pairs: Pairs) -> None:
    """As each client, say something and wait for the reply: whoever serves it runs by then."""
    for _, client in pairs:
        client.sendall(b"?")
    for _, client in pairs:
        assert client.recv(1) == b"!"


def leave(pairs: Pairs) -> None:
    """Close the ends of the clients, so that whoever serves them ends."""
    for _, client in pairs:
        client.close()


async def threads(report: Report, count: str) -> None:
    """A thread for each client; the loop has nothing to do with it."""

    def serve(sock: socket.socket) -> None:
        with sock:
            while sock.recv(1):
                sock.sendall(b"!")

    for size in (WARM_UP, int(count)):
        pairs = open_pairs(size)
        growth = Growth()
        serving = [threading.Thread(target=serve, args=(server,)) for server, _ in pairs]
        for thread in serving:
            thread.start()
        greet(pairs)
        growth.report(report, size)
        leave(pairs)
        for thread in serving:
            thread.join()


async def asyncio_tasks(report: Report, count: str) -> None:
    """A task for each client, with a reader and a writer."""

    async def serve(sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        while await reader.read(1):
            writer.write(b"!")
            await writer.drain()
        writer.close()

    for size in (WARM_UP, int(count)):
        pairs = open_pairs(size)
        growth = Growth()
        async with asyncio.TaskGroup() as tasks:
            for server, _ in pairs:
                tasks.create_task(serve(server))
            await asyncio.to_thread(greet, pairs)
            growth.report(report, size)
            leave(pairs)


async def anyio_tasks(report: Report, count: str) -> None:
    """A task for each client, with a stream."""

    async def serve(sock: socket.socket) -> None:
        async with await SocketStream.from_socket(sock) as stream:
            async for _ in stream:
                await stream.send(b"!")

    for size in (WARM_UP, int(count)):
        pairs = open_pairs(size)
        growth = Growth()
        async with anyio.create_task_group() as tasks:
            for server, _ in pairs:
                tasks.start_soon(serve, server)
            await anyio.to_thread.run_sync(greet, pairs)
            growth.report(report, size)
            leave(pairs)


async def trio_tasks(report: Report, count: str) -> None:
    """A task for each client, with a stream."""

    async def serve(sock: socket.socket) -> None:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
            async for _ in stream:
                await stream.send_all(b"!")

    for size in (WARM_UP, int(count)):
        pairs = open_pairs(size)
        growth = Growth()
        async with trio.open_nursery() as nursery:
            for server, _ in pairs:
                nursery.start_soon(serve, server)
            await trio.to_thread.run_sync(greet, pairs)
            growth.report(report, size)
            leave(pairs)


async def run(trial: "Trial") -> Observation:
    """Take the growth as it is told; the program has checked that every client was served."""
    count = QUICK_COUNT if trial.quick else FULL_COUNT
    facts = numbers_of(await trial.run_program(str(count)))
    return Observation(
        outcome=Measured.MEASURED,
        figures={
            "resident memory per client": facts["resident"],
            "addresses reserved per client": facts["reserved"],
        },
        evidence=(f"{count} clients, each of whom had been served once and then said nothing",),
    )


SUBJECTS = (
    *programs(others={"threads": (threads, "asyncio")}),
    *programs(asyncio=asyncio_tasks, anyio=anyio_tasks, trio=trio_tasks, uvloop=True),
)

EXPERIMENT = Experiment(
    name="task-or-thread",
    family=Family.CLAIM,
    question="How much memory does a client that says nothing cost: as a task, and as a thread?",
    why=(
        "Tasks are said to be light and threads heavy. They are, but not by the thousandfold that "
        "the 8 MiB of a thread's stack suggest: those are addresses, of which little is ever "
        "touched. Not counted for threads are the kernel's own stack and bookkeeping, some 20 KiB "
        "each, and that thousands of them have to be scheduled."
    ),
    subjects=SUBJECTS,
    expected=any_of(Measured, SUBJECTS),
    run=run,
    figures=(
        Figure(name="resident memory per client", unit="B", is_main=True),
        Figure(name="addresses reserved per client", unit="B"),
    ),
    ratios=tuple(
        Ratio(figure="resident memory per client", column=column, below=0.75, of="threads")
        for column in ("asyncio", "uvloop", "trio")
    ),
    picture="bars",
)
