"""Task trees for tests: made by hand, and at random."""

import itertools

from hypothesis import strategies as st

from trio_services.status.await_stacks import Frame
from trio_services.status.task_tree import NurseryNode, Scope, TaskNode

MAIN = Frame("/home/me/main.py", 7, "main", "__main__")
WAIT = Frame("/lib/trio/_core/_traps.py", 216, "wait_task_rescheduled", "trio._core._traps")


def task(name: str, *nurseries: NurseryNode, count: int = 1, number: int = 1) -> TaskNode:
    """Return a task that waits in `main`."""
    return TaskNode(number, name, (MAIN, WAIT), nurseries, count)


def nursery(name: str, *tasks: TaskNode, scope: Scope | None = None) -> NurseryNode:
    """Return a nursery that was opened in `main`."""
    return NurseryNode(2, name, MAIN, scope or Scope(), tasks)


def chain(levels: int) -> TaskNode:
    """Return as many tasks, each with a nursery for the next one."""
    tree = task("innermost")
    for _ in range(levels - 1):
        tree = task("outer", nursery("nursery", tree))
    return tree


NUMBERS = st.integers(0, 2**53)
FRAMES = st.builds(Frame, st.text(), st.integers(0, 2**31), st.text(), st.text())
SCOPES = st.builds(
    Scope,
    st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.booleans(),
)


@st.composite
def _nurseries(draw: st.DrawFn, tasks: st.SearchStrategy[TaskNode]) -> TaskNode:
    """Return a task with nurseries that hold such tasks."""
    children = st.lists(tasks, max_size=4).map(tuple)
    opened = st.none() | FRAMES
    nurseries = st.lists(
        st.builds(NurseryNode, NUMBERS, st.text(), opened, SCOPES, children), max_size=3
    )
    return draw(_tasks(nurseries.map(tuple)))


def _tasks(nurseries: st.SearchStrategy[tuple[NurseryNode, ...]]) -> st.SearchStrategy[TaskNode]:
    frames = st.lists(FRAMES, max_size=3).map(tuple)
    return st.builds(
        TaskNode, NUMBERS, st.text(), frames, nurseries, st.integers(1, 10**6), st.booleans()
    )


TREES = st.recursive(_tasks(st.just(())), _nurseries, max_leaves=12)
"""Any trees, with names of any characters."""


def nodes_of(tree: TaskNode) -> tuple[list[TaskNode], list[NurseryNode]]:
    """Return all tasks and all nurseries of a tree, in any order."""
    tasks = [tree]
    nurseries: list[NurseryNode] = []
    for each in tasks:  # it grows meanwhile
        nurseries += each.nurseries
        tasks += itertools.chain.from_iterable(below.tasks for below in each.nurseries)
    return tasks, nurseries
