"""Programs in processes of their own: what they tell, how they end, and that nothing is left."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import trio
from services_lab.experiment import Subject
from services_lab.facts import Report, read_told
from services_lab.program import RUNTIMES
from services_lab.side_by_side import open_folder
from services_lab.trial import Trial

from tests.system.processes import wait_gone
from trio_services.sans_io.task_events import What

PATIENCE = 60.0


def subject(function: str, runtime: str = "trio") -> Subject:
    """Return a program of `programs_to_run` as a subject."""
    return Subject(column=runtime, program=f"tests.lab.programs_to_run:{function}", runtime=runtime)


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """A folder with a warden."""
    async with open_folder() as folder:
        yield folder


def trial(home: Path, function: str, runtime: str = "trio") -> Trial:
    """Return a trial of a program."""
    folder = home / "trial"
    folder.mkdir()
    return Trial(subject=subject(function, runtime), quick=True, folder=folder, home=home)


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_program_runs_on_its_runtime(home: Path, runtime: str) -> None:
    """It gets its arguments, and all that it tells and prints comes back."""
    if "uvloop" in runtime:
        pytest.importorskip("uvloop")
    ran = await trial(home, "tell", runtime).run_program("one", "--two")
    assert ran.exit_status == 0, ran.stderr
    assert ran.facts["args"] == ["one", "--two"]
    assert ran.facts["library"] == ("trio" if runtime.endswith("trio") else "asyncio")
    assert ran.facts["over"] is True
    assert ran.stdout == ("a line",)
    assert ran.stderr == ("a warning",)
    assert ran.marks["told"] <= time.monotonic()
    assert ran.events == ()
    assert not ran.left_behind


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
async def test_a_recording_has_tasks_and_marks(home: Path, runtime: str) -> None:
    """What its tasks did comes back, with its marks in between."""
    ran = await trial(home, "tell", runtime).run_program(record=True)
    assert any(each.what is What.SPAWNED for each in ran.events)
    assert "told" in [each.name for each in ran.events if each.what is What.MARK]


async def test_what_escapes_is_printed_as_python_does(home: Path) -> None:
    """An exception is a traceback and status 1; what was told before is kept."""
    ran = await trial(home, "fail").run_program()
    assert ran.exit_status == 1
    assert ran.stderr[-1] == "OSError: it fails"
    assert ran.facts["begun"] is True


async def test_facts_survive_a_kill(home: Path) -> None:
    """What was told before `kill -9` is there; the CPU time, which is told last, is not."""
    ran = await trial(home, "be_killed").run_program()
    assert ran.exit_status == -signal.SIGKILL
    assert ran.facts == {"begun": True}
    with pytest.raises(KeyError):
        _ = ran.cpu


async def test_cpu_time_counts_children(home: Path) -> None:
    """What a child burnt that has ended is the program's."""
    ran = await trial(home, "burn").run_program()
    assert ran.cpu >= 0.2
    assert ran.seconds > 0


async def test_a_signal_comes_at_a_mark(home: Path) -> None:
    """It is sent when the program has passed the mark, and ends it as Ctrl-C would."""
    ran = await trial(home, "wait").run_program(signal_at=("waiting", signal.SIGINT))
    assert ran.exit_status not in (0, None)
    assert "KeyboardInterrupt" in ran.stderr[-1]


async def test_a_program_that_does_not_end_is_killed(home: Path) -> None:
    """Its time is over: it has no exit status, and what it told is there."""
    async with trial(home, "wait").open_program() as program:
        await program.marked("waiting")
        program.mark("the lab looks")
        assert await program.cpu() > 0
        ran = await program.ended(patience=0.01)
    assert ran.exit_status is None
    assert list(ran.marks) == ["waiting", "the lab looks"]
    assert not psutil.pid_exists(program.process.pid)


async def test_waiting_for_a_mark_ends_with_the_program(home: Path) -> None:
    """A program that ends without it keeps nobody waiting."""
    async with trial(home, "fail").open_program() as program:
        with trio.fail_after(PATIENCE):
            await program.marked("never")


async def test_what_a_program_leaves_behind_is_seen_and_ended(home: Path) -> None:
    """A child that outlives it is told of, and killed."""
    ran = await trial(home, "leave_a_child").run_program()
    assert ran.left_behind
    await wait_gone(int(str(ran.facts["child"])))


async def test_leaving_kills_it(home: Path) -> None:
    """A block that ends by an exception leaves no process."""
    with pytest.raises(ValueError, match="of ours"):
        async with trial(home, "wait").open_program() as program:
            raise ValueError("of ours")
    assert not psutil.pid_exists(program.process.pid)


async def test_cancellation_kills_it(home: Path) -> None:
    """So does a cancellation, while it is waited for."""
    with trio.CancelScope() as scope:
        async with trial(home, "wait").open_program() as program:
            await program.marked("waiting")
            scope.cancel()
            await program.ended()
    assert scope.cancelled_caught
    assert not psutil.pid_exists(program.process.pid)
    assert not [name for name in os.listdir(home) if name.endswith(".pid")]


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    """A fact that is being written while it is read counts when it is complete."""
    path = tmp_path / "facts"
    assert read_told(path).facts == {}
    with path.open("w") as file:
        report = Report(file)
        report(one=1)
        report.mark("now")
        report.mark("now")
        file.write('{"facts": {"tw')
    told = read_told(path)
    assert told.facts == {"one": 1}
    assert list(told.marks) == ["now"]
