"""The task tree in the log, for whoever sends SIGUSR1: it needs no page, no network, no library."""

import logging
import signal
from collections.abc import Callable

import trio

from trio_services.status.task_tree import take_task_tree
from trio_services.status.task_tree_text import as_text

logger = logging.getLogger("trio_services.tasks")


def show_no_others() -> None:
    """Stand in for copies where there are none."""


async def show_tasks_when_asked(ask_others: Callable[[], object] = show_no_others) -> None:
    """Log the tree of all tasks at each SIGUSR1, for ever, with where each task waits.

    Args:
        ask_others: Has other processes do the same.
    """
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            tree = await take_task_tree()
            logger.info("what is running:\n%s", as_text(tree, frames=True).rstrip("\n"))
            ask_others()
