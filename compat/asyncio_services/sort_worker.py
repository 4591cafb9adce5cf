"""What runs in a worker process: functions that a `ProcessPoolExecutor` calls there.

A worker imports this module and what it needs, and never asyncio's servers.
"""

import multiprocessing
import os
import signal
from threading import Thread

from trio_services.sans_io.payload import map_file, replace_contents
from trio_services.sans_io.sort_jobs import Algorithm, load_vector_path, sort_payload

NICENESS = 10
"""Added to the server's. Linux gives such a process a weight of 110 against 1024: a loop that
shares its core with a sort still gets nine tenths of it."""


def become_worker() -> None:
    """Prepare the process in which this is called for its life as a worker."""
    os.setpgid(0, 0)  # signals to the server's group, as from a terminal, are for the server
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)  # before numpy is imported: a replacement must not slow the loop either
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one a core would spin for 30 ms at the start
    Thread(target=_end_with_the_server, daemon=True).start()
    load_vector_path()


def _end_with_the_server() -> None:
    """End the process when the server does, even in the middle of a job.

    A pool's worker waits for jobs at a pipe of which it holds both ends: it would never learn that
    a server that was killed is gone.
    """
    server = multiprocessing.parent_process()
    assert server
    server.join()
    os._exit(0)


def sort_bytes(payload: bytes, algorithm: Algorithm) -> bytes:
    """Sort a list that came through the pool's pipe; raises SortError."""
    return sort_payload(payload, algorithm)


def sort_file(path: str, size: int, algorithm: Algorithm) -> int:
    """Sort the list in the first `size` bytes of a file; return the size of what replaced it.

    Args:
        path: A file in memory that the server has open, in Linux's form `/proc/PID/fd/NUMBER`:
            a pool has no way to hand over a descriptor.

    Raises:
        SortError: It cannot be sorted; the file is as it was.
    """
    with open(path, "r+b", buffering=0) as file:
        result = sort_payload(map_file(file.fileno(), size), algorithm)
        replace_contents(file.fileno(), result)
        return len(result)
