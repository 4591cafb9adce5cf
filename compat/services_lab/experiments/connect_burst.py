"""Three hundred clients connect in the moment in which the server is busy: how long do they wait?

The kernel completes a connection without the server, and keeps it in a queue until it is accepted.
How long that queue may be is what `listen(backlog)` says. When it is full, Linux drops what comes,
and the client tries again: after one second, then two more. asyncio's default is 100, and few
programs set it; Trio's is 65535, which the kernel cuts to its own maximum (`somaxconn`, 4096 by
default).

The server is stopped for a moment (SIGSTOP), as a garbage collection, a slow callback or a busy
neighbour would stop it.
"""

import errno
import select
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import trio

from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.server import Server
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

CLIENTS = 300


class Queue(Outcome):
    """What becomes of the clients."""

    ALL_QUEUED = Verdict.GOOD, "all are in at once"
    SOME_WAIT = Verdict.BAD, "those beyond the queue wait a second or more"


def somaxconn() -> int:
    """Return how long a queue may be; the kernel's own maximum, as far as it is known."""
    path = Path("/proc/sys/net/core/somaxconn")
    return int(path.read_text()) if path.exists() else 128


LONG_QUEUES = sys.platform == "linux" and somaxconn() > CLIENTS


async def run(trial: Trial) -> Observation:
    """Stop the server, connect, count who is in; let it go on, and see when all are."""
    async with trial.open_server() as server:
        with ExitStack() as stack:
            server.send_signal(signal.SIGSTOP)
            try:
                began = trio.current_time()
                waiting = {each.fileno(): each for each in connecting(server, stack)}
                poll = select.poll()
                for number in waiting:
                    poll.register(number, select.POLLOUT)
                queued = await trio.to_thread.run_sync(count_connected, poll, waiting)
            finally:
                server.send_signal(signal.SIGCONT)
            seconds = 0.0
            if waiting and not trial.quick:
                while waiting:
                    await trio.to_thread.run_sync(count_connected, poll, waiting)
                seconds = trio.current_time() - began
    evidence = [f"{queued} of {CLIENTS} were in while the server was stopped"]
    if seconds:
        evidence.append(f"the last was in {seconds:.1f} s after it had begun to connect")
    return Observation(
        outcome=Queue.ALL_QUEUED if queued == CLIENTS else Queue.SOME_WAIT,
        figures={"connected at once": queued},
        evidence=tuple(evidence),
    )


def connecting(server: Server, stack: ExitStack) -> list[socket.socket]:
    """Begin to connect CLIENTS times, without waiting."""
    socks = []
    for _ in range(CLIENTS):
        sock = stack.enter_context(socket.socket())
        sock.setblocking(False)
        error = sock.connect_ex((server.sort.host, server.sort.port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, "connecting failed")
        socks.append(sock)
    return socks


def count_connected(poll: "select.poll", waiting: dict[int, socket.socket]) -> int:
    """Take those that are connected out of `waiting`, and count them; waits for 0.2 s at most.

    On loopback the kernel answers within the system call that connects.
    """
    count = 0
    for number, _ in poll.poll(200):
        if error := waiting.pop(number).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "connecting failed")
        poll.unregister(number)
        count += 1
    return count


EXPERIMENT = Experiment(
    name="connect-burst",
    family=Family.BEHAVIOUR,
    question="300 clients connect while the server is busy for a moment: are they all let in?",
    why=(
        "After a restart, or when a proxy opens its pool, everybody connects at once. The default "
        "of asyncio's start_server is a queue of 100; whoever comes beyond that waits for a "
        "second, and it looks like a slow server. It is one argument, and one has to know it."
    ),
    subjects=servers(
        "sort",
        ("original", "asyncio", "anyio-asyncio", "anyio-trio", "trio"),
        options=("--sort-in", "inline"),
    ),
    expected=expect(Queue.ALL_QUEUED if LONG_QUEUES else Queue.SOME_WAIT, original=Queue.SOME_WAIT),
    run=run,
    figures=(Figure(name="connected at once", unit="", lower_is_better=False, is_main=True),),
    differences=(26,),
    picture="bars",
)
