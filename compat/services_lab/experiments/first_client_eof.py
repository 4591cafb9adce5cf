"""The first client of the original sort service gets its list, and waits for the end for ever.

The protocol says: the list, then the server closes. The original does close. But its pool starts a
worker when the first list has arrived, by fork, and the worker inherits every descriptor that is
open, the client's connection among them. The kernel ends a connection when the last descriptor of
it is closed, and the workers keep theirs for as long as they live. The client that reads until the
end, as the book's does, hangs; the second does not, since the worker is there already. Nothing is
logged.

It happens on Linux up to Python 3.13, where a pool forks. (macOS spawns; 3.14 has a fork server.)
The other servers start their workers before anybody can connect, or as programs of their own, which
inherit nothing: descriptors are closed on exec (PEP 446), and a fork does no exec.
"""

import trio
import trio.testing

from services_lab.at_work import FORKS, kill_all, workers
from services_lab.clients import open_sort, sort_once
from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.server import PATIENCE
from services_lab.subjects import expect, servers
from services_lab.trial import Trial

SHORT, SORTED = b"[3,1,2]", b"[1,2,3]"

LATER = 3
"""Clients that come after the first, one by one: while they are served, it sees its end."""


class End(Outcome):
    """What the first client sees after its list."""

    ENDS = Verdict.GOOD, "it gets its list, and the end"
    NEVER_ENDS = Verdict.BAD, "it gets its list, and waits for the end for ever"


async def run(trial: Trial) -> Observation:
    """Be the first client, then others; if only they see their end, find out who holds ours.

    That a stream has not ended is shown by its end: it comes when the workers are killed.
    """
    async with trial.open_server() as server:
        stream = await open_sort(server.sort, SHORT)
        ended = trio.Event()
        received = bytearray()

        async def read() -> None:
            async for data in stream:
                received.extend(data)
                got_list.set()
            ended.set()
            got_list.set()

        got_list = trio.Event()
        with trio.fail_after(PATIENCE):
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await got_list.wait()
                began = trio.current_time()
                for _ in range(LATER):
                    later = await sort_once(server.sort, SHORT)
                await trio.testing.wait_all_tasks_blocked()  # an end that is there has been read
                never_ends = not ended.is_set()
                waited = trio.current_time() - began
                if never_ends:
                    kill_all(workers(server))
                await ended.wait()
    if bytes(received).replace(b" ", b"") != SORTED or not later.ended:
        raise AssertionError(f"not sorted: {bytes(received)!r}, {later}")
    evidence = [f"the first client got {received.decode()}"]
    if never_ends:
        evidence += [
            f"{waited:.2f} s later {LATER} clients had come and seen their end, the first not",
            "the end came as soon as the workers were killed",
        ]
    else:
        evidence += ["and the end of its stream"]
    return Observation(outcome=End.NEVER_ENDS if never_ends else End.ENDS, evidence=tuple(evidence))


ORIGINAL = End.NEVER_ENDS if FORKS else End.ENDS

EXPERIMENT = Experiment(
    name="first-client-eof",
    family=Family.BEHAVIOUR,
    question="Does the very first client of the sort service see the end of its reply?",
    why=(
        "The most surprising flaw of the book's program, and one that no test of its handler "
        "finds: a pool that forks while a client is connected keeps a copy of the client's "
        "connection, and the client never sees the end. It is not asyncio's fault; it is what "
        "happens when processes are started in the middle of something else."
    ),
    subjects=servers("sort", options=("--workers", "1", "--sort-in", "process")),
    expected=expect(End.ENDS, original=ORIGINAL, original_uvloop=ORIGINAL),
    run=run,
    differences=(19,),
)
