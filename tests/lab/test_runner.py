"""The runner: turns, what fails, what is missing, and what an interruption keeps.

The experiments are made up and start no process, so a mock clock will do.
"""

from pathlib import Path

import pytest
import trio
from services_lab.experiment import Experiment, Family, Observation, Subject
from services_lab.results import ExperimentResult, Seen
from services_lab.runner import (
    QUICK_DEADLINE,
    ObservationFailedError,
    Plan,
    observe,
    run_experiment,
)
from services_lab.subjects import expect, missing, programs, runtime_version, servers
from services_lab.trial import Trial
from trio.testing import MockClock

from tests.lab.fakes import Fake, Nobody, experiment


async def well(trial: Trial) -> Observation:
    """Take a second."""
    await trio.sleep(1)
    return Observation(outcome=Fake.WELL, figures={"time": 1.0}, evidence=("a line",))


async def outcome(made_up: Experiment, plan: Plan, home: Path) -> ExperimentResult:
    """Run one experiment, and return what it found."""
    found: list[ExperimentResult] = []
    await run_experiment(plan, made_up, home, Nobody(), found)
    [result] = found
    return result


async def test_subjects_are_asked_in_turns(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Every subject is observed once before any is observed again."""
    order = []

    async def run(trial: Trial) -> Observation:
        order.append(trial.subject.column)
        return await well(trial)

    made_up = experiment(run, rounds=2, family=Family.SPEED)
    result = await outcome(made_up, Plan(experiments=(made_up,)), tmp_path)
    assert order == ["original", "trio", "original", "trio"]
    assert [seen.round for seen in result.columns[1].seen] == [0, 1]
    assert [seen.seconds for seen in result.columns[1].seen] == [1.0, 1.0]
    assert result.complaints == ()


async def test_each_trial_has_a_folder_of_its_own(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What one observation leaves in its folder is not there in the next."""

    async def run(trial: Trial) -> Observation:
        (trial.folder / "file").touch(exist_ok=False)
        return await well(trial)

    made_up = experiment(run, rounds=2)
    result = await outcome(made_up, Plan(experiments=(made_up,)), tmp_path)
    assert result.complaints == ()


async def test_what_is_measured_is_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    """`at_once` is for behaviour: subjects whose time counts never run side by side."""
    running = 0
    most: dict[Family, int] = {}

    async def run(trial: Trial) -> Observation:
        nonlocal running
        running += 1
        most[family] = max(most.get(family, 0), running)
        seen = await well(trial)
        running -= 1
        return seen

    columns = ("original", "asyncio", "trio")
    for family in Family:
        made_up = experiment(run, columns, family=family, name=str(family))
        await outcome(made_up, Plan(experiments=(made_up,), at_once=2), tmp_path)
    assert most == {Family.BEHAVIOUR: 2, Family.SPEED: 1, Family.CLAIM: 1}


async def test_quick_is_one_round_unless_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    """`--quick` asks once, `--rounds` as often as it says, and else the experiment decides."""
    made_up = experiment(well, rounds=3)
    one = (made_up,)
    assert Plan(experiments=one).rounds_of(made_up) == 3
    assert Plan(experiments=one, quick=True).rounds_of(made_up) == 1
    assert Plan(experiments=one, quick=True, rounds=2).rounds_of(made_up) == 2
    assert Plan(experiments=one).observations(made_up) == 6


async def test_an_error_is_told_and_the_others_go_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What fails is reported with its traceback, is not asked again, and stops nobody else."""
    asked = []

    async def run(trial: Trial) -> Observation:
        asked.append(trial.subject.column)
        if trial.subject.column == "original":
            async with trio.open_nursery():
                raise OSError("the first line\nthe second")
        return await well(trial)

    made_up = experiment(run, rounds=2)
    result = await outcome(made_up, Plan(experiments=(made_up,)), tmp_path)
    assert asked == ["original", "trio", "trio"]
    [error] = result.columns[0].errors
    assert error.startswith("OSError: the first line\n")
    assert "Traceback" in error
    assert result.complaints == ("original: could not be observed: OSError: the first line",)
    assert len(result.columns[1].seen) == 2


async def test_an_observation_has_a_deadline(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One that never ends is an error, when its time is over."""

    async def run(trial: Trial) -> Observation:
        await trio.sleep_forever()
        raise AssertionError

    made_up = experiment(run)
    began = trio.current_time()
    with pytest.raises(ObservationFailedError, match="TooSlowError"):
        await observe(made_up, made_up.subjects[0], tmp_path, quick=True)
    assert trio.current_time() - began == QUICK_DEADLINE


async def test_cancellation_keeps_what_was_seen(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A run that is interrupted has a result of the observations that were complete."""
    made_up = experiment(well, rounds=5)
    found: list[ExperimentResult] = []
    with trio.move_on_after(2.5) as scope:
        await run_experiment(Plan(experiments=(made_up,)), made_up, tmp_path, Nobody(), found)
    assert scope.cancelled_caught
    [result] = found
    assert [len(each.seen) for each in result.columns] == [1, 1]


async def test_nothing_seen_is_no_result(tmp_path: Path, autojump_clock: MockClock) -> None:
    """An experiment that was cancelled before it saw anything is left out."""
    made_up = experiment(well)
    found: list[ExperimentResult] = []
    with trio.move_on_after(0.5):
        await run_experiment(Plan(experiments=(made_up,)), made_up, tmp_path, Nobody(), found)
    assert found == []


async def test_who_is_missing_is_told_with_the_reason(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subject that cannot be asked here has a word in the results, and is no complaint."""
    monkeypatch.setattr("services_lab.subjects.find_spec", lambda name: None)
    subject = Subject(column="uvloop", program="services_lab.program:main", runtime="uvloop")
    made_up = experiment(well, ("uvloop",), subjects=(subject,))
    result = await outcome(made_up, Plan(experiments=(made_up,)), tmp_path)
    assert result.columns[0].missing == "uvloop not installed"
    assert result.columns[0].seen == ()
    assert result.complaints == ()


async def test_only_the_columns_that_are_asked_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """`--variant` leaves the others out."""
    made_up = experiment(well)
    plan = Plan(experiments=(made_up,), columns=frozenset({"trio"}))
    result = await outcome(made_up, plan, tmp_path)
    assert [each.column for each in result.columns] == ["trio"]


async def test_a_watcher_is_told_of_each_step(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It hears of every observation's begin and end, and of the result."""
    heard: list[object] = []

    class Listening(Nobody):
        def observing(self, experiment: Experiment, subject: Subject, round: int) -> None:
            heard.append((subject.column, round))

        def observed(
            self, experiment: Experiment, subject: Subject, seen: Seen | None, seconds: float
        ) -> None:
            heard.append((seen is not None, seconds))

        def finished(self, experiment: Experiment, result: ExperimentResult) -> None:
            heard.append(result.name)

    async def run(trial: Trial) -> Observation:
        if trial.subject.column == "trio":
            raise OSError
        return await well(trial)

    made_up = experiment(run)
    await run_experiment(Plan(experiments=(made_up,)), made_up, tmp_path, Listening(), [])
    assert heard == [("original", 0), (True, 1.0), ("trio", 0), (False, 0.0), "made-up"]


async def some_program() -> None:
    """Stand for a program."""


def test_programs_are_subjects_by_library() -> None:
    """AnyIO's program is asked on both of its backends; uvloop where it is wished."""
    found = programs(original=some_program, anyio=some_program, trio=some_program)
    assert [each.column for each in found] == ["original", "anyio-asyncio", "anyio-trio", "trio"]
    assert found[0].program == f"{__name__}:some_program"
    assert [each.runtime for each in found] == ["asyncio", "anyio-asyncio", "anyio-trio", "trio"]
    wide = programs(asyncio=some_program, anyio=some_program, uvloop=True)
    assert [each.runtime for each in wide] == [
        "asyncio",
        "uvloop",
        "anyio-asyncio",
        "anyio-uvloop",
        "anyio-trio",
    ]


def test_servers_are_subjects_by_service() -> None:
    """Each serves the one service alone; the originals have a program for each, and no options."""
    original, trio_server = servers("sort", ("original", "trio"), options=["--workers", "1"])
    assert original.variant is not None
    assert original.variant.name == "original-sort"
    assert original.options == ()
    assert trio_server.options == ("--no-dns", "--workers", "1")
    assert trio_server.source == ("trio_services/sort_server.py", "trio_services/app.py")
    assert [each.column for each in servers("", ("original", "trio"))] == ["trio"]


def test_a_runtime_has_its_version() -> None:
    """People are told what a subject ran on."""
    [subject] = programs(trio=some_program)
    assert runtime_version(subject).startswith("trio 0.")
    assert missing(subject) == ""


def test_expectations_are_written_by_column() -> None:
    """One outcome for all, others for some, several where more than one is right."""
    found = expect(Fake.WELL, original=Fake.BADLY, anyio_trio=[Fake.WELL, Fake.BADLY])
    assert found["trio"] == {Fake.WELL}
    assert found["original"] == {Fake.BADLY}
    assert found["anyio-trio"] == {Fake.WELL, Fake.BADLY}
    assert expect(trio=Fake.WELL) == {"trio": {Fake.WELL}}
