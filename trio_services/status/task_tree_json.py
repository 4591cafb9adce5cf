"""A task tree as JSON, flat: a table of tasks, one of nurseries, one of frames.

    {"tasks": [{"number": 1, "name": "main", "count": 1, "starting": false, "nursery": null,
                "frames": [0, 1]}, …],
     "nurseries": [{"number": 2, "name": "nursery", "task": 0, "opened": 0, "deadline": null,
                    "shielded": false, "cancel_called": false}, …],
     "frames": [{"file": "main.py", "line": 3, "function": "main", "module": "__main__"}, …]}

`tasks[0]` is the root. A task tells the index of the nursery that it is in, a nursery the index of
the task that opened it; both stand before what is in them, and siblings in their order. Flat, since
JSON readers and writers recurse, and a tree of tasks may be deeper than they bear (orjson: 254
levels). A page makes a tree of it again with

    for (const task of tasks) task.nurseries = [];
    for (const nursery of nurseries) nursery.tasks = [];
    for (const nursery of nurseries) tasks[nursery.task].nurseries.push(nursery);
    for (const task of tasks) nurseries[task.nursery]?.tasks.push(task);
"""

import sys
from collections.abc import Mapping, Sequence

from trio_services.status.await_stacks import Frame
from trio_services.status.task_tree import NurseryNode, Scope, TaskNode, count_tasks

LARGEST = 2**1000
"""Numbers from here on, and as many tasks, are refused: Python refuses to print longer ones."""


def as_json(tree: TaskNode) -> dict[str, list[dict[str, object]]]:
    """Return a tree as a value for `json.dumps`."""
    tasks: list[dict[str, object]] = []
    nurseries: list[dict[str, object]] = []
    frames: dict[Frame, int] = {}
    ahead: list[tuple[TaskNode, int | None]] = [(tree, None)]
    while ahead:
        task, nursery = ahead.pop()
        here = len(tasks)
        tasks.append(
            {
                "number": task.number,
                "name": encodable(task.name),
                "count": task.count,
                "starting": task.starting,
                "nursery": nursery,
                "frames": [frames.setdefault(frame, len(frames)) for frame in task.frames],
            }
        )
        below = []
        for each in task.nurseries:
            below += [(child, len(nurseries)) for child in each.tasks]
            opened = frames.setdefault(each.opened, len(frames)) if each.opened else None
            nurseries.append(_nursery_row(each, here, opened))
        ahead += reversed(below)
    return {"tasks": tasks, "nurseries": nurseries, "frames": [_frame_row(each) for each in frames]}


def _nursery_row(nursery: NurseryNode, task: int, opened: int | None) -> dict[str, object]:
    return {
        "number": nursery.number,
        "name": encodable(nursery.name),
        "task": task,
        "opened": opened,
        "deadline": nursery.scope.deadline,
        "shielded": nursery.scope.shielded,
        "cancel_called": nursery.scope.cancel_called,
    }


def _frame_row(frame: Frame) -> dict[str, object]:
    return {
        "file": encodable(frame.file),
        "line": frame.line,
        "function": encodable(frame.function),
        "module": encodable(frame.module),
    }


def encodable(text: str) -> str:
    """Return `text` with surrogates escaped, which paths may have and JSON in UTF-8 may not."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def from_json(document: object) -> TaskNode:
    """Return the tree that `as_json` made a document of. Keys that are not known are ignored.

    Raises:
        ValueError: It is no such document, whatever it is.
    """
    frames = [_frame(row) for row in _rows(document, "frames")]
    task_rows = _rows(document, "tasks")
    nursery_rows = _rows(document, "nurseries")
    if not task_rows:
        raise ValueError("not a task tree: no tasks")
    tasks_of: list[list[int]] = [[] for _ in nursery_rows]
    nurseries_of: list[list[int]] = [[] for _ in task_rows]
    for index, row in enumerate(nursery_rows):
        nurseries_of[_index(row, "task", len(task_rows))].append(index)
    for index, row in enumerate(task_rows[1:], 1):
        nursery = _index(row, "nursery", len(nursery_rows))
        if _index(nursery_rows[nursery], "task", len(task_rows)) >= index:
            raise ValueError("not a task tree: a task stands before the one that it belongs to")
        tasks_of[nursery].append(index)
    built: dict[int, TaskNode] = {}
    for index in reversed(range(len(task_rows))):  # children stand after what they are in
        nurseries = tuple(
            _nursery(nursery_rows[each], frames, tuple(built.pop(task) for task in tasks_of[each]))
            for each in nurseries_of[index]
        )
        built[index] = _task(task_rows[index], frames, nurseries)
    if count_tasks(built[0]) >= LARGEST:
        raise ValueError("not a task tree: more tasks than can be")
    return built[0]


def _task(
    row: Mapping[str, object], frames: list[Frame], nurseries: tuple[NurseryNode, ...]
) -> TaskNode:
    stack = row.get("frames")
    if not isinstance(stack, list):
        raise ValueError("not a task tree: a task without frames")
    return TaskNode(
        number=_integer(row, "number"),
        name=_string(row, "name"),
        frames=tuple(frames[_index({"frame": each}, "frame", len(frames))] for each in stack),
        nurseries=nurseries,
        count=_integer(row, "count", at_least=1),
        starting=_boolean(row, "starting"),
    )


def _nursery(
    row: Mapping[str, object], frames: list[Frame], tasks: tuple[TaskNode, ...]
) -> NurseryNode:
    return NurseryNode(
        number=_integer(row, "number"),
        name=_string(row, "name"),
        opened=(None if row.get("opened") is None else frames[_index(row, "opened", len(frames))]),
        scope=Scope(
            deadline=None if row.get("deadline") is None else _seconds(row, "deadline"),
            shielded=_boolean(row, "shielded"),
            cancel_called=_boolean(row, "cancel_called"),
        ),
        tasks=tasks,
    )


def _frame(row: Mapping[str, object]) -> Frame:
    return Frame(
        _string(row, "file"),
        _integer(row, "line"),
        _string(row, "function"),
        _string(row, "module"),
    )


def _rows(document: object, table: str) -> Sequence[Mapping[str, object]]:
    rows = document.get(table) if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"not a task tree: no table of {table}")
    return rows


def _string(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"not a task tree: {key} is no string")
    return value


def _boolean(row: Mapping[str, object], key: str) -> bool:
    value = row.get(key)
    if not isinstance(value, bool):
        raise ValueError(f"not a task tree: {key} is neither true nor false")
    return value


def _integer(row: Mapping[str, object], key: str, *, at_least: int = 0) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value < LARGEST:
        raise ValueError(f"not a task tree: {key} is no number from {at_least} on")
    return value


def _index(row: Mapping[str, object], key: str, length: int) -> int:
    value = _integer(row, key)
    if value >= length:
        raise ValueError(f"not a task tree: {key} points to nothing")
    return value


def _seconds(row: Mapping[str, object], key: str) -> float:
    value = row.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= sys.float_info.max
    ):
        raise ValueError(f"not a task tree: {key} is no time")
    return float(value)
