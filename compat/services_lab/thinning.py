"""Fewer events for the same picture: a server under load steps a thousand times in a pixel.

Steps of one task that follow each other closely are made one, with a resolution that is just coarse
enough. Where that is not enough, since there are too many tasks, those that were spawned last are
left out. Spawning, cancellation, marks and ends are kept as they are.
"""

from collections.abc import Iterable, Sequence

from trio_services.sans_io.task_events import TaskEvent, What

FINEST = 1 / 2_000
"""The resolution that is tried first, as a part of the whole: half a pixel of a wide picture."""

_STEPS = (What.READY, What.STARTED, What.STOPPED)


def thinned(events: Sequence[TaskEvent], limit: int) -> tuple[TaskEvent, ...]:
    """Return at most `limit` of `events`, which are in the order of time."""
    if len(events) <= limit:
        return tuple(events)
    resolution = (events[-1].at - events[0].at) * FINEST
    tasks = {event.task for event in events}
    kept = tuple(events)
    while len(kept) > limit and len(kept) > 4 * len(tasks) and resolution <= events[-1].at:
        kept = merged(events, resolution)
        resolution *= 2
    if len(kept) <= limit:
        return kept
    first = sorted(tasks)[: limit // 4]
    return tuple(event for event in kept if event.task in first or event.what is What.MARK)[:limit]


def merged(events: Iterable[TaskEvent], resolution: float) -> tuple[TaskEvent, ...]:
    """Return `events` without the pauses of a task that are shorter than `resolution` seconds."""
    kept: list[TaskEvent | None] = []
    stopped: dict[int, list[int]] = {}  # by task: where in `kept` its pause is, if it is in one
    for event in events:
        pause = stopped.get(event.task)
        if event.what is What.STARTED and pause:
            before = kept[pause[0]]
            assert before
            del stopped[event.task]
            if event.at - before.at < resolution:
                for index in pause:
                    kept[index] = None
                continue
        if event.what is What.STOPPED:
            stopped[event.task] = [len(kept)]
        elif event.what is What.READY and pause:
            pause.append(len(kept))
        elif event.what not in _STEPS:
            stopped.pop(event.task, None)
        kept.append(event)
    return tuple(event for event in kept if event)
