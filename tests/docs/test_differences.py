"""docs/differences.md: what it says of each library is what the experiments assert.

The page has a table of signs and, for each experiment, a section of that name: its question, a link
to it, and a line for each outcome with the columns that it is right for, as

    - ✗ original, asyncio (3.12, 3.13): what happens there

where Python's versions stand only if another line says something else for others.
"""

import re
from collections.abc import Iterable, Mapping

import pytest
from services_lab.experiment import PYTHON, Experiment, Family, Outcome
from services_lab.registry import load_all

from tests.system.serving import ROOT

PAGE = ROOT / "docs" / "differences.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = {each.name: each for each in load_all() if each.family is Family.BEHAVIOUR}
HEADINGS = {
    "original": "original",
    "asyncio": "asyncio",
    "anyio-asyncio": "AnyIO on asyncio",
    "anyio-trio": "AnyIO on Trio",
    "trio": "Trio",
}
VERSION = ".".join(map(str, PYTHON))


def sections(text: str) -> Mapping[str, str]:
    """Return the text of each section of the third level by its heading."""
    found = re.split(r"^### (.*)\n", re.sub(r"^## .*\n", "", text, flags=re.MULTILINE), flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def outcome_lines(experiment: Experiment) -> list[str]:
    """Return what a section has to say of an experiment's outcomes on this Python."""
    columns: dict[frozenset[Outcome], list[str]] = {}
    for subject in experiment.subjects:
        columns.setdefault(experiment.expected[subject.column], []).append(subject.column)
    return [
        f"- {signs(outcomes)} {', '.join(names)}: "
        + ", or ".join(sorted(each.words for each in outcomes))
        for outcomes, names in columns.items()
    ]


def signs(outcomes: Iterable[Outcome]) -> str:
    """Return the signs of what may come out: mostly one."""
    return "/".join(sorted({each.verdict.value for each in outcomes}))


def table_row(experiment: Experiment) -> str:
    """Return the row of an experiment in the table of signs, on this Python."""
    asked = {each.column for each in experiment.subjects}
    cells = [signs(experiment.expected[column]) if column in asked else "" for column in HEADINGS]
    return f"| [{experiment.name}](#{experiment.name}) | {' | '.join(cells)} |"


def on_this_python(line: str) -> str | None:
    """Return a line of outcomes without the versions; None if it is for others than this one."""
    versions = re.search(r" \(([\d., ]+)\):", line)
    if not versions:
        return line
    return line.replace(versions[0], ":") if VERSION in versions[1].split(", ") else None


def test_every_behaviour_is_shown_once() -> None:
    """The page has a section for each experiment on behaviour, and for nothing else."""
    names = re.findall(r"^### (.*)$", TEXT, flags=re.MULTILINE)
    assert sorted(names) == sorted(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_section_says_what_is_asserted(name: str) -> None:
    """A section has its experiment's question, a link to it, and its outcomes on this Python."""
    section, experiment = sections(TEXT).get(name, ""), SHOWN[name]
    lines = [line for line in section.splitlines() if line.startswith("- ")]
    said = [line for line in map(on_this_python, lines) if line is not None]
    assert said == outcome_lines(experiment)
    link = f"](../compat/services_lab/experiments/{name.replace('-', '_')}.py)"
    assert f"[{experiment.question}{link}" in section


@pytest.mark.parametrize("name", SHOWN)
def test_the_table_has_the_signs(name: str) -> None:
    """The table has the sign of each experiment for each library, on this Python."""
    [row] = [line for line in TEXT.splitlines() if line.startswith(f"| [{name}](")]
    assert re.sub(r" \([\d., ]+\)", "", row) == table_row(SHOWN[name])


def test_the_table_has_its_columns() -> None:
    """The signs stand below the right names."""
    assert f"| | {' | '.join(HEADINGS.values())} |\n" in TEXT


def test_the_rules_are_able_to_fail() -> None:
    """Another outcome, column or version is seen."""
    lines = outcome_lines(SHOWN["fire-and-forget"])
    assert lines[0] == "- ✗ original: the garbage collector takes it while it waits"
    assert len(lines) == 2
    assert on_this_python(f"- ✗ original (2.7, {VERSION}): gone") == "- ✗ original: gone"
    assert on_this_python("- ✗ original (2.7): gone") is None
    assert sections("# A\n### b\nc\n## d\ne\n### f\ng") == {"b": "c\ne\n", "f": "g"}
