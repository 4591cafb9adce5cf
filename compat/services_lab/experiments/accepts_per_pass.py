"""A hundred clients have connected: how many passes of the loop until each has its handler?

asyncio accepts up to `backlog` connections in one pass, and their handlers begin in the next: a
burst is over at once, and keeps everybody else waiting for that long. `trio.serve_listeners` and
AnyIO accept one, start its handler, and let the others run; a hundred passes or more. Draining the
queue by hand, up to a batch, is as quick as asyncio and bounded:
`trio_services.eager_io.accept_batches`.
"""

import asyncio
import socket
from contextlib import ExitStack

import anyio
import anyio.abc
import anyio.lowlevel
import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.facts import Report
from services_lab.plain_clients import HOST, connect
from services_lab.subjects import expect, programs
from services_lab.trial import Trial
from trio_services.eager_io import accept_batches

CLIENTS = 100


class Passes(Outcome):
    """How many connections a pass of the loop accepts."""

    MANY = Verdict.GOOD, "many in a pass"
    ONE = Verdict.FAIR, "one in a pass or fewer"


class Burst:
    """A listening socket at which all clients have connected, and who of them has a handler.

    Attributes:
        listener: The socket; non-blocking.
        passes: How often a sibling has run, which is once a pass.
        over: Whether all clients have a handler.
    """

    def __init__(self, report: Report, clients: ExitStack) -> None:
        self.listener = socket.socket()
        self.listener.bind((HOST, 0))
        self.listener.listen(CLIENTS)
        for _ in range(CLIENTS):
            clients.enter_context(connect(self.listener.getsockname()[1]))
        self.listener.setblocking(False)
        self.passes = 0
        self.over = False
        self._report = report
        self._handlers = 0
        self._before = 0

    def handler(self) -> None:
        """Count a handler that begins; report when it was the last."""
        if self._handlers == 0:
            self._before = self.passes
        self._handlers += 1
        if self._handlers == CLIENTS:
            self.over = True
            self._report(passes=self.passes - self._before)


async def with_asyncio(report: Report) -> None:
    """asyncio with `start_server`."""
    with ExitStack() as clients:
        burst = Burst(report, clients)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            burst.handler()
            writer.close()

        async with await asyncio.start_server(handle, sock=burst.listener):
            while not burst.over:
                burst.passes += 1
                await asyncio.sleep(0)


async def with_anyio(report: Report) -> None:
    """AnyIO with `Listener.serve`."""
    with ExitStack() as clients:
        burst = Burst(report, clients)

        async def handle(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                burst.handler()

        listener = await anyio.abc.SocketListener.from_socket(burst.listener)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            while not burst.over:
                burst.passes += 1
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


async def plain_trio(report: Report) -> None:
    """Trio with `serve_listeners`."""
    with ExitStack() as clients:
        burst = Burst(report, clients)

        async def handle(stream: trio.SocketStream) -> None:
            burst.handler()

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(burst.listener))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, [listener])
            await trio_passes(burst)
            nursery.cancel_scope.cancel()


async def drained_trio(report: Report) -> None:
    """Trio with the accept loop of this project."""
    with ExitStack() as clients:
        burst = Burst(report, clients)

        async def handle(sock: socket.socket) -> None:
            with sock:
                burst.handler()

        async with trio.open_nursery() as nursery:

            def admit(sock: socket.socket, peer: tuple[object, ...]) -> None:
                nursery.start_soon(handle, sock)

            nursery.start_soon(accept_batches, burst.listener, admit)
            await trio_passes(burst)
            nursery.cancel_scope.cancel()
        burst.listener.close()


async def trio_passes(burst: Burst) -> None:
    """Count the passes of Trio's scheduler until all clients have a handler."""
    while not burst.over:
        burst.passes += 1
        await trio.lowlevel.checkpoint()


async def run(trial: Trial) -> Observation:
    """Run the program, and count the passes from the first handler to the last."""
    ran = await trial.run_program()
    if ran.exit_status:
        raise AssertionError("\n".join(ran.stderr))
    passes = int(str(ran.facts["passes"]))
    return Observation(
        outcome=Passes.MANY if passes < CLIENTS / 2 else Passes.ONE,
        figures={"passes per connection": passes / CLIENTS},
        evidence=(f"{passes} passes from the first handler of {CLIENTS} to the last",),
    )


EXPERIMENT = Experiment(
    name="accepts-per-pass",
    family=Family.BEHAVIOUR,
    question="How many passes of the event loop does it take to accept a hundred clients?",
    why=(
        "After a restart everybody connects at once. asyncio takes them all in one pass, during "
        "which nothing else happens; plain Trio and AnyIO take one at a time, and others have "
        "their turns; the drained loop takes a batch at a time. connect-burst shows what the "
        "clients see."
    ),
    subjects=programs(
        original=with_asyncio,
        asyncio=with_asyncio,
        anyio=with_anyio,
        trio=drained_trio,
        others={"uvloop": (with_asyncio, "uvloop"), "plain-trio": (plain_trio, "trio")},
    ),
    expected=expect(
        Passes.MANY,
        anyio_asyncio=Passes.ONE,
        anyio_trio=Passes.ONE,
        plain_trio=Passes.ONE,
        uvloop=Passes.ONE,
    ),
    run=run,
    figures=(Figure(name="passes per connection", unit="", is_main=True),),
    differences=(26,),
    picture="bars",
)
