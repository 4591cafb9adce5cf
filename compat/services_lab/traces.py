"""The recordings of a run as one Chrome trace: a process for each subject, a thread a task."""

import json
from pathlib import Path
from typing import Any, cast

from services_lab.results import Results
from trio_services.sans_io.task_events import chrome_trace

MOST_TASKS = 2**32
"""More than there are in a recording. (Numbers in JSON are exact up to 2 ** 53.)"""


def write_trace(results: Results, path: Path) -> bool:
    """Write what was recorded; return whether there was anything. The last round is taken.

    Perfetto (ui.perfetto.dev) and chrome://tracing open it.
    """
    together: list[dict[str, Any]] = []
    number = 0
    for experiment in results.experiments:
        for column in experiment.columns:
            recorded = [seen for seen in column.seen if seen.events]
            if not recorded:
                continue
            number += 1
            trace = chrome_trace(recorded[-1].events, f"{experiment.name}: {column.column}")
            events = cast(list[dict[str, Any]], trace["traceEvents"])
            together += [_of_process(number, event) for event in events]
    if together:
        path.write_text(json.dumps({"traceEvents": together, "displayTimeUnit": "ms"}) + "\n")
    return bool(together)


def _of_process(number: int, event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of a process; the ids of arrows are those of the whole file."""
    moved = {**event, "pid": number}
    if "id" in event:
        moved["id"] = number * MOST_TASKS + event["id"]
    return moved
