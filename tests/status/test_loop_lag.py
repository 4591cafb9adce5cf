"""The lag of the loop, on a mock clock."""

import pytest
import trio
import trio.testing

from trio_services.status.loop_lag import INTERVAL, KEPT, LoopLag


async def test_an_idle_loop_has_none(autojump_clock: trio.testing.MockClock) -> None:
    """Who sleeps is woken on time."""
    lag = LoopLag()
    assert (lag.now, lag.p99) == (0.0, 0.0)
    with trio.move_on_after(10 * INTERVAL):
        await lag.keep()
    assert (lag.now, lag.p99) == (0.0, 0.0)


async def test_a_task_that_keeps_the_loop(autojump_clock: trio.testing.MockClock) -> None:
    """Time that passes while a task runs is what the others were late."""
    lag = LoopLag()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.keep)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.jump(INTERVAL + 2.0)  # as if this step had taken so long
        await trio.testing.wait_all_tasks_blocked()
        assert lag.now == pytest.approx(2.0)
        await trio.sleep(KEPT * INTERVAL / 2)
        assert lag.now == pytest.approx(0.0)
        assert lag.p99 <= 2.0
        nursery.cancel_scope.cancel()
