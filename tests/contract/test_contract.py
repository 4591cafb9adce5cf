"""One contract, every variant: each promise is kept, or broken exactly as is expected."""

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from services_lab.variants import VARIANTS

from tests.contract.contract import CASES, DIFFERENCES, PROMISES, Case, difference, is_made, table
from tests.contract.promises import Subject, running
from tests.contract.sort_promises import use


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A variant with the running server that its promises share.

    The server belongs to a Trio run in a thread, since a test's own run ends with the test.
    """
    variant = VARIANTS[request.param]
    if reason := variant.missing():
        pytest.skip(reason)
    with (
        start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(running(variant)) as server,
    ):
        if variant.is_original and "sort" in variant.services:
            portal.call(use, server)  # their first client is a difference of its own
        yield Subject(variant, server)


@pytest.mark.parametrize(
    ("subject", "case"),
    [pytest.param(case.variant, case, id=str(case)) for case in CASES],
    indirect=["subject"],
    scope="module",
)
async def test_contract(subject: Subject, case: Case) -> None:
    """A variant keeps the promise; where the contract expects otherwise, it does just that."""
    await case.check(subject)


def test_each_difference_is_of_a_promise_that_is_made() -> None:
    """No expected difference is of a variant that does not make the promise."""
    for each in DIFFERENCES:
        for promise in each.promises:
            assert all(is_made(promise, VARIANTS[name]) for name in each.variants), promise.name


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13), (3, 14)])
def test_one_expectation_at_most(python: tuple[int, int]) -> None:
    """On no version of Python are two things expected of one variant."""
    for promise in PROMISES:
        for name in VARIANTS:
            difference(promise, name, python)  # raises ValueError


def test_table() -> None:
    """The table has a line for each promise, and below it one for each difference."""
    lines = table().splitlines()
    assert len(lines) == 2 + len(PROMISES) + 1 + len(DIFFERENCES)
    assert all(promise.sentence.endswith(".") for promise in PROMISES)
