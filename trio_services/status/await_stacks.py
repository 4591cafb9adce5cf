"""Where tasks wait: their await stacks, as values, and which variables there hold nurseries.

Coroutines that wait in the same place have stacks of the same lines, so of ten thousand stacks few
differ: each is made into values once (see `Stacks`).

A nursery has no name, but the variable that holds it has one. It is looked for among the local
variables of the stack of the task that opened it. Only the names of variables ever leave this
module: their values are the program's secrets.
"""

import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType

import trio
from trio.lowlevel import Task

OURS = {__name__, "trio_services.status.task_tree"}
"""The modules that look; a task that takes a tree is shown where it asks for it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in a program: a function and the line that it is at.

    Attributes:
        file: The path of its source.
        line: The line, from 1; 0 if it is not known.
        function: Its name with that of its class: `Nursery._nested_child_finished`.
        module: The module that it is defined in.
    """

    file: str
    line: int
    function: str
    module: str


LiveFrame = tuple[FrameType, int]
"""A frame and the line that it is at, as `iter_await_frames` has it."""


class Stacks:
    """The await stacks of one tree. Equal stacks are one tuple: comparing them is comparing ids."""

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], tuple[Frame, ...]] = {}
        self._codes: list[CodeType] = []  # kept alive, for their ids
        self._variables: dict[int, list[tuple[int, str]]] = {}
        self._running = trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None

    def live(self, task: Task) -> list[LiveFrame]:
        """Return the frames of `task` and their lines, outermost first."""
        # While a coroutine runs, Python does not tell what it awaits; the thread's stack does.
        return _running_frames(task) if task is self._running else list(task.iter_await_frames())

    def stack(self, live: list[LiveFrame]) -> tuple[Frame, ...]:
        """Return live frames as values."""
        key: list[int] = []
        for frame, line in live:
            key += (id(frame.f_code), line)
        stack = self._stacks.get(tuple(key))
        if stack is None:
            self._codes += [frame.f_code for frame, _ in live]
            stack = self._stacks[tuple(key)] = tuple(itertools.starmap(frame_at, live))
        return stack

    def nurseries(
        self, live: list[LiveFrame], stack: tuple[Frame, ...]
    ) -> dict[object, tuple[str, Frame]]:
        """Return the variable that holds each nursery that these frames know, and the function."""
        places = self._variables.get(id(stack))
        if places is None:  # at the same lines, tasks hold nurseries in the same variables
            places = self._variables[id(stack)] = [
                (depth, name)
                for depth, (frame, _) in enumerate(live)
                for name, value in _variables(frame).items()
                if type(value) is trio.Nursery  # a proxy that lies about its class is not asked
            ]
        found: dict[object, tuple[str, Frame]] = {}
        for depth, name in places:
            found.setdefault(_variables(live[depth][0]).get(name), (name, stack[depth]))
        return found


def _running_frames(task: Task) -> list[LiveFrame]:
    """Return what runs in this thread, from the outermost frame of `task` to whoever asks."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") not in OURS:
            found.append((frame, frame.f_lineno or 0))
        if frame is task.coro.cr_frame:
            break
        frame = frame.f_back
    return found[::-1]


def frame_at(frame: FrameType, line: int | None) -> Frame:
    """Return the place where a live frame is, as a value."""
    code = frame.f_code
    return Frame(
        code.co_filename, line or 0, code.co_qualname, str(frame.f_globals.get("__name__", ""))
    )


def _variables(frame: FrameType) -> Mapping[str, object]:
    """Return the local variables of a live frame."""
    variables = frame.f_locals
    if sys.version_info >= (3, 13) or not frame.f_code.co_flags & CO_OPTIMIZED:
        return variables
    # These are copies, which the frame would keep: what the function deletes or replaces would
    # live on until it ends.
    ours = dict(variables)
    variables.clear()
    return ours
