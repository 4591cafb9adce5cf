"""What a timeline shows, before it is drawn: a lane for each task, after the one that started it.

The runtime's own tasks are left out. A task that goes on after the one that started it has ended is
*orphaned* from then on: nobody waits for it, sees its exception, or cancels it. So is a thread when
the task that started it goes on without it. Nothing is said of those that live on for a moment
only, while a loop shuts down, nor of Trio's tasks, for each is in a nursery that waits for it:
`Nursery.start` hands a task over to another one than that of the task which called it.

When there are too many tasks, the lanes that are kept are those in which something happened
(cancelled, raised, orphaned), those that were there first, and their ancestors.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services_lab.event_log import DESTROYED, THREAD
from trio_services.sans_io.task_events import TaskEvent, What

MOST_LANES = 12
"""As many as people can follow, and as fit on a projector."""

MOMENT = 0.02
"""The part of a recording in which an orphan is none yet, while loops cancel what is left."""

_OF_THE_RUNTIME = re.compile(
    r"<.*>|(?:.*\.)?(?:shutdown_asyncgens|shutdown_default_executor|_create_server_getaddrinfo|"
    r"_connect_pipes|_accept_connection2|async_gen_\w+)|AnyIO process pool shutdown task"
)
_PATH = re.compile(r"[A-Za-z_][\w]*(?:\.(?:[A-Za-z_]\w*|<locals>|<lambda>))+")


@dataclass(slots=True)
class Lane:
    """One task.

    Attributes:
        task: Its number.
        name: For people.
        parent: The number of the task that started it; None if that is not known, or not shown.
        born, ended: Seconds; `ended` is None if it had not when the recording ended.
        how: How it ended, in words.
        runs: When it ran: from, to.
        cancelled: When a cancellation reached it, and why.
        is_thread: Whether it is no task, but a thread that one started.
        orphaned: Since when nobody waits for it; None if somebody does.
        depth: How many shown ancestors it has.
    """

    task: int
    name: str
    parent: int | None
    born: float
    ended: float | None = None
    how: str = ""
    runs: list[tuple[float, float]] = field(default_factory=list)
    cancelled: list[tuple[float, str]] = field(default_factory=list)
    is_thread: bool = False
    orphaned: float | None = None
    depth: int = 0

    @property
    def raised(self) -> bool:
        """Whether it ended with an exception."""
        return self.how.startswith("raised")

    @property
    def lost(self) -> bool:
        """Whether it came to its end, or will, without anybody who waits for it."""
        return self.orphaned is not None or self.how == DESTROYED

    def words(self) -> str:
        """Return in a few words what became of it."""
        how = self.how.partition(":")[0] if self.raised else self.how
        how = how or ("ended" if self.ended is not None else "never ended")
        return f"orphaned, then {how}" if self.orphaned is not None else how


@dataclass(frozen=True, slots=True)
class Marked:
    """A moment that the program, or the experiment, named."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one timeline shows.

    Attributes:
        lanes: Each after the one that started it.
        marks: In the order of time.
        folded: How many tasks have no lane, by name.
        start, end: Seconds.
    """

    lanes: tuple[Lane, ...]
    marks: tuple[Marked, ...]
    folded: Mapping[str, int]
    start: float
    end: float


def read_lanes(events: Sequence[TaskEvent], most: int = MOST_LANES) -> Recorded:
    """Return the lanes of a recording; times begin where it does.

    Where the lab has set marks itself (they belong to no task), the time is 0 at the first of them,
    and what was well before it is not shown: servers take a while to start.
    """
    outside = [each.at for each in events if each.what is What.MARK and not each.task]
    begin = next(iter(outside), events[0].at if events else 0.0)
    end = (events[-1].at if events else 0.0) - begin
    start = -0.05 * end if outside else 0.0
    lanes = _lanes(events, begin, end)
    shown = [lane for lane in lanes.values() if lane.ended is None or lane.ended >= start]
    if not _is_of_trio(events):
        _find_orphans(lanes.values(), lanes, end)
    _find_orphans([lane for lane in lanes.values() if lane.is_thread], lanes, end)
    kept = _most_telling(shown, lanes, most)
    names = Counter(lane.name for lane in shown if lane.task not in kept)
    ordered = tuple(_in_order([lane for lane in shown if lane.task in kept], lanes))
    marks = [Marked(each.at - begin, each.name) for each in events if each.what is What.MARK]
    return Recorded(ordered, tuple(marks), dict(names.most_common()), start, end)


def is_of_runtime(name: str) -> bool:
    """Tell whether a task of that name is the runtime's own, which has no lane."""
    return bool(_OF_THE_RUNTIME.fullmatch(name))


def short_name(name: str) -> str:
    """Return what people call a task: of the path to a function, the function (with its class)."""
    if not _PATH.fullmatch(name):
        return name
    *path, last = [part for part in name.split(".") if part != "<locals>"]
    return f"{path[-1]}.{last}" if path and path[-1][:1].isupper() else last


def _lanes(events: Iterable[TaskEvent], begin: float, end: float) -> dict[int, Lane]:
    hidden: dict[int, int | None] = {}
    lanes: dict[int, Lane] = {}
    started: dict[int, float] = {}
    for event in events:
        at = event.at - begin
        if event.what is What.SPAWNED:
            parent = event.parent
            while parent in hidden:
                parent = hidden[parent]
            if is_of_runtime(event.name):
                hidden[event.task] = parent
            else:
                known = parent if parent in lanes else None
                lanes[event.task] = Lane(
                    event.task,
                    short_name(event.name),
                    known,
                    at,
                    is_thread=event.note == THREAD,
                )
        lane = lanes.get(event.task)
        if lane is None:
            continue
        match event.what:
            case What.STARTED:
                started[event.task] = at
            case What.STOPPED:
                lane.runs.append((started.pop(event.task, lane.born), at))
            case What.CANCELLED:
                lane.cancelled.append((at, event.note))
            case What.EXITED:
                lane.ended, lane.how = at, event.note
    for task, at in started.items():
        lanes[task].runs.append((at, end))
    return lanes


def _is_of_trio(events: Iterable[TaskEvent]) -> bool:
    """Tell whether Trio's scheduler was recorded: asyncio does not tell when a task is ready."""
    return any(event.what is What.READY for event in events)


def _find_orphans(among: Iterable[Lane], lanes: Mapping[int, Lane], end: float) -> None:
    for lane in among:
        parent = lanes[lane.parent] if lane.parent is not None else None
        if parent is None:
            continue
        alone = parent.ended
        if lane.is_thread:  # whoever waits for a thread does not run
            alone = next((start for start, _ in parent.runs if start > lane.born), alone)
        last = end if lane.ended is None else lane.ended
        if alone is not None and last - alone > MOMENT * end:
            lane.orphaned = max(alone, lane.born)


def _most_telling(shown: Sequence[Lane], lanes: Mapping[int, Lane], most: int) -> set[int]:
    """Return the numbers of at most `most` tasks, each with its ancestors."""
    kept: set[int] = set()
    eventful = sorted(
        shown,
        key=lambda lane: (
            not (lane.orphaned is not None or lane.raised),
            not lane.cancelled,
            lane.born,
        ),
    )
    in_turn = sorted(shown, key=lambda lane: lane.born)
    for lane in (*in_turn[: most // 3], *eventful):
        line: set[int] = set()
        ancestor: int | None = lane.task
        while ancestor is not None:
            line.add(ancestor)
            ancestor = lanes[ancestor].parent
        if len(kept | line) <= most:
            kept |= line
    return kept


def _in_order(lanes: Sequence[Lane], every: Mapping[int, Lane]) -> Iterable[Lane]:
    """Yield each lane after the nearest of its ancestors that is shown, and tell it how deep it
    is."""
    shown = {lane.task for lane in lanes}
    children: dict[int | None, list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: (lane.born, lane.task), reverse=True):
        above = lane.parent
        while above is not None and above not in shown:
            above = every[above].parent
        children.setdefault(above, []).append(lane)
    waiting = children.get(None, [])
    while waiting:
        lane = waiting.pop()
        yield lane
        for child in children.get(lane.task, ()):
            child.depth = lane.depth + 1
            waiting.append(child)
