"""The commands `list` and `run`, in processes of their own: what they print, and how they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import trio
from services_lab.children import environment
from services_lab.registry import names
from services_lab.results import read_results

from tests.system.processes import wait_gone

LAB = (sys.executable, "-m", "services_lab")
PATIENCE = 120.0


async def lab(*arguments: str | Path) -> tuple[int, str, str]:
    """Run a command; return its status and what it printed, on both streams."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [*LAB, *map(str, arguments)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment(COLUMNS="80"),
        )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_list_names_every_experiment() -> None:
    """Each is there with its question, by family."""
    status, out, _ = await lab("list")
    assert status == 0
    assert all(name in out for name in names())
    assert "behaviour" in out


async def test_run_prints_a_table_and_a_verdict(tmp_path: Path) -> None:
    """It says what each column did; `--json` has all of it, `--trace` what tasks did."""
    results, trace = tmp_path / "results.json", tmp_path / "trace.json"
    status, out, _ = await lab(
        *("run", "lost-exception", "--quick", "--variant", "original", "--variant", "trio"),
        *("--json", results, "--trace", trace),
    )
    assert status == 0
    assert "lost-exception" in out
    assert "✗ logged when the program was over" in out
    assert "as expected" in out
    found = read_results(results)
    assert [each.column for each in found.experiments[0].columns] == ["original", "trio"]
    assert found.conditions.quick
    assert found.conditions.command.startswith("services-lab run lost-exception --quick")
    assert not found.interrupted
    events = json.loads(trace.read_text())["traceEvents"]
    assert {each["pid"] for each in events} == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "lost-exceptoin"], "no such experiment: lost-exceptoin; did you mean lost-except"),
        (["run", "xyzzy"], "no such experiment: xyzzy; see `services-lab list`"),
        (["run", "lost-exception", "--variant", "tornado"], "no such column in these experiments"),
        (["run", "lost-exception", "--json", "/no/such/folder/file"], "cannot write"),
    ],
)
async def test_what_cannot_be_done_is_one_line(arguments: list[str], said: str) -> None:
    """It is said before anything is run, with status 2."""
    status, out, err = await lab(*arguments)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


EXPERIMENT = '''
"""An experiment whose second subject does not end."""

from services_lab.experiment import Experiment, Family, Observation, Outcome, Verdict
from services_lab.subjects import expect, programs
from tests.lab.programs_to_run import tell, wait


class Outcomes(Outcome):
    WELL = Verdict.GOOD, "went well"
    BADLY = Verdict.BAD, "went badly"


async def run(trial):
    if trial.subject.column == "original":
        return Observation(outcome=Outcomes.BADLY)
    async with trial.open_program() as program:
        await program.marked("waiting")
        (trial.home.parent / "waiting").touch()
        await program.ended(patience=600)


EXPERIMENT = Experiment(
    name="made-up",
    family=Family.BEHAVIOUR,
    question="Does it end?",
    why="It does not.",
    subjects=programs(original=tell, trio=wait),
    expected=expect(Outcomes.WELL),
    run=run,
)
'''

START = """
import sys
from services_lab import experiments
experiments.__path__.append(sys.argv.pop(1))
from services_lab.cli import main
main()
"""


def command(folder: Path, *options: str) -> list[str]:
    """Return a command that runs EXPERIMENT, which it writes to `folder`."""
    more = folder / "more"
    more.mkdir()
    (more / "made_up.py").write_text(EXPERIMENT)
    return [sys.executable, "-c", START, str(more), "run", "made-up", *options]


@asynccontextmanager
async def started(folder: Path, *options: str) -> AsyncIterator[trio.Process]:
    """Run a lab with EXPERIMENT; inside, its second subject runs."""
    with (folder / "output").open("wb") as output:
        process = await trio.lowlevel.open_process(
            command(folder, *options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(TMPDIR=str(folder), COLUMNS="80"),
        )
    try:
        with trio.fail_after(PATIENCE):
            while not (folder / "waiting").exists():
                assert process.poll() is None, (folder / "output").read_text()
                await trio.sleep(0.01)
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def below(process: trio.Process) -> Sequence[psutil.Process]:
    """Return every process below one."""
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interruption_keeps_what_was_seen(tmp_path: Path, number: signal.Signals) -> None:
    """The table and the file have the first subject, the status is 130, and nothing is left."""
    async with started(tmp_path, "--json", str(tmp_path / "results.json")) as process:
        children = below(process)
        assert len(children) >= 2  # the warden and the program
        process.send_signal(number)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 130
    for each in children:
        await wait_gone(each.pid)
    found = read_results(tmp_path / "results.json")
    assert found.interrupted
    assert [len(each.seen) for each in found.experiments[0].columns] == [1, 0]
    assert "✗ went badly (NOT as expected)" in (tmp_path / "output").read_text()
    assert not [name for name in os.listdir(tmp_path) if name.startswith("services-lab-")]


async def test_kill_9_of_the_lab_leaves_nothing(tmp_path: Path) -> None:
    """The warden ends what the lab cannot, and takes the folder away."""
    async with started(tmp_path) as process:
        children = below(process)
    for each in children:
        await wait_gone(each.pid)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("services-lab-")]


async def test_an_expectation_that_fails_is_status_1(tmp_path: Path) -> None:
    """Whoever runs it in CI is told by the exit status."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            command(tmp_path, "--variant", "original"),
            capture_stdout=True,
            check=False,
            env=environment(COLUMNS="80"),
        )
    assert done.returncode == 1
    assert b"NOT as expected" in done.stdout
