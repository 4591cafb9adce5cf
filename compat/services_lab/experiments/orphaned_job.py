"""A client leaves while its list is being sorted: who goes on sorting, and for whom?

The original waits for `run_in_executor` and looks at nothing else meanwhile; it learns that the
client has left when it writes the reply. The job burns a core of the machine to its end, ten
minutes for this list; a client that connects, sends and leaves in a loop has all cores.

The other servers watch the stream while the worker sorts: two tasks of one group, of which the one
that ends first cancels the other. Cancelling the job kills its process, and another takes its
place. In asyncio that is some eighty lines of one's own (`asyncio_services.worker_process`), in
AnyIO the option `cancellable=True`, and it needs a place for a task that watches: a task group.
"""

import trio

from services_lab.at_work import ENDLESS_LIST, GNOME, LOOK_INTERVAL, is_alive, wait_at_work
from services_lab.clients import open_sort
from services_lab.experiment import Experiment, Family, Figure, Observation, Outcome, Verdict
from services_lab.server import PATIENCE
from services_lab.subjects import expect, servers
from services_lab.trial import Trial
from services_lab.usage import cpu_of

QUICK_BURNT, BURNT = 0.5, 2.0
"""Seconds of CPU time after the client has left that show a job to be orphaned. To end it takes
milliseconds; a part of this where the server has to wait for its turn."""


class Fate(Outcome):
    """What becomes of the job."""

    ENDED = Verdict.GOOD, "the job ends when its client leaves"
    ORPHANED = Verdict.BAD, "the job burns its core to the end"


async def run(trial: Trial) -> Observation:
    """Leave while a worker sorts, and see whether it goes on."""
    limit = QUICK_BURNT if trial.quick else BURNT
    async with trial.open_server(record=True) as server:
        async with await open_sort(server.sort, ENDLESS_LIST):
            worker = await wait_at_work(server)
            before = cpu_of(worker)
        server.mark("the client has left")
        left = trio.current_time()
        burnt = 0.0
        with trio.fail_after(PATIENCE):
            while (alive := is_alive(worker)) and burnt < limit:
                burnt = max(burnt, cpu_of(worker) - before)
                await trio.sleep(LOOK_INTERVAL)
        seconds = trio.current_time() - left
        server.mark("its job still runs" if alive else "its job is gone")
        await server.stop()
    return Observation(
        outcome=Fate.ORPHANED if alive else Fate.ENDED,
        figures={"CPU burnt": burnt},
        evidence=(
            f"the worker {'still sorts' if alive else 'was gone'} {seconds:.2f} s after the client",
            f"{burnt:.2f} s of CPU burnt after the client had left"
            + (", and it would go on for ten minutes" if alive else ""),
        ),
        events=server.events(),
    )


EXPERIMENT = Experiment(
    name="orphaned-job",
    family=Family.BEHAVIOUR,
    question="A client leaves while its list is sorted: does the job go on?",
    why=(
        "Work for somebody who has left is the cheapest way to bring a server down. The original "
        "waits for one thing at a time, so it does not notice. A task group can wait for two, the "
        "result and the client's leaving, and cancels the other. The asyncio services here do as "
        "well as those on Trio; they need more code for it."
    ),
    subjects=servers("sort", options=(*GNOME, "--workers", "1")),
    expected=expect(Fate.ENDED, original=Fate.ORPHANED, original_uvloop=Fate.ORPHANED),
    run=run,
    figures=(Figure(name="CPU burnt", unit="s", is_main=True),),
    differences=(12,),
    picture="timeline",
)
