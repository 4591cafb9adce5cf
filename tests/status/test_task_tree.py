"""The tree of tasks of a running program: what is in it, what is folded, and what it costs."""

import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
import trio.testing
from trio.lowlevel import Task, current_task

from tests.status.trees import nodes_of
from trio_services.status import task_tree
from trio_services.status.task_tree import (
    Scope,
    TaskNode,
    count_tasks,
    find_nursery,
    find_task,
    take_task_tree,
    task_tree_nowait,
)
from trio_services.status.task_tree_json import as_json, from_json
from trio_services.status.task_tree_text import as_html, as_text, waits_at

Take = Callable[..., Awaitable[TaskNode]]


async def take_in_one_go(root: Task | None = None, *, fold: bool = True) -> TaskNode:
    """Take a tree with `task_tree_nowait`."""
    return task_tree_nowait(root, fold=fold)


both_ways = pytest.mark.parametrize("take", [take_task_tree, take_in_one_go])


async def wait_for(event: trio.Event) -> None:
    """A task's function, to be recognised in its stack."""
    await event.wait()


async def with_job(event: trio.Event, jobs: int = 1) -> None:
    """A connection that has jobs."""
    async with trio.open_nursery() as working:
        for _ in range(jobs):
            working.start_soon(wait_for, event, name="job")


async def cleaning_up(event: trio.Event) -> None:
    """A task whose nursery is cancelled, and which is not done with that."""
    async with trio.open_nursery() as ended:
        ended.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await event.wait()


@both_ways
async def test_a_known_program(take: Take, mock_clock: trio.testing.MockClock) -> None:
    """Each task stands in its nursery, with the nursery's variable, deadline and state."""
    over = trio.Event()
    async with trio.open_nursery() as outer:
        outer.cancel_scope.deadline = trio.current_time() + 3.25
        outer.start_soon(with_job, over, name="worker")
        outer.start_soon(cleaning_up, over, name="ending")
        async with trio.open_nursery() as inner:
            inner.cancel_scope.shield = True
            for _ in range(1000):
                inner.start_soon(wait_for, over, name="connection")
            inner.start_soon(trio.sleep_forever, name="accept")
            await trio.testing.wait_all_tasks_blocked()
            tree = await take(current_task())
            over.set()
            inner.cancel_scope.cancel()
    first, of_pytest, *rest = as_text(tree).splitlines()
    assert first == current_task().name
    assert of_pytest.startswith("├── nursery")
    assert rest == [
        "├── nursery outer, deadline in 3.2 s",
        "│   ├── ending",
        "│   │   └── nursery ended, cancel called",
        "│   └── worker",
        "│       └── nursery working",
        "│           └── job",
        "└── nursery inner, shielded",
        "    ├── accept",
        "    └── connection × 1,000",
    ]


async def test_the_whole_run() -> None:
    """Without a root the tree begins with Trio's own root task, and has the caller in it."""
    tree = await take_task_tree()
    root = trio.lowlevel.current_root_task()
    assert root
    assert tree.name == root.name
    tasks, _ = nodes_of(tree)
    assert current_task().name in {each.name for each in tasks}


@both_ways
async def test_await_stacks(take: Take, nursery: trio.Nursery) -> None:
    """A task's frames lead from its function to Trio; `waits_at` is where the program waits."""
    over = trio.Event()
    nursery.start_soon(with_job, over, name="connection")
    await trio.testing.wait_all_tasks_blocked()
    tree = await take(nursery.parent_task)
    (connection,) = [each for each in nodes_of(tree)[0] if each.name == "connection"]
    (working,) = connection.nurseries
    (job,) = working.tasks
    assert [job.frames[0].function, job.frames[1].function] == ["wait_for", "Event.wait"]
    assert {each.module.partition(".")[0] for each in job.frames[1:]} == {"trio"}
    assert job.frames[0].file == __file__
    assert job.frames[0].module == __name__
    assert job.frames[0].line == wait_for.__code__.co_firstlineno + 2
    assert waits_at(job) == job.frames[0]
    assert working.opened == connection.frames[0] == waits_at(connection)
    assert working.opened.function == "with_job"
    over.set()


@both_ways
async def test_the_task_that_takes_the_tree(take: Take) -> None:
    """The caller's frames end where it asks for the tree, also within functions."""

    async def deeper() -> TaskNode:
        async with trio.open_nursery() as here:
            return await take(here.parent_task)

    tree = await deeper()
    functions = [each.function.rpartition(".")[2] for each in tree.frames]
    asking = functions.index("deeper")
    assert functions[asking - 1] == "test_the_task_that_takes_the_tree"
    assert functions[asking + 1 :] == (["take_in_one_go"] if take is take_in_one_go else [])
    assert tree.nurseries[-1].name == "here"


async def test_a_task_that_starts(nursery: trio.Nursery) -> None:
    """A task that has not called `started()` says so."""
    ready = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        await ready.wait()
        task_status.started()
        await trio.sleep_forever()

    nursery.start_soon(partial(nursery.start, serve, name="server"))
    for expected in (True, False):
        await trio.testing.wait_all_tasks_blocked()
        tasks, _ = nodes_of(await take_task_tree())
        assert [each.starting for each in tasks if each.name == "server"] == [expected]
        ready.set()
    nursery.cancel_scope.cancel()


async def test_only_equal_siblings_are_folded() -> None:
    """Another name, another place or other tasks below: each is shown by itself."""
    over = trio.Event()
    async with trio.open_nursery() as here:
        for _ in range(3):
            here.start_soon(wait_for, over, name="a")
            here.start_soon(wait_for, over, name="b")
            here.start_soon(over.wait, name="b")
            here.start_soon(with_job, over, 1, name="c")
            here.start_soon(with_job, over, 2, name="c")
        await trio.testing.wait_all_tasks_blocked()
        folded = await take_task_tree(current_task())
        unfolded = await take_task_tree(current_task(), fold=False)
        over.set()
    assert sorted((each.name, each.count) for each in folded.nurseries[-1].tasks) == [
        ("a", 3), ("b", 3), ("b", 3), ("c", 3), ("c", 3),
    ]  # fmt: skip
    jobs = [each for each in nodes_of(folded)[0] if each.name == "job"]
    assert sorted(each.count for each in jobs) == [1, 2]
    assert count_tasks(folded) == count_tasks(unfolded) == 1 + 9 + 6 + 9
    assert {each.count for each in nodes_of(unfolded)[0]} == {1}
    assert len(nodes_of(unfolded)[0]) == 25


async def test_scopes_that_differ_are_not_folded(mock_clock: trio.testing.MockClock) -> None:
    """A nursery that is cancelled, shielded or has a deadline is unlike one that is not."""
    over = trio.Event()
    scopes = [Scope(), Scope(), Scope(1.0), Scope(2.0), Scope(0.0, False, True), Scope(None, True)]

    async def holding(scope: Scope) -> None:
        async with trio.open_nursery() as held:
            held.cancel_scope.shield = scope.shielded
            if scope.deadline is not None:
                held.cancel_scope.deadline = trio.current_time() + scope.deadline
            with trio.CancelScope(shield=True):
                await over.wait()

    async with trio.open_nursery() as here:
        for scope in scopes:
            here.start_soon(holding, scope, name="holder")
        await trio.testing.wait_all_tasks_blocked()
        tree = await take_task_tree(current_task())
        over.set()
    shown = [(each.count, each.nurseries[0].scope) for each in tree.nurseries[-1].tasks]
    assert sorted(count for count, _ in shown) == [1, 1, 2, 2]
    assert (2, Scope()) in shown
    assert (1, Scope(0.0, False, True)) in shown  # a deadline that has passed
    assert (1, Scope(None, True)) in shown


async def test_numbers_last(nursery: trio.Nursery) -> None:
    """A task keeps its number from tree to tree, is found by it, and is forgotten at its end."""
    over = trio.Event()
    nursery.start_soon(with_job, over, name="connection")
    await trio.testing.wait_all_tasks_blocked()
    found = [
        next(each for each in nodes_of(tree)[0] if each.name == "connection")
        for tree in (await take_task_tree(), task_tree_nowait())
    ]
    assert found[0] == found[1]
    number = found[0].nurseries[0].number
    task = find_task(found[0].number)
    held = find_nursery(number)
    assert task
    assert held
    assert task.name == "connection"
    assert held.parent_task is task
    assert find_task(number) is None
    assert find_nursery(found[0].number) is None
    held.cancel_scope.cancel()
    del task, held
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert find_task(found[0].number) is None
    assert find_nursery(number) is None


async def test_nothing_is_kept_alive(nursery: trio.Nursery) -> None:
    """What a function lets go of is gone, though its variables were looked at before."""

    class Payload:
        pass

    taken, gone = trio.Event(), trio.Event()

    async def handle() -> None:
        payload = Payload()
        kept = weakref.ref(payload)
        async with trio.open_nursery():
            await taken.wait()
            del payload
            assert kept() is None
        gone.set()

    nursery.start_soon(handle)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2):  # the second time it is known which variables hold nurseries
        await take_task_tree()
    taken.set()
    await gone.wait()


async def test_variables_survive() -> None:
    """Looking at the variables of a running function does not change them."""
    value = [1]
    async with trio.open_nursery() as here:
        before = locals()
        tree = task_tree_nowait(current_task())
        assert tree.nurseries[-1].name == "here"
        assert value == [1]
        assert locals()["value"] is value
        assert before is not None


class StepCounter(trio.abc.Instrument):
    """Counts the steps of one task."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.steps = 0

    def before_task_step(self, task: Task) -> None:
        """Count one."""
        self.steps += task is self.task


@pytest.mark.parametrize("fold", [True, False])
async def test_ten_thousand_tasks(fold: bool) -> None:
    """The loop gets a turn after each stretch of bounded work, however many tasks there are."""
    over = trio.Event()
    counter = StepCounter(current_task())
    async with trio.open_nursery() as here:
        for number in range(10_000):
            here.start_soon(wait_for, over, name=str(number % 100))
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(counter)
        tree = await take_task_tree(current_task(), fold=fold)
        trio.lowlevel.remove_instrument(counter)
        over.set()
    assert count_tasks(tree) == 10_001
    children = tree.nurseries[-1].tasks
    assert len(children) == (100 if fold else 10_000)
    frames = len(children[0].frames)
    assert counter.steps >= 10_000 * (1 + frames) // task_tree.STRETCH


async def test_a_tree_that_changes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that come, go and move while the tree is taken are shown once or not at all."""
    monkeypatch.setattr(task_tree, "STRETCH", 1)  # a checkpoint after each task
    over = trio.Event()

    async def server(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()
        task_status.started()
        await trio.lowlevel.checkpoint()

    async def changing(nursery: trio.Nursery) -> None:
        while not over.is_set():
            async with trio.open_nursery() as brief:
                brief.start_soon(trio.lowlevel.checkpoint)
                await brief.start(server)
                await nursery.start(server)

    async with trio.open_nursery() as here:
        for number in range(10):
            here.start_soon(changing, here, name=f"changing {number}")
        for _ in range(10):
            tree = await take_task_tree(fold=False)
            numbers = [each.number for each in nodes_of(tree)[0]]
            assert len(numbers) == len(set(numbers))
            names = {each.name for each in nodes_of(tree)[0]}
            assert names >= {f"changing {number}" for number in range(10)}
        over.set()


async def test_taking_a_tree_is_a_checkpoint() -> None:
    """It lets others run and can be cancelled, also where there is next to nothing to look at."""
    with trio.testing.assert_checkpoints():
        await take_task_tree(current_task())
    with trio.CancelScope() as scope:
        scope.cancel()
        await take_task_tree()
    assert scope.cancelled_caught


DEEP = 5_000


def check_deep_tree(tree: TaskNode, tasks: int) -> None:
    """Check that everything that works on trees works on one that is nested DEEP."""
    assert count_tasks(tree) == tasks
    document = as_json(tree)
    assert as_json(from_json(document)) == document
    assert len(as_text(tree)) < 10**6
    assert len(as_html(tree)) < 10**6


async def test_tasks_nested_deeply() -> None:
    """A task in a nursery in a task, five thousand times, is no deeper than it can be shown."""
    over = trio.Event()

    async def nested(more: int) -> None:
        if not more:
            await over.wait()
            return
        async with trio.open_nursery() as inner:
            inner.start_soon(nested, more - 1, name="nested")

    async with trio.open_nursery() as here:
        here.start_soon(nested, DEEP - 2, name="nested")
        await trio.testing.wait_all_tasks_blocked()
        check_deep_tree(await take_task_tree(current_task()), DEEP)
        over.set()


async def test_nurseries_nested_deeply() -> None:
    """Five thousand nurseries of one task are shown."""
    async with AsyncExitStack() as nurseries:
        for _ in range(DEEP):
            await nurseries.enter_async_context(trio.open_nursery())
        tree = await take_task_tree(current_task())
        assert len(tree.nurseries) > DEEP
        check_deep_tree(tree, 1)


def test_outside_of_trio() -> None:
    """Outside of a run there is no tree, and that is said."""
    with pytest.raises(RuntimeError, match="in the thread of a Trio run"):
        task_tree_nowait()


async def test_in_another_thread() -> None:
    """A thread beside the run cannot take its tree."""
    here = threading.get_ident()

    def elsewhere() -> None:
        assert threading.get_ident() != here
        task_tree_nowait()

    with pytest.raises(RuntimeError, match="in the thread of a Trio run"):
        await trio.to_thread.run_sync(elsewhere)
