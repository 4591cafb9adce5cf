"""The feed: what states say, when they are made, and for how many, on a mock clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
import trio
import trio.testing

from tests.status.fake_source import FakeSource, counters, report
from trio_services.status.feed import (
    BUSY_SHARE,
    HEARTBEAT,
    MAX_STATE_BYTES,
    TICK,
    Feed,
    TooManyStreamsError,
)


@asynccontextmanager
async def keeping(
    source: FakeSource, streams: int = 8, used: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[Feed]:
    """Have a feed kept going."""
    feed = Feed(source, streams=streams, control=False, used=used)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.keep)
        yield feed
        nursery.cancel_scope.cancel()


async def test_trees_are_taken_only_while_somebody_listens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Without listeners a tick samples counters, and no more."""
    source = FakeSource([report()])
    async with keeping(source) as feed:
        await trio.sleep(10.4 * TICK)
        assert source.looked == [False] * 11
        source.looked.clear()
        with feed.listening() as next_event:
            for _ in range(5):
                await next_event()
        assert source.looked == [True] * 5
        source.looked.clear()
        await trio.sleep(3 * TICK)
        assert set(source.looked) == {False}


async def test_one_state_for_all(autojump_clock: trio.testing.MockClock) -> None:
    """However many listen, a tick makes one state, and all get the same."""
    source = FakeSource([report()])
    async with keeping(source) as feed:
        await trio.sleep(TICK / 2)
        source.looked.clear()
        with feed.listening() as one, feed.listening() as other:
            received = []

            async def receive(next_event: object) -> None:
                assert callable(next_event)
                received.append(await next_event())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive, one)
                nursery.start_soon(receive, other)
        assert received[0] == received[1]
        assert source.looked == [True]


async def test_who_is_slow_misses_some(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing piles up for a listener that does not come back; it gets the latest then."""
    source = FakeSource([report()])
    async with keeping(source) as feed:
        with feed.listening() as next_event:
            await next_event()
            await trio.sleep(100 * TICK)
            source.reports = [report(draining=True)]
            state = orjson.loads((await next_event()).partition(b"data: ")[2])
            assert state["draining"] is True


async def test_streams_are_limited(autojump_clock: trio.testing.MockClock) -> None:
    """One more than there may be is refused; when one has gone there is room."""
    async with keeping(FakeSource([report()]), streams=1) as feed:
        with feed.listening():
            with pytest.raises(TooManyStreamsError), feed.listening():
                pass
        with feed.listening():
            pass


async def test_large_trees_come_less_often(autojump_clock: trio.testing.MockClock) -> None:
    """A tick of much work is followed by a pause that keeps the share of the processor."""
    source = FakeSource([report()], slow=1.0)
    async with keeping(source, used=trio.current_time):
        await trio.sleep(10 / BUSY_SHARE)
    assert 10 <= len(source.looked) <= 11


async def test_a_copy_that_does_not_answer_makes_nobody_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Waiting is no work: the page hears of the others as soon as the silent one is given up on."""
    source = FakeSource([report()], slow=1.0)
    async with keeping(source):
        await trio.sleep(10.5)
    assert len(source.looked) == 10


async def test_heartbeat(autojump_clock: trio.testing.MockClock) -> None:
    """When there is nothing new for long, a comment keeps the stream alive."""
    feed = Feed(FakeSource([report()]), streams=1, control=False)  # which nobody keeps going
    with feed.listening() as next_event:
        assert await next_event() == b": still here\n\n"
    assert trio.current_time() == pytest.approx(HEARTBEAT)


async def test_rates(autojump_clock: trio.testing.MockClock) -> None:
    """Rates are of the last seconds, and never negative, though a copy begins anew at zero."""
    source = FakeSource([report()])
    async with keeping(source) as feed:
        for tenths in range(1, 51):
            source.reports = [report(counters=counters(queries=10 * tenths))]
            await trio.sleep(0.1)
        assert orjson.loads(await feed.state())["dns"]["per_second"] == pytest.approx(100, rel=0.1)
        await trio.sleep(20)
        assert orjson.loads(await feed.state())["dns"]["per_second"] == 0
        source.reports = [report(counters=counters(queries=0))]
        await trio.sleep(TICK)
        assert orjson.loads(await feed.state())["dns"]["per_second"] == 0


async def test_latency_is_of_the_last_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """What was slow a while ago is forgotten; without anything lately there is none."""
    counts = counters()["dns"]["batches"]["counts"]
    slow = [*counts[:-2], 100, 0]
    source = FakeSource([report(counters=counters(batches={"counts": slow, "total": 1.0}))])
    async with keeping(source) as feed:
        await trio.sleep(30)
        assert orjson.loads(await feed.state())["dns"]["latency"] is None
        quick = [100, *slow[1:]]
        source.reports = [report(counters=counters(batches={"counts": quick, "total": 2.0}))]
        latency = orjson.loads(await feed.state())["dns"]["latency"]
        assert latency["p99"] <= 1e-5


async def test_copies_are_added_up(autojump_clock: trio.testing.MockClock) -> None:
    """Counters of copies are summed, their lag is the worst, and one that is missing is named."""
    copies = [
        report(1, counters=counters(queries=1)),
        report(2, counters=counters(queries=10), lag={"now": 0.5, "p99": 0.6}, draining=True),
        {"pid": 3, "missing": "no answer"},
    ]
    feed = Feed(FakeSource(copies), streams=1, control=True)
    state = orjson.loads(await feed.state())
    assert state["dns"]["queries"] == 11
    assert state["dns"]["rcodes"] == {"NOERROR": 4}
    assert state["sort"]["connections"]["open"] == 10
    assert state["memory"] == 2000
    assert state["loop_lag"] == {"now": 0.5, "p99": 0.6}
    assert state["draining"] is True
    assert [each.get("missing") for each in state["copies"]] == [None, None, "no answer"]


async def test_nobody_answers(autojump_clock: trio.testing.MockClock) -> None:
    """With all copies missing there is still a state."""
    feed = Feed(FakeSource([{"pid": 3, "missing": "no answer"}]), streams=1, control=True)
    state = orjson.loads(await feed.state())
    assert (state["dns"], state["sort"], state["memory"]) == (None, None, 0)


async def test_occurrences_of_all_processes_by_time(autojump_clock: trio.testing.MockClock) -> None:
    """What happened lately is told of all, the latest first, with the process."""
    copies = [
        report(pid, recent=[{"at": float(at), "kind": "error"} for at in times])
        for pid, times in ((1, (9, 5)), (2, (8, 6)))
    ]
    state = orjson.loads(await Feed(FakeSource(copies), streams=1, control=True).state())
    assert [(each["at"], each["pid"]) for each in state["recent"]] == [
        (9, 1), (8, 2), (6, 2), (5, 1),
    ]  # fmt: skip


async def test_a_tree_that_is_too_large(autojump_clock: trio.testing.MockClock) -> None:
    """The state is sent without it."""
    tree = {"tasks": [{"name": "x" * MAX_STATE_BYTES}], "nurseries": [], "frames": []}
    state = await Feed(FakeSource([report()], tree=tree), streams=1, control=True).state()
    assert len(state) < MAX_STATE_BYTES
    assert orjson.loads(state)["tree"] is None
