"""Numbers for tasks and nurseries: given at first sight, never given again, forgotten at the end.

`id` would do if it were not given to another object as soon as one is gone: whoever cancels what a
page has shown must not cancel its successor.
"""

import itertools
import math
import weakref
from functools import partial

import trio
from trio.lowlevel import Task


class Numbers:
    """Gives each living task and nursery a number, and forgets those that are gone."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._of: dict[int, int] = {}
        self._living: dict[int, weakref.ref[Task | trio.Nursery]] = {}

    def of(self, thing: Task | trio.Nursery) -> int:
        """Return the number of `thing`, a new one if it is seen for the first time."""
        number = self._of.get(id(thing))
        if number is None:
            number = self._of[id(thing)] = next(self._next)
            self._living[number] = weakref.ref(thing, partial(self._forget, id(thing), number))
        return number

    def known(self, thing: Task | trio.Nursery) -> float:
        """Return the number of `thing`; infinity if it has none yet."""
        return self._of.get(id(thing), math.inf)

    def find(self, number: int) -> Task | trio.Nursery | None:
        """Return what has this number, None if it is gone."""
        living = self._living.get(number)
        return living() if living else None

    def _forget(self, identity: int, number: int, dead: object) -> None:
        del self._of[identity], self._living[number]


numbers = Numbers()
