"""Five sleepers, on a clock that jumps: seconds of sleep in no time."""

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_services.five_sleepers import TIMELINE_WIDTH, Nap, draw_timeline, run_sleepers

FIVE = [0.5, 3.0, 1.0, 4.0, 2.5]


async def test_lines_come_in_the_order_of_time(autojump_clock: trio.testing.MockClock) -> None:
    """The parent speaks first, then each sleeper; they awaken by delay, and "Done" is last."""
    said: list[str] = []
    await run_sleepers(FIVE, said.append)
    assert said[:2] == ["Parent creates 5 tasks", "Parent sleeps for 2.00 s while they run"]
    assert sorted(said[2:7]) == [
        "Sleeper 1 sleeps for 0.50 s",
        "Sleeper 2 sleeps for 3.00 s",
        "Sleeper 3 sleeps for 1.00 s",
        "Sleeper 4 sleeps for 4.00 s",
        "Sleeper 5 sleeps for 2.50 s",
    ]
    assert said[7:] == [
        "Sleeper 1 awakens",
        "Sleeper 3 awakens",
        "Parent awakens and waits for its tasks",
        "Sleeper 5 awakens",
        "Sleeper 2 awakens",
        "Sleeper 4 awakens",
        "Done",
    ]


async def test_they_sleep_side_by_side(autojump_clock: trio.testing.MockClock) -> None:
    """All together take as long as the longest, not as long as the sum."""
    naps = await run_sleepers(FIVE, lambda line: None)
    assert trio.current_time() == 4.0
    assert naps == [
        Nap("Parent", 0.0, 2.0),
        *(Nap(f"Sleeper {number}", 0.0, delay) for number, delay in enumerate(FIVE, 1)),
    ]


async def test_naps_are_sorted_by_number(autojump_clock: trio.testing.MockClock) -> None:
    """Sleeper 10 comes after sleeper 9, not after sleeper 1."""
    naps = await run_sleepers([0.1] * 11, lambda line: None)
    assert [nap.sleeper for nap in naps[1:]] == [f"Sleeper {n}" for n in range(1, 12)]


async def test_no_sleepers(autojump_clock: trio.testing.MockClock) -> None:
    """A parent without children still sleeps, and is done."""
    said: list[str] = []
    assert await run_sleepers([], said.append) == [Nap("Parent", 0.0, 2.0)]
    assert said[-1] == "Done"


async def test_cancelling_the_parent_cancels_the_sleepers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nobody awakens, and nobody is done, once the nursery is cancelled."""
    said: list[str] = []
    with trio.move_on_after(0.7):
        await run_sleepers(FIVE, said.append)
    assert trio.current_time() == 0.7
    assert said[-1] == "Sleeper 1 awakens"


async def test_timeline(autojump_clock: trio.testing.MockClock) -> None:
    """The picture shows who slept when, on a scale that ends with the last to awaken."""
    naps = await run_sleepers([1.0, 4.0], lambda line: None)
    assert draw_timeline(naps).splitlines() == [
        f"Parent    │{'█' * 25}{' ' * 25}│  2.00 s",
        f"Sleeper 1 │{'█' * 12}{' ' * 38}│  1.00 s",
        f"Sleeper 2 │{'█' * 50}│  4.00 s",
        f"{'':9}  0 s{' ' * 41}4.00 s",
    ]


@given(
    st.lists(st.tuples(st.floats(0, 3600), st.floats(0, 3600)).map(sorted).map(tuple), max_size=5)
)
def test_timeline_keeps_its_width(spans: list[tuple[float, float]]) -> None:
    """Whoever slept when, each bar is at least one block and within the frame."""
    naps = [Nap(f"Sleeper {number}", *span) for number, span in enumerate(spans, 1)]
    for line in draw_timeline(naps).splitlines()[:-1]:
        bar = line.split("│")[1]
        assert "█" in bar
        assert len(bar) == TIMELINE_WIDTH
