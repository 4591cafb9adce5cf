"""Workers: where lists are sorted, and who waits for whom."""

import json
import os
from contextlib import suppress
from typing import Any, NoReturn

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.sorting import (
    BURN,
    GUARD,
    FakeLane,
    fail_socketpair,
    fake_workers,
    open_files,
    open_process_workers,
    sort,
    sort_for_error,
)
from trio_services.sans_io.payload import SHARE_ABOVE, Payload
from trio_services.sans_io.sort_jobs import VECTOR_MIN_BYTES, Algorithm, ErrorCode, SortError
from trio_services.settings import Place
from trio_services.worker_process import WorkerProcess
from trio_services.workers import GNOME_INLINE_MAX_BYTES, INLINE_MAX_BYTES, Workers, open_workers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("place", Place)
async def test_sorts_everywhere(place: Place, algorithm: Algorithm) -> None:
    """Every place gives the same results and the same errors, short or long."""
    before = open_files()
    long = b"[" + b"1," * SHARE_ABOVE + b"0]"
    with trio.fail_after(GUARD):
        async with open_workers(
            place=place, algorithm=algorithm, workers=2, job_deadline=GUARD, max_waiting=0
        ) as workers:
            assert await sort(workers, b"[3,1,2]") == b"[1,2,3]"
            assert await sort(workers, b" " * SHARE_ABOVE + b'["b","a"]') == b'["a","b"]'
            assert await sort(workers, b"[]") == b"[]"
            # gnome sort of this list takes few steps: only the last element moves
            assert await sort(workers, long) == b"[0" + b",1" * SHARE_ABOVE + b"]"
            assert await sort(workers, b"[1e5,2]" + b" " * SHARE_ABOVE) == b"[2,100000.0]"
            assert await sort_for_error(workers, b"[1,null]") == ErrorCode.NOT_SORTABLE
            assert await sort_for_error(workers, b"[" * SHARE_ABOVE * 2) == ErrorCode.NOT_SORTABLE
            assert await sort_for_error(workers, b"") == ErrorCode.NOT_JSON
    assert open_files() == before


async def test_results_may_be_longer_than_lists() -> None:
    """A result that outgrows the shared file of its list arrives whole."""
    data = json.dumps([1] * SHARE_ABOVE).replace("1", "1e9").encode()
    with trio.fail_after(GUARD):
        async with open_process_workers(algorithm=Algorithm.TIMSORT) as workers:
            result = await sort(workers, data)
    assert len(result) > len(data)
    assert json.loads(result) == [1e9] * SHARE_ABOVE


@pytest.mark.parametrize("place", [Place.THREAD, Place.PROCESS])
async def test_sorts_like_sorted_everywhere(place: Place) -> None:
    """Any list of numbers or strings comes back as sorted() has it, from threads and processes."""
    floats = st.floats(allow_nan=False, allow_infinity=False)
    lists = st.one_of(
        st.lists(st.one_of(st.integers(), floats)),
        st.lists(floats, min_size=1),
        st.lists(st.text(st.characters(exclude_categories=()))),
    )

    async def check(workers: Workers, values: list[Any]) -> None:
        reply = json.loads(await sort(workers, json.dumps(values).encode()))
        assert list(map(repr, reply)) == list(map(repr, sorted(values)))

    with trio.fail_after(GUARD):
        async with open_process_workers(place=place, algorithm=Algorithm.VECTOR) as workers:

            @settings(max_examples=50, deadline=None, database=None)
            @given(values=lists)
            def check_any(values: list[Any]) -> None:
                trio.from_thread.run(check, workers, values)

            await trio.to_thread.run_sync(check_any)


@pytest.mark.parametrize(
    ("place", "algorithm", "inline_max"),
    [
        (Place.AUTO, Algorithm.AUTO, INLINE_MAX_BYTES),
        (Place.AUTO, Algorithm.GNOME, GNOME_INLINE_MAX_BYTES),
        (Place.INLINE, Algorithm.AUTO, 1_000_000),
        (Place.THREAD, Algorithm.AUTO, -1),
        (Place.PROCESS, Algorithm.AUTO, -1),
    ],
)
async def test_sorts_short_lists_at_once(
    place: Place, algorithm: Algorithm, inline_max: int
) -> None:
    """Lists that are not worth a hand-over are sorted without any await, others never."""
    with trio.fail_after(GUARD):
        async with open_process_workers(place=place, algorithm=algorithm) as workers:
            for size in (inline_max, inline_max + 1):
                if size < 2 or size > 1_000_000:
                    continue
                data = b"[" + b" " * (size - 2) + b"]"
                with Payload(size) as payload:
                    payload.append(data)
                    if size <= inline_max:
                        assert workers.sort_nowait(payload) == b"[]"
                        assert workers.statistics().inline == 1
                    else:
                        with pytest.raises(trio.WouldBlock):
                            workers.sort_nowait(payload)
            with Payload(2) as payload:
                payload.append(b"[]")
                if inline_max < 0:
                    with pytest.raises(trio.WouldBlock):
                        workers.sort_nowait(payload)


@pytest.mark.parametrize("data", [b"[98765432109876543210,0.5]", b"[1,]", b'["\\ud800"]'])
async def test_the_exact_reader_is_not_for_the_loop(data: bytes) -> None:
    """A list that is short and yet slow to read goes to a lane, unless there is none."""
    with trio.fail_after(GUARD), Payload(len(data)) as payload:
        payload.append(data)
        async with open_process_workers(place=Place.AUTO, algorithm=Algorithm.AUTO) as workers:
            with pytest.raises(trio.WouldBlock):
                workers.sort_nowait(payload)
            assert workers.statistics().inline == 0
        async with open_process_workers(place=Place.INLINE, algorithm=Algorithm.AUTO) as workers:
            with suppress(SortError):
                assert workers.sort_nowait(payload)


def test_the_loop_never_loads_the_vector_path() -> None:
    """No list that AUTO sorts on the loop imports numpy there: a stall of 60 ms."""
    assert INLINE_MAX_BYTES < VECTOR_MIN_BYTES


async def test_threads_are_used_where_they_run_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTO starts no processes on a Python without the GIL."""
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    async with open_process_workers(place=Place.AUTO, workers=3) as workers:
        statistics = workers.statistics()
    assert statistics.lanes == 3
    assert statistics.pids == ()


# Whose turn it is, with lanes that do as they are told.


async def test_waits_its_turn() -> None:
    """Requests get lanes in the order in which they came."""
    lane = FakeLane()
    workers = fake_workers(lane)
    async with trio.open_nursery() as nursery:
        for number in b"12345":
            nursery.start_soon(sort, workers, bytes([number]))
            await wait_all_tasks_blocked()
        statistics = workers.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (1, 1, 4)
        for _ in range(5):
            lane.finish.release()
    assert b"".join(lane.jobs) == b"12345"
    assert workers.statistics().done == 5


async def test_busy_when_too_many_wait() -> None:
    """One request more than may wait is refused at once."""
    workers = fake_workers(FakeLane(), max_waiting=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        nursery.start_soon(sort, workers, b"2")
        await wait_all_tasks_blocked()
        assert await sort_for_error(workers, b"3") == ErrorCode.BUSY
        assert workers.statistics().errors == {ErrorCode.BUSY: 1}
        nursery.cancel_scope.cancel()


async def test_busy_when_no_lane_is_free_in_time(autojump_clock: MockClock) -> None:
    """A request that finds no lane within the deadline is refused."""
    workers = fake_workers()
    start = trio.current_time()
    assert await sort_for_error(workers, b"1") == ErrorCode.BUSY
    assert trio.current_time() - start == pytest.approx(10)


async def test_timeout_when_it_takes_too_long(autojump_clock: MockClock) -> None:
    """The deadline of a job counts from when it has its lane, and the lane goes back."""
    lane = FakeLane()
    workers = fake_workers(lane)
    codes: list[tuple[ErrorCode, int]] = []
    start = trio.current_time()

    async def note_error(data: bytes) -> None:
        code = await sort_for_error(workers, data)
        codes.append((code, round(trio.current_time() - start)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note_error, b"1")
        await trio.sleep(5)
        nursery.start_soon(note_error, b"2")
    assert codes == [(ErrorCode.TIMEOUT, 10), (ErrorCode.TIMEOUT, 20)]
    assert workers.statistics().running == 0


async def test_cancelled_waiting_loses_no_lane() -> None:
    """A request that gives up waiting neither takes a lane nor keeps one from others."""
    lane = FakeLane()
    workers = fake_workers(lane)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        await wait_all_tasks_blocked()
        with trio.CancelScope() as waiting:
            nursery.start_soon(sort, workers, b"2")
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as inner:
                inner.start_soon(sort, workers, b"3")
                await wait_all_tasks_blocked()
                lane.finish.release()
                waiting.cancel()
        lane.finish.release()
    assert lane.jobs == [b"1", b"2"]
    assert workers.statistics().waiting == 0


async def test_cancelled_before_it_began_begins_nothing() -> None:
    """A request in a cancelled scope does not take a lane, which it would have to kill."""
    lane = FakeLane()
    with trio.CancelScope() as scope:
        scope.cancel()
        await sort(fake_workers(lane), b"1")
    assert scope.cancelled_caught
    assert lane.jobs == []


async def test_lost_lanes_are_passed_over() -> None:
    """A request outlives any number of workers that died before they read it."""
    good = FakeLane()
    good.finish.release()
    workers = fake_workers(FakeLane(lost=True), FakeLane(lost=True), good)
    assert await sort(workers, b"1") == b"sorted 1"


async def test_removed_lanes_are_not_given_out() -> None:
    """A lane that is taken away is never used again, idle or busy; the others keep their order."""
    lanes = [FakeLane(), FakeLane(), FakeLane()]
    workers = fake_workers(*lanes)
    workers.remove_lane(lanes[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        await wait_all_tasks_blocked()
        nursery.start_soon(sort, workers, b"2")
        await wait_all_tasks_blocked()
        workers.remove_lane(lanes[0])
        for lane in lanes * 2:
            lane.finish.release()
    assert await sort(workers, b"3") == b"sorted 3"
    assert [lane.jobs for lane in lanes] == [[b"1"], [], [b"2", b"3"]]
    assert workers.statistics().lanes == 1


async def test_closing_sends_the_waiting_away() -> None:
    """When the workers close, requests that wait are refused, and so are later ones."""
    workers = fake_workers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort_for_error, workers, b"1")
        await wait_all_tasks_blocked()
        workers.close()
    assert await sort_for_error(workers, b"2") == ErrorCode.BUSY
    assert workers.statistics().errors == {ErrorCode.BUSY: 2}


async def test_a_lane_that_comes_back_after_closing_is_dropped() -> None:
    """A job that ends after the workers were closed still has its result."""
    lane = FakeLane()
    workers = fake_workers(lane)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sort, workers, b"1")
        await wait_all_tasks_blocked()
        workers.close()
        lane.finish.release()
    assert workers.statistics().done == 1


# Threads.


async def test_cancelled_gnome_sort_leaves_its_thread() -> None:
    """A cancelled gnome sort stops burning its core, and its lane is free again."""
    with trio.fail_after(GUARD):
        async with open_process_workers(place=Place.THREAD) as workers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sort, workers, BURN)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert await sort(workers, b"[2,1]") == b"[1,2]"


async def test_no_file_for_a_result_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for whose result there is no descriptor left is told to come again."""

    async def fail(worker: WorkerProcess, payload: Payload) -> NoReturn:
        await trio.lowlevel.checkpoint()
        fail_socketpair()

    monkeypatch.setattr(FakeLane, "sort", fail)
    workers = fake_workers(FakeLane())
    assert await sort_for_error(workers, b"1") == ErrorCode.BUSY
    assert workers.statistics().running == 0
