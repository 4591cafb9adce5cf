"""Trees as JSON: nothing is lost, and nothing but a tree becomes one."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.status.trees import TREES, nursery, task
from trio_services.status.await_stacks import Frame
from trio_services.status.task_tree import Scope, TaskNode
from trio_services.status.task_tree_json import as_json, from_json


def document() -> Any:
    """Return the JSON of a small tree."""
    child = task("child", count=2, number=3)
    tree = task("main", nursery("all", child, scope=Scope(2.5)))
    return json.loads(json.dumps(as_json(tree)))


def test_the_tables() -> None:
    """A tree is three tables whose rows point to each other; equal frames are one row."""
    main = {"file": "/home/me/main.py", "line": 7, "function": "main", "module": "__main__"}
    shown = document()
    assert shown["tasks"] == [
        {
            "number": 1, "name": "main", "count": 1, "starting": False,
            "nursery": None, "frames": [0, 1],
        },
        {
            "number": 3, "name": "child", "count": 2, "starting": False,
            "nursery": 0, "frames": [0, 1],
        },
    ]  # fmt: skip
    assert shown["nurseries"] == [
        {
            "number": 2, "name": "all", "task": 0, "opened": 0,
            "deadline": 2.5, "shielded": False, "cancel_called": False,
        },
    ]  # fmt: skip
    assert shown["frames"][0] == main
    assert len(shown["frames"]) == 2


@given(TREES)
def test_there_and_back(tree: TaskNode) -> None:
    """Any tree comes back as it was."""
    assert from_json(json.loads(json.dumps(as_json(tree)))) == tree


def test_names_that_are_no_unicode() -> None:
    """A path that is not UTF-8 is written with escapes, so that any writer of JSON takes it."""
    frame = Frame("/opt/caf\udce9/main.py", 1, "f", "m")
    tree = TaskNode(1, "caf\udce9 ☕", (frame,), ())
    written = json.loads(orjson.dumps(as_json(tree)))
    assert written["tasks"][0]["name"] == "caf\\udce9 ☕"
    assert written["frames"][0]["file"] == "/opt/caf\\udce9/main.py"


def test_keys_that_are_not_known() -> None:
    """What a later version adds does not keep an earlier one from reading the rest."""
    later = document() | {"version": 2}
    later["tasks"][0]["mood"] = "good"
    assert from_json(later) == from_json(document())


@pytest.mark.parametrize(
    "wrong",
    [None, [], 1, "{}", {}, {"tasks": [], "nurseries": [], "frames": []}, {"tasks": [[]]}],
)
def test_no_tree(wrong: object) -> None:
    """Something else altogether is refused."""
    with pytest.raises(ValueError, match="not a task tree"):
        from_json(wrong)


@pytest.mark.parametrize(
    ("table", "row", "key", "value"),
    [
        ("tasks", 0, "name", None),
        ("tasks", 0, "number", "1"),
        ("tasks", 0, "number", -1),
        ("tasks", 0, "number", True),
        ("tasks", 1, "count", 0),
        ("tasks", 0, "starting", 1),
        ("tasks", 0, "frames", None),
        ("tasks", 0, "frames", [2]),
        ("tasks", 0, "frames", ["0"]),
        ("tasks", 1, "nursery", None),
        ("tasks", 1, "nursery", 1),
        ("nurseries", 0, "task", 1),
        ("nurseries", 0, "task", 2),
        ("nurseries", 0, "opened", 2),
        ("nurseries", 0, "deadline", -1.0),
        ("nurseries", 0, "deadline", float("inf")),
        ("nurseries", 0, "deadline", float("nan")),
        ("nurseries", 0, "deadline", 1 << 1100),
        ("tasks", 0, "count", 1 << 1100),
        ("nurseries", 0, "shielded", "no"),
        ("frames", 0, "line", 1.5),
        ("frames", 0, "file", 1),
    ],
)
def test_a_tree_with_a_mistake(table: str, row: int, key: str, value: object) -> None:
    """A value of another kind, or a row that points to nothing or to itself, is refused."""
    wrong = document()
    wrong[table][row][key] = value
    with pytest.raises(ValueError, match="not a task tree"):
        from_json(wrong)


def test_more_tasks_than_can_be() -> None:
    """Counts that multiply to a number nobody can print are refused."""
    wrong = document()
    for row in wrong["tasks"]:
        row["count"] = 1 << 999
    with pytest.raises(ValueError, match="more tasks than can be"):
        from_json(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_garbage(data: st.DataObject) -> None:
    """Whatever stands in a document, there is a tree that can be written again, or a ValueError."""
    wrong = document()
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from(["tasks", "nurseries", "frames"]))
        row = data.draw(st.sampled_from(wrong[table]))
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(JSON)
    try:
        tree = from_json(wrong)
    except ValueError:
        return
    assert from_json(as_json(tree)) == tree
