"""Recordings of several subjects in one Chrome trace."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from services_lab.results import Results
from services_lab.traces import write_trace

from tests.lab.fakes import CONDITIONS, column
from tests.lab.test_report import BEHAVIOUR, RECORDED


def test_arrows_stay_within_their_process(tmp_path: Path) -> None:
    """Each subject is a process; an arrow leads from a parent to its child, not to another's."""
    columns = tuple(column(name, seen=(RECORDED,)) for name in ("original", "trio"))
    experiment = replace(BEHAVIOUR, columns=columns)
    file = tmp_path / "trace.json"
    assert write_trace(Results(conditions=CONDITIONS, experiments=(experiment,)), file)
    events = json.loads(file.read_text())["traceEvents"]
    names = [each["args"]["name"] for each in events if each["name"] == "process_name"]
    assert names == ["lost-thing: original", "lost-thing: trio"]
    ends = Counter((each["id"], each["ph"]) for each in events if each["ph"] in "sf")
    assert len(ends) == 4
    assert set(ends.values()) == {1}
    by_process = {(each["id"], each["pid"]) for each in events if each["ph"] in "sf"}
    assert len(by_process) == 2


def test_nothing_recorded_is_no_file(tmp_path: Path) -> None:
    """A run that recorded nothing says so."""
    file = tmp_path / "trace.json"
    assert not write_trace(Results(conditions=CONDITIONS), file)
    assert not file.exists()
