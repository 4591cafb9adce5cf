"""Programs that tests of the lab run in processes of their own."""

import os
import signal
import sys

import anyio
import sniffio
from services_lab.facts import Report


async def tell(report: Report, *args: str) -> None:
    """Tell the arguments and the library that runs this, and print a line on each stream."""
    report(args=list(args), library=sniffio.current_async_library())
    sys.stdout.write("a line\n")
    sys.stderr.write("a warning\n")
    report.mark("told")
    report(args=list(args), over=True)


async def fail(report: Report) -> None:
    """Tell a fact, then fail."""
    report(begun=True)
    raise OSError("it fails")


async def be_killed(report: Report) -> None:
    """Tell a fact, then be killed."""
    report(begun=True)
    os.kill(os.getpid(), signal.SIGKILL)


async def wait(report: Report) -> None:
    """Wait until somebody ends it."""
    report.mark("waiting")
    await anyio.sleep_forever()


async def leave_a_child(report: Report) -> None:
    """End, with a child process that does not."""
    pid = os.fork()
    if not pid:
        signal.pause()
    report(child=pid)


async def burn(report: Report) -> None:
    """Use CPU time, here and in a child that ends."""
    if not os.fork():
        _burn()
        os._exit(0)
    os.wait()  # noqa: ASYNC222 - nobody else is there to be kept waiting
    _burn()


def _burn() -> None:
    while sum(os.times()[:2]) < 0.1:
        sum(range(1000))
