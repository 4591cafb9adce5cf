"""What runs in a worker process of `anyio.to_process`: a call for each list.

The library starts the process, speaks with it through pipes, and pickles: the function by its name,
arguments and results by value. It knows nothing of what makes a good worker, so the first call does
that (`become_worker`); until then, for the tenth of a second that a process takes to start, it is
not so. A long list is not pickled: the worker opens the server's file of it.

A worker imports as little as it can: neither this module nor what it imports loads a server.
"""

import os
import select
import signal
from functools import cache
from threading import Thread

from trio_services.sans_io.payload import map_file, replace_contents
from trio_services.sans_io.sort_jobs import Algorithm, load_vector_path, sort_payload

NICENESS = 10
"""Added to the server's. Linux gives such a process a weight of 110 against 1024: a loop that
shares its core with a sort still gets nine tenths of it."""


@cache
def become_worker() -> None:
    """Do, once in each process, what has to be done before the first list."""
    # Ctrl-C in a terminal reaches the workers too, which share the server's process group. One that
    # heard it would answer with it, and the next request would get that answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy is not imported yet
    # The library's worker notices the end of its server after its job; a gnome sort lasts.
    Thread(target=_end_with_the_server, daemon=True).start()
    load_vector_path()


def sort_bytes(payload: bytes, algorithm: Algorithm) -> bytes:
    """Return the JSON array in `payload` sorted; raises SortError, which is pickled too."""
    become_worker()
    return sort_payload(payload, algorithm)


def sort_file(path: str, size: int, algorithm: Algorithm) -> int:
    """Replace the array in the first `size` bytes of a file by the sorted one; return its size.

    Raises:
        SortError: It cannot be sorted.
        OSError: The file cannot be opened.
    """
    become_worker()
    file = os.open(path, os.O_RDWR)
    try:
        result = sort_payload(map_file(file, size), algorithm)
        replace_contents(file, result)
    finally:
        os.close(file)
    return len(result)


def _end_with_the_server() -> None:
    poll = select.poll()
    poll.register(0, 0)  # no events: only a hang-up, which cannot be masked
    poll.poll()
    os._exit(0)
