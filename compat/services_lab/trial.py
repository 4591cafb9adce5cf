"""A trial: one subject, one observation; what an experiment's `run` gets, and how to write one.

An experiment on programs (see `experiments/lost_exception.py`):

    async def run(trial: Trial) -> Observation:
        ran = await trial.run_program("an argument", patience=5, record=True)
        if ran.exit_status == 0: …            # also ran.stdout, .stderr (lines), .facts, .marks,
        return Observation(outcome=…, events=ran.events, evidence=ran.stderr[-3:])  # .seconds, .cpu

    EXPERIMENT = Experiment(
        name="lost-exception",                # lost_exception.py
        subjects=programs(original=bare_task, asyncio=task_group, anyio=any_group, trio=nursery),
        expected=expect(original=LOST, others=RAISED), run=run, …)

A program is `async def nursery(report: Report, *args: str) -> None`, at the top level of the
experiment's file. `report(ticks=7)` tells a fact, at any time; `report.mark("it fails")` is a
mark, in its recording too. What escapes it ends its process as Python does. To act while it runs:

        async with trial.open_program() as program:
            await program.marked("working")            # waits for report.mark("working")
            program.process.send_signal(SIGINT)
            ran = await program.ended(patience=5)      # exit_status is None if it had to be killed

An experiment on servers (see `experiments/dns_throughput.py`):

        async with trial.open_server("--workers", "1") as server:   # options: none for originals
            reply = await sort_once(server.sort, b"[3,1,2]")        # services_lab.clients
            cpu = await server.cpu()            # of all its processes, dead and living
            server.lines(), await server.said("cancelled"), server.resident(), server.open_files(),
            server.family(), server.send_signal(SIGTERM), await server.wait(), await server.stop()
        # record=True, then server.events() after server.stop()

Subjects come from `services_lab.subjects`: `programs(…)` and `servers("sort", columns)`.

Load is made by `services_lab.loads`, in a process of its own; for speed and claims, server and load
are pinned apart where there are two cores (`trial.cores`; behaviour is not pinned).

Whatever a trial starts is in process groups of its own, ends with the block that opened it (by
SIGKILL if need be), and is noted with the warden, so that `kill -9` of the lab leaves nothing.

An error of the experiment itself, such as a reply that never comes, is an exception: the runner
reports it with its traceback, as no outcome. What a subject does wrong is an outcome.
"""

import itertools
import signal
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from services_lab.cores import Cores
from services_lab.experiment import Subject
from services_lab.ran import Ran, Running, open_program
from services_lab.server import PATIENCE, Server, open_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One subject, once.

    Attributes:
        subject: Who is asked.
        quick: Whether a rough figure is enough: half a second for each subject, in the suite.
        folder: Empty, and the trial's own; it goes away with the lab.
        home: The folder that the warden watches.
        cores: Who may run where; empty for behaviour.
    """

    subject: Subject
    quick: bool
    folder: Path
    home: Path
    cores: Cores = field(default_factory=Cores)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, repr=False)

    def open_server(
        self,
        *options: str,
        cores: Collection[int] | None = None,
        env: Mapping[str, str] | None = None,
        record: bool = False,
    ) -> AbstractAsyncContextManager[Server]:
        """Run the subject's variant; inside it is ready, on free ports of loopback.

        Args:
            options: Further arguments, after those of the subject. The originals have no options:
                they are left out for them.
            cores: Where it may run, instead of `self.cores.server`.
            env: Changes to its environment.
            record: Whether to record what its tasks do; it costs time, so not where speed counts.

        Raises:
            ServerFailedError: It did not become ready.
        """
        variant = self.subject.variant
        assert variant, "the subject is a program"
        name, folder = self._fresh()
        return open_server(
            variant,
            *self.subject.options,
            *(() if variant.is_original else options),
            name=name,
            home=self.home,
            folder=folder,
            cores=self.cores.server if cores is None else cores,
            env=env,
            record=record,
        )

    def open_program(
        self,
        *args: str,
        cores: Collection[int] | None = None,
        env: Mapping[str, str] | None = None,
        record: bool = False,
    ) -> AbstractAsyncContextManager[Running]:
        """Run the subject's program; on leaving it is killed if it still runs.

        Args:
            args: Its further arguments.
            cores: Where it may run, instead of `self.cores.server`.
            env: Changes to its environment, say `{"PYTHONASYNCIODEBUG": "1"}`.
            record: Whether to record what its tasks do.
        """
        assert self.subject.program, "the subject is a server"
        name, folder = self._fresh()
        return open_program(
            self.subject,
            *args,
            name=name,
            home=self.home,
            folder=folder,
            cores=self.cores.server if cores is None else cores,
            env=env,
            record=record,
        )

    async def run_program(
        self,
        *args: str,
        patience: float = PATIENCE,
        signal_at: tuple[str, signal.Signals] | None = None,
        env: Mapping[str, str] | None = None,
        record: bool = False,
    ) -> Ran:
        """Run the subject's program to its end; see `open_program`.

        Args:
            args: Its further arguments.
            patience: Seconds after which it is killed; its exit status is None then.
            signal_at: A mark and a signal: it is sent as soon as the program passes the mark.
            env: Changes to its environment.
            record: Whether to record what its tasks do.
        """
        async with self.open_program(*args, env=env, record=record) as program:
            if signal_at:
                mark, number = signal_at
                await program.marked(mark)
                program.process.send_signal(number)
            return await program.ended(patience)

    def _fresh(self) -> tuple[str, Path]:
        """Return a name for the warden, and an empty folder, for one more process."""
        number = next(self._numbers)
        folder = self.folder / str(number)
        folder.mkdir()
        return f"{self.folder.name}.{number}", folder

    def name_for(self, what: str) -> str:
        """Return a name for the warden, unique while this process runs."""
        return f"{self.folder.name}.{what}.{next(self._numbers)}"
