"""What processes use: CPU time of the living and the dead, memory."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from services_lab.usage import cpu_of, cpu_seconds, family, measure

ITSELF = psutil.Process()


def gone() -> int:
    """Return the number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_cpu_time_is_what_was_burnt() -> None:
    """It is the process's own clock, to the precision that a short measurement needs."""
    before, began = cpu_of(ITSELF), time.process_time()
    while time.process_time() < began + 0.02:
        sum(range(1000))
    burnt = cpu_of(ITSELF) - before
    assert burnt >= 0.02 if sys.platform == "linux" else burnt >= 0


def test_cpu_time_of_children_that_have_ended_is_their_parents() -> None:
    """What a worker burnt that is gone is not lost."""
    before = cpu_of(ITSELF)
    subprocess.run(
        [sys.executable, "-c", "import os\nwhile sum(os.times()[:2]) < 0.1: pass"], check=True
    )
    assert cpu_of(ITSELF) - before >= 0.09


def test_a_family_is_a_process_and_all_below() -> None:
    """A child is part of it while it lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in [each.pid for each in family(os.getpid())]
        used = measure(os.getpid())
        assert used is not None
        assert used.memory > 2**20
        assert used.cpu > 0
        child.communicate(b"\n")


def test_what_has_ended_uses_nothing() -> None:
    """There is nothing to measure, and CPU time that cannot be told is an error."""
    pid = gone()
    assert family(pid) == []
    assert measure(pid) is None
    with pytest.raises(ProcessLookupError):
        cpu_seconds(pid)
