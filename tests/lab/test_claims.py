"""The judges of claims: outcomes that no library shows today, and arithmetic."""

import pytest
from services_lab.experiments.blocking_call import Stall, judge
from services_lab.experiments.gnome_square import exponent
from services_lab.ran import Ran

AFTERWARDS = "Executing <Task finished coro=<parse_something_large()> took 0.301 seconds"
MEANWHILE = ("parse_something_large keeps the loop busy", "    at blocking_call.py:7 in it")


@pytest.mark.parametrize(
    ("blocked", "said", "outcome"),
    [
        (0.29, (), Stall.UNSEEN),
        (0.29, ("something else took 0.3 seconds",), Stall.UNSEEN),
        (0.29, (AFTERWARDS,), Stall.NAMED),
        (0.29, MEANWHILE, Stall.SHOWN),
        (0.01, MEANWHILE, Stall.NO_STALL),
    ],
)
def test_blocking_call(blocked: float, said: tuple[str, ...], outcome: Stall) -> None:
    """Who says what is told apart by the task's name, and by a line of the file."""
    found = judge(
        Ran(
            exit_status=0,
            stdout=(),
            stderr=said,
            facts={"blocked": blocked, "threaded": 0.001},
            marks={},
            events=(),
            seconds=1.0,
            left_behind=False,
        )
    )
    assert found.outcome is outcome
    assert found.evidence


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5])
def test_exponent(power: float) -> None:
    """The exponent of a power is that, whatever its factor."""
    sizes = (100, 200, 400, 3200)
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)
