"""What went wrong or was cancelled lately: a ring of the last few, for people to read.

Since 0.31 a `trio.Cancelled` says what cancelled (a deadline, a call of `cancel()`, a failing
sibling), which task called and with what reason. It is read where a connection ends, and always
raised again: the ring looks on. Nothing is recorded for single DNS queries.

A peer can cause any number of these, so each costs one small object, the ring forgets the oldest,
and its texts are short.
"""

import re
import time
from ast import literal_eval
from collections import deque
from dataclasses import dataclass

import trio

from trio_services.status.task_tree_json import encodable

KEPT = 50
"""Entries: a screenful."""

TEXT_LENGTH = 200
"""Characters of a text; peers have a say in it."""

_TASK_REPR = re.compile(r"<Task (?P<name>['\"].*['\"]) at 0x[0-9a-f]+>")

_BY = {
    "deadline": "its deadline",
    "nursery": "its nursery, in which a sibling failed",
    "explicit": "a call of cancel()",
    "KeyboardInterrupt": "Ctrl-C",
    "shutdown": "the end of the program",
}
"""What Trio calls the sources of a cancellation, in words; the calling task is named instead."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One entry: what happened to whom, through whom and why.

    Attributes:
        at: Unix time, seconds.
        kind: `error`, `cancelled` or `busy-loop`.
        who: The task or the service it happened to.
        by: What cancelled it; empty for others.
        why: The reason that was given, or the type of the error.
        text: All of it in one line.
    """

    at: float
    kind: str
    who: str
    by: str
    why: str
    text: str


class Recent:
    """The last occurrences."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring: deque[Occurrence] = deque(maxlen=KEPT)

    def all(self) -> tuple[Occurrence, ...]:
        """Return them, the latest first."""
        return tuple(reversed(self._ring))

    def error(self, who: str, why: str, detail: object) -> None:
        """Record that something of `who` failed."""
        self._add("error", who, "", why, f"{who}: {why}: {detail}")

    def busy(self, who: str, text: str) -> None:
        """Record that a task kept the loop to itself."""
        self._add("busy-loop", who, "", "the loop was kept busy", text)

    def cancelled(self, who: str, by: str, why: str) -> None:
        """Record that `who` was cancelled."""
        self._add("cancelled", who, by, why, f"{who} was cancelled by {by}: {why}")

    def caught(self, who: str, error: BaseException, why: str) -> None:
        """Record the cancellation in `error`, if there is one; `why` if it does not say itself."""
        while isinstance(error, BaseExceptionGroup):  # of the nursery in which it was met
            error = error.exceptions[0]
        if isinstance(error, trio.Cancelled):
            self.cancelled(who, canceller(error), error.reason or why)

    def _add(self, kind: str, who: str, by: str, why: str, text: str) -> None:
        self._ring.append(
            Occurrence(
                time.time(),
                kind,
                encodable(who),
                encodable(by),
                encodable(why[:TEXT_LENGTH]),
                encodable(text[:TEXT_LENGTH]),
            )
        )


def canceller(error: trio.Cancelled) -> str:
    """Say who cancelled: the name of the task that called, or what it was instead."""
    if error.source_task and (found := _TASK_REPR.fullmatch(error.source_task)):
        return str(literal_eval(found["name"]))
    return _BY.get(error.source, error.source)
