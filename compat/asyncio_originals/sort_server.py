"""Sorting as a service: `start_server`, a reader and a writer, and a pool of processes that sort.

The client sends 8 bytes of length, big-endian, and that many bytes of JSON; the server sends the
sorted list, without a length, and closes.
"""

import asyncio
import json
import struct
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

Sort = Callable[[list[float]], list[float]]


def gnome_sort(values: list[float]) -> list[float]:
    """Swap backwards until in order, then walk on; the square of the length."""
    at = 0
    while at < len(values):
        if at == 0 or values[at] >= values[at - 1]:
            at += 1
        else:
            values[at], values[at - 1] = values[at - 1], values[at]
            at -= 1
    return values


async def handle_client(
    pool: ProcessPoolExecutor,
    sort: Sort,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Read one list, sort it in the pool, reply, close."""
    # Flaw: whatever raises below is logged, and the client is told nothing; it gets an EOF (3).
    # Flaw: no deadline: a client that sends nothing is waited for as long as it stays.
    (length,) = struct.unpack("!Q", await reader.readexactly(8))
    # Flaw: no limit: what a client announces and sends is held, however much it is.
    # Flaw: JSON is read and written on the loop, and everybody else waits meanwhile (8).
    values = json.loads(await reader.readexactly(length))
    # Flaw: workers are forked now and keep a copy of this connection: no EOF for its client (19).
    # Flaw: the job runs to its end, also when the client has left (12).
    # Flaw: when one worker is killed, the pool is broken for this request and all later ones (13).
    values = await asyncio.get_running_loop().run_in_executor(pool, sort, values)
    writer.write(json.dumps(values).encode())
    # Flaw: no deadline: a client that does not read is waited for as well.
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def serve(
    host: str, port: int, ready: Callable[[str, int], None], *, sort: Sort = gnome_sort
) -> None:
    """Serve on `host` and `port` until cancelled; call `ready` with both once it listens."""
    # The pool was the loop's default executor: since Python 3.11 that may only be a thread pool,
    # so it is named in each call instead.
    # Flaw: ended by SIGTERM, the server leaves its workers behind; by Ctrl-C, it waits for them.
    with ProcessPoolExecutor() as pool:
        server = await asyncio.start_server(partial(handle_client, pool, sort), host, port)
        try:
            ready(*server.sockets[0].getsockname()[:2])
            await asyncio.Event().wait()
        finally:
            # No wait_closed(): what that waits for depends on the version of Python (14).
            server.close()
