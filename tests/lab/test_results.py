"""What a run found outlives it, as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services_lab.experiment import Verdict
from services_lab.json_values import from_json, to_json
from services_lab.results import (
    FORMAT_VERSION,
    ColumnResult,
    ExperimentResult,
    Results,
    ResultsError,
    Seen,
    read_results,
    write_results,
)

from tests.lab.fakes import CONDITIONS, Fake, column, result
from trio_services.sans_io.task_events import TaskEvent, What

EVENTS = (
    TaskEvent(0.0, What.SPAWNED, 1, "main"),
    TaskEvent(0.25, What.SPAWNED, 2, "child", 1),
    TaskEvent(0.5, What.EXITED, 2, note="raised OSError"),
)
RESULTS = Results(
    conditions=CONDITIONS,
    experiments=(
        result(
            column("original", 1.0, 2.0),
            column("uvloop", missing="uvloop not installed"),
            ColumnResult(
                column="trio",
                seen=(
                    Seen(
                        round=0,
                        outcome="WELL",
                        verdict=Verdict.GOOD,
                        words="went well",
                        evidence=("<b>ünïcode</b>",),
                        events=EVENTS,
                    ),
                ),
            ),
        ),
    ),
    interrupted=True,
)


def test_results_survive_a_file(tmp_path: Path) -> None:
    """What is written is what is read: figures, events, what is missing, and the conditions."""
    write_results(RESULTS, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == RESULTS


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    """Another program finds its way: names of fields, values of enums, the version."""
    write_results(RESULTS, tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["version"] == FORMAT_VERSION
    [seen] = found["experiments"][0]["columns"][2]["seen"]
    assert seen["verdict"] == "✓"
    assert seen["events"][1] == [0.25, "spawned", 2, "child", 1]


@given(
    st.builds(
        Seen,
        round=st.integers(0, 100),
        outcome=st.text(),
        verdict=st.sampled_from(Verdict),
        words=st.text(),
        figures=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        evidence=st.lists(st.text()).map(tuple),
        generator=st.text(),
        seconds=st.floats(0, 1e6),
    )
)
def test_any_observation_survives(seen: Seen) -> None:
    """Whatever is seen comes back equal through JSON's text."""
    assert from_json(Seen, json.loads(json.dumps(to_json(seen)))) == seen


def test_what_a_later_version_adds_is_left_out() -> None:
    """A field that this version does not know is no reason to refuse a file."""
    assert from_json(ColumnResult, {"column": "trio", "mood": "good"}) == ColumnResult(
        column="trio"
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "is no JSON"),
        ("[]", "has version None"),
        ('{"version": 99}', "has version 99; this lab reads"),
        ('{"version": 1}', "is no results of the lab: 'Results without conditions'"),
        ('{"version": 1, "conditions": 7}', "is no results of the lab"),
    ],
)
def test_another_file_is_refused_in_a_line(tmp_path: Path, written: str, said: str) -> None:
    """A file that is none of ours is named, with what is wrong."""
    path = tmp_path / "results.json"
    path.write_text(written)
    with pytest.raises(ResultsError, match=said):
        read_results(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """So is one that cannot be read."""
    with pytest.raises(ResultsError, match="No such file"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"round": "one"}, TypeError),
        ({"round": True}, TypeError),
        ({"verdict": "?"}, ValueError),
        ({"figures": []}, TypeError),
        ({"evidence": "a line"}, TypeError),
        ({"evidence": [1]}, TypeError),
        ({"outcome": None}, TypeError),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error(
    changes: dict[str, Any], error: type[Exception]
) -> None:
    """What is read is of the types that the code relies on."""
    seen = {"round": 0, "outcome": "WELL", "verdict": "✓", "words": "", **changes}
    with pytest.raises(error):
        from_json(Seen, seen)


def test_an_unexpected_observation_stands_for_its_column() -> None:
    """One bad round in three is what the matrix shows."""
    good = column("trio", 1.0, 1.0).seen
    bad = column("trio", 1.0, outcome=Fake.BADLY).seen
    mixed = column("trio", seen=(*good, *bad))
    assert mixed.shown is bad[0]
    assert mixed.unexpected == bad
    assert column("trio", 1.0).shown is not None
    assert ColumnResult(column="trio").shown is None


def test_a_result_knows_its_main_figure() -> None:
    """It is the one that is marked, or none."""
    main = result().main_figure
    assert main is not None
    assert main.name == "time"
    plain = ExperimentResult(name="x", family=result().family, question="?")
    assert plain.main_figure is None
    assert plain.base is None
