"""The judges of the short programs: outcomes that no library shows, and runs that show nothing."""

import signal
from collections.abc import Callable, Mapping

import pytest
from services_lab.experiment import Observation, Outcome
from services_lab.experiments import (
    ctrl_c,
    ctrl_c_while_computing,
    defeated_deadline,
    fire_and_forget,
    gather_one_fails,
    lost_exception,
    shielded_cleanup,
    start_handshake,
    swallowed_cancellation,
    thread_under_timeout,
    two_readers,
    who_cancelled_me,
)
from services_lab.ran import Ran

Judge = Callable[[Ran], Observation]


def ran(
    facts: Mapping[str, object],
    *marks: str,
    exit_status: int | None = 0,
    stderr: tuple[str, ...] = (),
) -> Ran:
    """Return what is left of a program that has run."""
    return Ran(
        exit_status=exit_status,
        stdout=(),
        stderr=stderr,
        facts=facts,
        marks=dict.fromkeys(marks, 0.0),
        events=(),
        seconds=0.1,
        left_behind=False,
    )


SWALLOWED = defeated_deadline.SWALLOWED


@pytest.mark.parametrize(
    ("judge", "what", "outcome"),
    [
        (fire_and_forget.judge, ran({}), fire_and_forget.Fate.LOST),
        (
            lost_exception.judge,
            ran({"finished": True, "ticks": 19}, stderr=("the peer has gone", lost_exception.OVER)),
            lost_exception.Outcomes.LOGGED,
        ),
        (
            lost_exception.judge,
            ran({"finished": True, "ticks": 19}, stderr=(lost_exception.OVER,)),
            lost_exception.Outcomes.LOST,
        ),
        (
            thread_under_timeout.judge,
            ran({"running": True, "ticks": 5, "ticks_at_end": 6, "all_ticks": 100}),
            thread_under_timeout.Fate.TOLD,
        ),
        (
            defeated_deadline.judge,
            ran({"seconds": 0.02}, SWALLOWED),
            defeated_deadline.Fate.UNTOLD,
        ),
        (
            defeated_deadline.judge,
            ran({"seconds": 0.1, "steps_after": 4, "timed_out": True}, SWALLOWED),
            defeated_deadline.Fate.LATE,
        ),
        (
            gather_one_fails.judge,
            ran({"caught": "", "steps_when_caught": 5, "steps_at_end": 5}),
            gather_one_fails.Fate.WAITED_FOR,
        ),
        (
            two_readers.judge,
            ran({"first": "received two", "second": "received one"}),
            two_readers.Fate.SHARED,
        ),
        (
            ctrl_c.judge,
            ran({"clean": 1}, ctrl_c.WAITING, exit_status=-signal.SIGINT),
            ctrl_c.Fate.UNCLEAN,
        ),
        (
            who_cancelled_me.judge,
            ran({"sibling": "", "deadline": "", "request": ""}),
            who_cancelled_me.Fate.NONE,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Outcome) else "",
)
def test_what_no_library_does(judge: Judge, what: Ran, outcome: Outcome) -> None:
    """A judge tells what none of today's libraries does, should one begin to do it."""
    assert judge(what).outcome is outcome


@pytest.mark.parametrize(
    ("judge", "facts"),
    [
        (fire_and_forget.judge, {}),
        (swallowed_cancellation.judge, {}),
        (defeated_deadline.judge, {"seconds": 1, "timed_out": True}),
        (two_readers.judge, {"first": "waits for ever", "second": "waits for ever"}),
        (ctrl_c.judge, {"clean": 0}),
        (ctrl_c_while_computing.judge, {}),
        (shielded_cleanup.judge, {"saved": 10}),
        (start_handshake.judge, {"reached": False, "failure": "raised at the call"}),
    ],
)
def test_a_program_that_failed_is_no_outcome(judge: Judge, facts: Mapping[str, object]) -> None:
    """A program that ended before anything could be seen is an error of the experiment."""
    with pytest.raises(AssertionError):
        judge(ran(facts, exit_status=1))
