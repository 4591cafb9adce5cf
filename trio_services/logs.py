"""Logging to standard error, so that a peer cannot flood it and a crash can be read.

An error that a peer can cause is an error that a peer can cause a million times. The first of
each interval is logged with its traceback, which is what is needed to mend it; the others are
counted and mentioned by the next report. Nothing here imports Trio, so that every variant of the
services shares it.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator

from trio_services.settings import LogLevel, SettingsError

REPORT_INTERVAL = 60.0
"""Seconds between two reports of one kind: 1,440 tracebacks a day at the worst."""

logger = logging.getLogger("trio_services")


def configure_logging(level: LogLevel) -> None:
    """Send the package's log to standard error, a line each, with time, process and origin."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s",
    )


class ErrorLog:
    """Reports unexpected exceptions of one origin, at most one in `REPORT_INTERVAL` seconds.

    Args:
        origin: Where the errors come from, for the log.
        clock: Tells the time in seconds, as `trio.current_time` does.
    """

    def __init__(self, origin: str, clock: Callable[[], float]) -> None:
        self._origin = origin
        self._clock = clock
        self._next_report = -math.inf
        self._suppressed = 0
        self.count = 0

    def report(self, error: BaseException) -> None:
        """Count `error` and log it with its traceback unless one was logged just before."""
        self.count += 1
        now = self._clock()
        if now < self._next_report:
            self._suppressed += 1
            return
        more = f" ({self._suppressed} more since the last report)" if self._suppressed else ""
        logger.error("unexpected error in %s%s", self._origin, more, exc_info=error)
        self._next_report = now + REPORT_INTERVAL
        self._suppressed = 0


def run_reporting(run: Callable[..., object], *args: object) -> int:
    """Call `run(*args)`, say `trio.run` and a main function; report readably what went wrong.

    Returns:
        An exit status: 0 if it returned; 2 if it raised a `SettingsError`, which is then the whole
        report; 1 if anything else went wrong.
    """
    status = 0
    try:
        run(*args)
    except* SettingsError as wrong:
        for error in _leaves(wrong):
            print(f"trio-services: {error}", file=sys.stderr)  # noqa: T201
        status = 2
    except* Exception as crash:
        for error in _leaves(crash):
            logger.critical("a service failed: %s: %s", type(error).__name__, error)
        logger.critical("its siblings were cancelled; the whole group:", exc_info=crash)
        status = 1
    return status


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that a group holds at its ends."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
