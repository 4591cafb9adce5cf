"""Two tasks read from one connection: refused, or one of them forgotten.

Bytes of a stream belong to whoever parses it; a second reader is a bug. Trio raises
BusyResourceError in the second task, at once, for streams and for bare sockets. asyncio's
StreamReader raises RuntimeError ("read() called while another coroutine is already waiting for
incoming data"), which is as good.

One floor below, with `loop.sock_recv` (column `asyncio-socket`), asyncio does not notice: the loop
has place for one reader of a socket, the second task replaces the first, and the first waits for
ever (Python 3.11, 3.12 and 3.13, on the selector loop). Trio's sockets do (column `trio-socket`).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import anyio
import trio
from anyio.abc import SocketStream

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.ran import Ran
from services_lab.subjects import expect, programs
from services_lab.trial import Trial

SETTLE = 0.02
PATIENCE = 0.5
"""Seconds that readers get for data that is there already."""

RECEIVE_BYTES = 100


class Fate(Outcome):
    """What became of two readers."""

    REFUSED = Verdict.GOOD, "the second is refused at once"
    FORGOTTEN = Verdict.BAD, "the first is forgotten and waits for ever"
    SHARED = Verdict.FAIR, "both are served, in some order"


async def read(report: Report, who: str, receive: Callable[[], Awaitable[bytes]]) -> None:
    """Receive once, and tell what came."""
    report(**{who: "waits for ever"})
    try:
        data = await receive()
        report(**{who: f"received {data.decode()}"})
    except Exception as error:  # noqa: BLE001 - it is told
        report(**{who: f"{type(error).__name__}: {error}"})


async def original(report: Report) -> None:
    """A stream."""
    near, far = connected()
    reader, writer = await asyncio.open_connection(sock=near)

    async def receive() -> bytes:
        return await reader.read(RECEIVE_BYTES)

    with far:
        first = asyncio.create_task(read(report, "first", receive), name="first reader")
        await asyncio.sleep(SETTLE)
        second = asyncio.create_task(read(report, "second", receive), name="second reader")
        await asyncio.sleep(SETTLE)
        await send_two(report, far, asyncio.sleep)
        await asyncio.wait([first, second], timeout=PATIENCE)
        writer.close()


async def with_asyncio_socket(report: Report) -> None:
    """A bare socket."""
    near, far = connected()
    loop = asyncio.get_running_loop()

    async def receive() -> bytes:
        return await loop.sock_recv(near, RECEIVE_BYTES)

    with near, far:
        first = asyncio.create_task(read(report, "first", receive), name="first reader")
        await asyncio.sleep(SETTLE)
        second = asyncio.create_task(read(report, "second", receive), name="second reader")
        await asyncio.sleep(SETTLE)
        await send_two(report, far, asyncio.sleep)
        await asyncio.wait([first, second], timeout=PATIENCE)


async def with_asyncio(report: Report) -> None:
    """A stream."""
    near, far = connected()
    reader, writer = await asyncio.open_connection(sock=near)

    async def receive() -> bytes:
        return await reader.read(RECEIVE_BYTES)

    with far:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(read(report, "first", receive), name="first reader")
            await asyncio.sleep(SETTLE)
            tasks.create_task(read(report, "second", receive), name="second reader")
            await asyncio.sleep(SETTLE)
            await send_two(report, far, asyncio.sleep)
        writer.close()


async def with_anyio(report: Report) -> None:
    """A stream."""
    near, far = connected()
    async with await SocketStream.from_socket(near) as stream:
        with far, anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, report, "first", stream.receive, name="first reader")
                await anyio.sleep(SETTLE)
                tasks.start_soon(read, report, "second", stream.receive, name="second reader")
                await anyio.sleep(SETTLE)
                await send_two(report, far, anyio.sleep)


async def with_trio(report: Report) -> None:
    """A stream."""
    near, far = connected()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(near)) as stream:
        await read_twice(report, stream.receive_some, far)


async def with_trio_socket(report: Report) -> None:
    """A bare socket."""
    near, far = connected()
    with trio.socket.from_stdlib_socket(near) as sock:

        async def receive() -> bytes:
            return await sock.recv(RECEIVE_BYTES)

        await read_twice(report, receive, far)


async def read_twice(
    report: Report, receive: Callable[[], Awaitable[bytes]], far: socket.socket
) -> None:
    """Read in two tasks of one nursery."""
    with far, trio.move_on_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, report, "first", receive, name="first reader")
            await trio.sleep(SETTLE)
            nursery.start_soon(read, report, "second", receive, name="second reader")
            await trio.sleep(SETTLE)
            await send_two(report, far, trio.sleep)


def connected() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a connection, non-blocking."""
    near, far = socket.socketpair()
    near.setblocking(False)
    return near, far


async def send_two(
    report: Report, far: socket.socket, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Send something for each of two readers."""
    report.mark("data comes")
    far.send(b"one")
    await sleep(SETTLE)
    far.send(b"two")


def judge(ran: Ran) -> Observation:
    """Say who of the two was served."""
    first, second = str(ran.facts["first"]), str(ran.facts["second"])
    if "received" in first:
        outcome = Fate.SHARED if "received" in second else Fate.REFUSED
    elif "received" in second:
        outcome = Fate.FORGOTTEN
    else:
        raise AssertionError(f"nobody was served: {ran.facts}")
    return Observation(
        outcome=outcome,
        evidence=(f"first: {first}", f"second: {second}"),
        events=ran.events,
    )


async def run(trial: Trial) -> Observation:
    """Run the program, and see what each of its readers got."""
    return judge(await trial.run_program(record=True))


EXPERIMENT = Experiment(
    name="two-readers",
    family=Family.BEHAVIOUR,
    question="Two tasks read from one connection: is the mistake told?",
    why=(
        "A second reader is always a bug; what counts is whether it is told where it is made. "
        "Streams of all libraries do, the book's as well. asyncio's bare sockets (asyncio-socket) "
        "replace the first reader by the second, and the first never returns; Trio's refuse."
    ),
    subjects=programs(
        original=original,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=with_trio,
        others={
            "asyncio-socket": (with_asyncio_socket, "asyncio"),
            "trio-socket": (with_trio_socket, "trio"),
        },
    ),
    expected=expect(Fate.REFUSED, asyncio_socket=Fate.FORGOTTEN, trio_socket=Fate.REFUSED),
    run=run,
    differences=(16,),
    picture="timeline",
)
