"""The tasks and nurseries of a running Trio program, as values.

`take_task_tree()` walks from the root task through `child_nurseries` and `child_tasks`, all of it
public, and returns a frozen `TaskNode`; `task_tree_text` and `task_tree_json` render it. It needs
Trio and nothing else, so any Trio program can use it.

- *It does not hold the loop for long.* After each STRETCH of work there is a checkpoint. Meanwhile
  the tree changes: a task that has ended is left out, one that has moved to another nursery is
  shown once, one that came late may be missing. What is shown of one task is from one moment.
- *Equal siblings are folded*: tasks of one nursery with the same name, the same await stack and
  equal nurseries below become one node with a count. Each kind of subtree has a number, and a kind
  is made of numbers of kinds, so folding is one pass of dictionary look-ups.
- *Nothing recurses*: nurseries may be nested deeper than Python's stack. The values compare, hash
  and `repr` themselves recursively, however; compare a deep tree by its `as_json`.
- *A nursery has no name*, but the variable that holds it has one: it is looked for among the local
  variables of the task's await stack. A nursery that is only an attribute, or that an `async
  with` of a library keeps to itself, has none.
- *Numbers* are given at first sight and never again, so a page can follow a task from one tree to
  the next, and `find_task` and `find_nursery` find the right one. They order siblings of one name
  as well: Trio keeps children in a set, and does not tell who was first.

Cancel scopes that are not a nursery's cannot be seen from outside. Variables give their names
only, never their values: a tree may be shown to people.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import trio
from trio.lowlevel import Task

from trio_services.status.await_stacks import Frame, Stacks
from trio_services.status.task_numbers import numbers

STRETCH = 2_000
"""Tasks and frames that are looked at between two checkpoints. Of 10,000 tasks the longest stretch
took 2 to 4 ms of CPU time, and up to 10 where none was like another: see docs/looking-inside.md."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The cancel scope of a nursery.

    Attributes:
        deadline: Seconds that were left when the tree was taken, 0 if it had passed; None without.
        shielded: Whether cancellations from outside stop here.
        cancel_called: Whether it was cancelled, also by its deadline.
    """

    deadline: float | None = None
    shielded: bool = False
    cancel_called: bool = False


@dataclass(frozen=True, slots=True)
class NurseryNode:
    """A nursery and the tasks in it.

    Attributes:
        number: Tells it from all others of the process; see `find_nursery`.
        name: The variable that holds it; "" if none was found.
        opened: The function whose variable that is, at the line where it is now; None without.
        scope: Its cancel scope.
        tasks: Its children, by name and then by number.
    """

    number: int
    name: str
    opened: Frame | None
    scope: Scope
    tasks: tuple["TaskNode", ...]


@dataclass(frozen=True, slots=True)
class TaskNode:
    """A task, or several equal ones.

    Attributes:
        number: Tells it from all others of the process; of several, that of the one shown first.
        name: As given to `start_soon`, or the function's.
        frames: The await stack, outermost first. It ends where the task waits, inside Trio.
        nurseries: Those that it has open, outer before inner; of several, those of the first.
        count: How many tasks it stands for.
        starting: Whether `nursery.start` still waits for its `started()`.
    """

    number: int
    name: str
    frames: tuple[Frame, ...]
    nurseries: tuple[NurseryNode, ...]
    count: int = 1
    starting: bool = False


async def take_task_tree(root: Task | None = None, *, fold: bool = True) -> TaskNode:
    """Return the tree of tasks below `root`, None for all of the run; yields to the loop meanwhile.

    Raises:
        RuntimeError: Called outside of a Trio task.

    Cancellation: at any of its checkpoints; it leaves nothing behind.
    """
    await trio.lowlevel.checkpoint()
    steps = _take(root, fold)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            tree: TaskNode = done.value
            return tree
        await trio.lowlevel.checkpoint()


def task_tree_nowait(root: Task | None = None, *, fold: bool = True) -> TaskNode:
    """Return the tree of tasks below `root`, None for all of the run, in one go.

    It may be called from a task, from an instrument or a signal handler while the loop runs.

    Raises:
        RuntimeError: Called outside of a Trio run, or from another thread than the run's.
    """
    steps = _take(root, fold)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            tree: TaskNode = done.value
            return tree


def find_task(number: int) -> Task | None:
    """Return the task that a tree showed with this number; None if it is no more.

    It belongs to the thread whose tree it was in.
    """
    found = numbers.find(number)
    return found if isinstance(found, Task) else None


def find_nursery(number: int) -> trio.Nursery | None:
    """Return the nursery that a tree showed with this number; None if it is no more.

    It belongs to the thread whose tree it was in.
    """
    found = numbers.find(number)
    return found if isinstance(found, trio.Nursery) else None


def count_tasks(tree: TaskNode) -> int:
    """Return how many tasks a tree shows, each of several equal ones counted."""
    total = 0
    below = [(tree, 1)]
    while below:
        task, times = below.pop()
        times *= task.count
        total += times
        below += [(child, times) for nursery in task.nurseries for child in nursery.tasks]
    return total


class _Budget:
    """Counts work, and tells when a stretch of it is done."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = STRETCH

    def is_spent(self, work: int) -> bool:
        """Take `work` off; tell whether it is time to yield."""
        self._left -= work
        if self._left > 0:
            return False
        self._left = STRETCH
        return True


class _Seen:
    """A task as it was when the walk came by, or several that are equal and have no nurseries."""

    __slots__ = (
        "count",
        "frames",
        "is_shown",
        "kind",
        "name",
        "nodes",
        "nurseries",
        "starting",
        "task",
    )

    def __init__(self, task: Task, frames: tuple[Frame, ...], starting: bool) -> None:
        self.task = task
        self.name = task.name
        self.frames = frames
        self.starting = starting
        self.count = 1
        self.nurseries: tuple[_SeenNursery, ...] = ()
        self.nodes: tuple[NurseryNode, ...] = ()
        self.kind = 0
        self.is_shown = False

    def take_in(self, task: Task) -> None:
        """Count an equal task; the one that was shown before stands for both."""
        self.count += 1
        if numbers.known(task) < numbers.known(self.task):
            self.task = task

    def node(self, count: int) -> TaskNode:
        """Return it as `count` equal tasks."""
        number = numbers.of(self.task)
        return TaskNode(number, self.name, self.frames, self.nodes, count, self.starting)


class _SeenNursery:
    """A nursery as it was when the walk came by."""

    __slots__ = ("children", "groups", "leaves", "name", "nursery", "opened", "scope")

    def __init__(self, nursery: trio.Nursery, variable: tuple[str, Frame | None]) -> None:
        scope = nursery.cancel_scope
        deadline = scope.deadline
        self.nursery = nursery
        self.name, self.opened = variable
        self.scope = Scope(
            None if deadline == math.inf else max(deadline - trio.current_time(), 0.0),
            scope.shield,
            scope.cancel_called,
        )
        self.children: list[_Seen] = []
        self.leaves: dict[tuple[object, ...], _Seen] = {}
        self.groups: list[tuple[_Seen, int]] = []

    def shape(self) -> tuple[object, ...]:
        """Return what makes nurseries equal; their deadlines may differ."""
        return (
            self.name,
            self.opened,
            self.scope.deadline is None,
            self.scope.shielded,
            self.scope.cancel_called,
            tuple(sorted((child.kind, count) for child, count in self.groups)),
        )

    def node(self, tasks: tuple[TaskNode, ...]) -> NurseryNode:
        """Return it with these children."""
        number = numbers.of(self.nursery)
        return NurseryNode(number, self.name, self.opened, self.scope, tasks)


def _take(root: Task | None, fold: bool) -> Generator[None, None, TaskNode]:
    """Take a tree; yield after each stretch of work, return the tree."""
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("a task tree can only be taken in the thread of a Trio run")
    top = root or trio.lowlevel.current_root_task()
    if top is None:
        raise RuntimeError("this Trio run has no tasks yet")
    budget = _Budget()
    seen = yield from _walk(top, fold, budget)
    yield from _fold(seen, fold, budget)
    yield from _build(seen, budget)
    return seen[0].node(1)


def _walk(root: Task, fold: bool, budget: _Budget) -> Generator[None, None, list[_Seen]]:
    """Look at each task once; return them, each before its children.

    Equal tasks without nurseries are folded at once: so nothing is allocated for most of ten
    thousand, and the garbage collector has no reason to walk through them all.
    """
    stacks = Stacks()
    seen: list[_Seen] = []
    met = {root}
    ahead: list[tuple[Task, _SeenNursery | None]] = [(root, None)]
    while ahead:
        task, around = ahead.pop()
        if task.coro.cr_frame is None and task is not root:
            continue  # it has ended since its nursery was looked at
        live = stacks.live(task)
        frames = stacks.stack(live)
        starting = task.eventual_parent_nursery is not None
        nurseries = task.child_nurseries
        leaf = (task.name, id(frames), starting)
        if around and fold and not nurseries and leaf in around.leaves:
            around.leaves[leaf].take_in(task)
        else:
            here = _Seen(task, frames, starting)
            seen.append(here)
            if around:
                around.children.append(here)
                if not nurseries:
                    around.leaves[leaf] = here
            if nurseries:
                variables = stacks.nurseries(live, frames)
                here.nurseries = tuple(
                    _SeenNursery(nursery, variables.get(nursery, ("", None)))
                    for nursery in nurseries
                )
            for below in here.nurseries:
                children = below.nursery.child_tasks - met
                met |= children
                ahead += [(child, below) for child in children]
        if budget.is_spent(1 + len(live) + len(nurseries)):
            del live  # no frame is to be kept alive meanwhile
            yield
    return seen


def _fold(seen: list[_Seen], fold: bool, budget: _Budget) -> Generator[None, None, None]:
    """Tell the kind of each task, and group those of one kind in each nursery."""
    kinds: dict[tuple[object, ...], int] = {}
    for task in reversed(seen):
        for nursery in task.nurseries:
            nursery.groups = _groups(nursery.children, fold)
            if budget.is_spent(len(nursery.children)):
                yield
        shapes = [nursery.shape() for nursery in task.nurseries]
        shape = (task.name, id(task.frames), task.starting, *shapes)
        task.kind = kinds.setdefault(shape, len(kinds))
        if budget.is_spent(1 + len(shapes)):
            yield


def _groups(children: list[_Seen], fold: bool) -> list[tuple[_Seen, int]]:
    """Return one of each kind, and how many there are; by name, then by number."""
    if len(children) == 1:
        return [(children[0], children[0].count)]
    counts: dict[int, int] = {}
    first: dict[int, _Seen] = {}
    for place, child in enumerate(children):
        kind = child.kind if fold else place
        counts[kind] = counts.get(kind, 0) + child.count
        known = first.setdefault(kind, child)
        if known is not child and numbers.known(child.task) < numbers.known(known.task):
            first[kind] = child
    ordered = sorted((child.name, numbers.of(child.task), kind) for kind, child in first.items())
    return [(first[kind], counts[kind]) for _, _, kind in ordered]


def _build(seen: list[_Seen], budget: _Budget) -> Generator[None, None, None]:
    """Make the nodes of what is shown, from the leaves to the root, which comes first in `seen`."""
    seen[0].is_shown = True
    for task in seen:
        if task.is_shown:
            for nursery in task.nurseries:
                for child, _ in nursery.groups:
                    child.is_shown = True
    for task in reversed(seen):
        if not task.is_shown:
            continue
        nodes = []
        for nursery in task.nurseries:
            tasks = []
            for child, count in nursery.groups:
                tasks.append(child.node(count))
                if budget.is_spent(1):
                    yield
            nodes.append(nursery.node(tuple(tasks)))
        task.nodes = tuple(nodes)
