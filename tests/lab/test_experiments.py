"""Every experiment, in quick form, does what it expects: the promise of each is its question."""

from pathlib import Path

import pytest
from services_lab.experiment import Experiment, Family
from services_lab.registry import load, names
from services_lab.results import ExperimentResult
from services_lab.runner import Plan, run_experiment
from services_lab.side_by_side import open_folder

from tests.lab.fakes import Nobody

ROOT = Path(__file__).parents[2]

AT_ONCE = 4
"""Subjects of a question about behaviour that are asked at the same time: most of their time they
start, or wait."""

SAME_ON_ANOTHER_LOOP = {"original-uvloop", "uvloop", "anyio-asyncio", "anyio-uvloop"}
"""Columns that the suite leaves out where time is measured, since subjects are alone then: each is
a package that another column runs as well. A ratio that is expected of one brings it back."""

PICTURES = {"", "timeline", "bars", "curve"}


def asked(experiment: Experiment) -> frozenset[str]:
    """Return the columns that are asked."""
    columns = {each.column for each in experiment.subjects}
    if experiment.family is not Family.SPEED:
        return frozenset(columns)
    compared = {name for ratio in experiment.ratios for name in (ratio.column, ratio.of)}
    return frozenset(columns - SAME_ON_ANOTHER_LOOP | compared)


@pytest.mark.parametrize("name", names())
async def test_everybody_does_as_expected(name: str) -> None:
    """Each subject's outcome is among those expected on this Python, and each ratio holds."""
    experiment = load(name)
    plan = Plan(experiments=(experiment,), columns=asked(experiment), quick=True, at_once=AT_ONCE)
    found: list[ExperimentResult] = []
    async with open_folder() as home:
        await run_experiment(plan, experiment, home, Nobody(), found)
    [result] = found
    assert not result.complaints, "\n".join(
        [*result.complaints, *(error for each in result.columns for error in each.errors)]
    )
    figures = {each.name for each in experiment.figures}
    for column in result.columns:
        assert column.missing or column.seen
        assert all(seen.figures.keys() <= figures for seen in column.seen)


@pytest.mark.parametrize("name", names())
def test_it_is_well_formed(name: str) -> None:
    """It asks a question, expects something of each subject, and says where the code is."""
    experiment = load(name)
    columns = [each.column for each in experiment.subjects]
    figures = {each.name for each in experiment.figures}
    assert experiment.question.endswith("?")
    assert experiment.why
    assert len(set(columns)) == len(columns) > 0
    assert all(experiment.expected.get(each) for each in columns)
    assert sum(each.is_main for each in experiment.figures) <= 1
    assert experiment.picture in PICTURES
    for ratio in experiment.ratios:
        assert ratio.figure in figures
        assert {ratio.column, ratio.of} <= set(columns)
    for subject in experiment.subjects:
        assert subject.source
        assert all((ROOT / each).exists() for each in subject.source)
    if experiment.family is Family.SPEED:
        assert experiment.rounds >= 3, "a median needs some rounds"
