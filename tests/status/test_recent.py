"""The ring of what went wrong or was cancelled lately."""

import pytest
import trio
import trio.testing

from trio_services.status.recent import KEPT, TEXT_LENGTH, Recent


def test_the_latest_first_and_no_more_than_are_kept() -> None:
    """It forgets the oldest, and cuts texts that a peer could make long."""
    recent = Recent()
    for number in range(KEPT + 10):
        recent.error("sort connection", "not-json", f"{number} {'x' * 1000}")
    found = recent.all()
    assert len(found) == KEPT
    assert found[0].text.startswith(f"sort connection: not-json: {KEPT + 9} ")
    assert all(len(each.text) == TEXT_LENGTH for each in found)
    assert [each.at for each in found] == sorted((each.at for each in found), reverse=True)


def test_texts_that_are_no_unicode() -> None:
    """What is kept can always be sent: a path that is not UTF-8 has its bytes escaped."""
    recent = Recent()
    recent.error("dns respond", "OSError", "caf\udce9: ☕")
    assert recent.all()[0].text == "dns respond: OSError: caf\\udce9: ☕"


async def cancelled_by_a_call(recent: Recent) -> None:
    """Have a task cancel another, with a reason."""

    async def cancel(scope: trio.CancelScope) -> None:
        scope.cancel(reason="enough")

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope, name="a 'sibling' <b>")
            await waiting(recent)


async def cancelled_by_a_deadline(recent: Recent) -> None:
    """Have a deadline pass."""
    with trio.move_on_after(1):
        await waiting(recent)


async def cancelled_by_a_nursery(recent: Recent) -> None:
    """Have a sibling fail."""

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, name="a sibling")
            await waiting(recent)


async def waiting(recent: Recent) -> None:
    """Wait to be cancelled within a nursery, which makes a group of it."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    except BaseException as error:
        recent.caught("this task", error, "its time was over")
        raise


@pytest.mark.parametrize(
    ("cancel", "by", "why"),
    [
        (cancelled_by_a_call, "a 'sibling' <b>", "enough"),
        (cancelled_by_a_deadline, "its deadline", "its time was over"),
        (cancelled_by_a_nursery, "a sibling", "ZeroDivisionError"),
    ],
    ids=["call", "deadline", "nursery"],
)
async def test_who_cancelled_whom_and_why(
    autojump_clock: trio.testing.MockClock, cancel: object, by: str, why: str
) -> None:
    """A cancellation names the task that called, or what it was instead, and the reason."""
    recent = Recent()
    assert callable(cancel)
    await cancel(recent)
    [found] = recent.all()
    assert (found.kind, found.who, found.by) == ("cancelled", "this task", by)
    assert why in found.why
    assert found.text == f"this task was cancelled by {by}: {found.why}"


def test_other_errors_are_no_cancellations() -> None:
    """What passes that is no cancellation is not taken for one."""
    recent = Recent()
    recent.caught("this task", ValueError("no"), "its time was over")
    recent.caught("this task", ExceptionGroup("all", [ValueError("no")]), "its time was over")
    assert recent.all() == ()
