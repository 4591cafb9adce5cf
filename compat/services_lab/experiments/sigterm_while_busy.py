"""SIGTERM arrives while a client is sending its list: is the list sorted, and what is left behind?

That is how a service is stopped by systemd, by Docker and by Kubernetes, at every deployment. No
library does anything about it by itself, Trio no more than asyncio: the default action of SIGTERM
ends the process on the spot. In the original no `finally` runs, no reply is sent, and the pool's
workers are never told: they stay, with copies of the listening socket, so that the port is still
taken and clients get in whom nobody serves.

The other servers take the signal as an event (`trio.open_signal_receiver`,
`loop.add_signal_handler`), stop accepting, and let what is in flight finish until the grace
deadline.
"""

import signal
from dataclasses import replace

import psutil
import trio

from services_lab.at_work import is_alive, kill_all, still_there, workers
from services_lab.clients import sort_once
from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.server import LOOK_INTERVAL, PATIENCE, Server
from services_lab.subjects import expect, servers
from services_lab.trial import Trial
from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.settings import Address

COLUMNS = ("original", "asyncio", "anyio-asyncio", "anyio-trio", "trio")

SHORT, SORTED = b"[3,1,2]", b"[1,2,3]"
GRACE = str(PATIENCE)


class End(Outcome):
    """How it ends."""

    DRAINED = Verdict.GOOD, "the list is sorted; then it ends with status 0, workers and all"
    DIES = Verdict.BAD, "it dies on the spot; the reply is lost, the workers stay"


async def run(trial: Trial) -> Observation:
    """Send the half of a list, then SIGTERM, then the other half."""
    request = sort_prefix(len(SHORT)) + SHORT
    async with trial.open_server(record=True) as server:
        # Before we connect: a pool's worker that is forked later would keep our connection.
        await sort_once(server.sort, SHORT, until_list=True)
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(request[:9])
            await sort_once(server.sort, SHORT, until_list=True)  # accepted later: ours has begun
            crew = workers(server)
            server.mark("SIGTERM")
            server.send_signal(signal.SIGTERM)
            await wait_not_accepting(server)
            reply = b""
            with trio.fail_after(PATIENCE):
                try:
                    await stream.send_all(request[9:])
                    status_before = server.process.poll()
                    left = [each for each in crew if status_before is not None and is_alive(each)]
                    holds_port = bool(left) and await gets_in(server.sort)
                    kill_all(left)  # they may hold our connection as well
                    async for data in stream:
                        reply += data
                except trio.BrokenResourceError:
                    pass
        status = await server.wait()
        server.mark("it has ended")
        left_later = await still_there(crew)
    seen = judged(reply, status, left, left_later, holds_port)
    return replace(seen, events=server.events())


def judged(
    reply: bytes,
    status: int,
    left: list[psutil.Process],
    left_later: list[psutil.Process],
    holds_port: bool,
) -> Observation:
    """Return what was seen."""
    if reply.replace(b" ", b"") == SORTED and status == 0 and not left_later:
        outcome = End.DRAINED
    elif not reply and status == -signal.SIGTERM:
        outcome = End.DIES
    else:
        raise AssertionError(f"neither: {reply!r}, status {status}, {left_later} left")
    return Observation(
        outcome=outcome,
        evidence=(
            f"the client got {reply.decode() or 'the end of its stream'}",
            f"exit status {status}",
            f"{len(left)} workers stayed" if left else "no worker stayed",
            *(["and held the port: a client still got in"] if holds_port else []),
        ),
    )


async def wait_not_accepting(server: Server) -> None:
    """Wait until the server has taken the signal: it has ended, or nobody listens any more."""
    with trio.fail_after(PATIENCE):
        while server.process.poll() is None and await gets_in(server.sort):  # noqa: ASYNC110 - it cannot be told
            await trio.sleep(LOOK_INTERVAL)


async def gets_in(address: Address) -> bool:
    """Tell whether somebody listens; whoever gets in leaves again."""
    try:
        stream = await trio.open_tcp_stream(address.host, address.port)
    except OSError:
        return False
    await stream.aclose()
    return True


EXPERIMENT = Experiment(
    name="sigterm-while-busy",
    family=Family.BEHAVIOUR,
    question="SIGTERM arrives while a client sends its list: is it still served, and what is left?",
    why=(
        "Every deployment sends SIGTERM to a server that is busy. Without a handler it is a crash: "
        "the reply is lost, and what the server had started stays behind and keeps the port. With "
        "one, asyncio, AnyIO and Trio all drain; what differs is how much code it takes. Compare "
        "the app.py of each."
    ),
    subjects=servers(
        "sort", COLUMNS, options=("--workers", "1", "--sort-in", "process", "--grace", GRACE)
    ),
    expected=expect(End.DRAINED, original=End.DIES),
    run=run,
    differences=(14,),
    picture="timeline",
)
