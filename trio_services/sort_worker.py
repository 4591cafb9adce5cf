"""What runs in a worker process: `python -m trio_services.sort_worker ALGORITHM`.

Standard input is one end of a stream socketpair, and the other end is `workers.py`. The worker says
READY, then serves one request after the other until its peer hangs up:

    request   1 byte: is the payload in a shared file?   8 bytes: its size   then the payload,
              or the file's descriptor as ancillary data (SCM_RIGHTS) of these 9 bytes
    reply     1 byte: is this an error?   8 bytes: size of the result   then the result,
              unless it replaced the contents of the shared file

Integers are big-endian. An error is what a client is told, as JSON. Everything else that goes wrong
ends the process with a traceback on standard error: whoever started it starts another.

A worker imports as little as it can and never Trio: it is ready in a tenth of a second.
"""

import os
import select
import signal
import socket
import sys
from struct import Struct
from threading import Thread

from trio_services.sans_io.payload import map_file, replace_contents
from trio_services.sans_io.sort_jobs import (
    Algorithm,
    Octets,
    SortError,
    error_reply,
    load_vector_path,
    sort_payload,
)

READY = b"R"
HEADER = Struct("!?Q")

NICENESS = 10
"""Added to the server's. Linux gives such a process a weight of 110 against 1024: a loop that
shares its core with a sort still gets nine tenths of it."""


def main(algorithm: Algorithm) -> None:
    """Serve sort requests on standard input until the peer hangs up."""
    # Signals are for the server, which ends us when it has drained; a service manager sends them to
    # every process that it finds.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)  # before numpy is imported: a replacement must not slow the loop either
    Thread(target=_end_with_the_server, daemon=True).start()
    load_vector_path()
    with socket.socket(fileno=os.dup(0)) as peer:
        peer.sendall(READY)
        while _serve_one(peer, algorithm):
            pass


def _end_with_the_server() -> None:
    """End the process when the peer hangs up, even in the middle of a job.

    The main thread would notice only after its job, and a server that was killed cannot tell it.
    The kernel's own way, PR_SET_PDEATHSIG, watches the thread that forked, which Trio may end.
    """
    poll = select.poll()
    poll.register(0, 0)  # no events: only a hang-up, which cannot be masked
    poll.poll()
    os._exit(0)


def _serve_one(peer: socket.socket, algorithm: Algorithm) -> bool:
    """Read one request, sort and reply. Return whether there was one."""
    header, descriptors, _, _ = socket.recv_fds(peer, HEADER.size, 1)
    if not header:
        return False
    shared, size = HEADER.unpack(header + _receive(peer, HEADER.size - len(header)))
    if not shared:
        failed, result = _sort(_receive(peer, size), algorithm)
        peer.sendall(HEADER.pack(failed, len(result)) + result)
        return True
    [file] = descriptors
    failed, result = _sort(map_file(file, size), algorithm)
    reply = HEADER.pack(failed, len(result))
    if failed:
        reply += result
    else:
        replace_contents(file, result)
    os.close(file)
    peer.sendall(reply)
    return True


def _receive(peer: socket.socket, size: int) -> bytearray:
    """Receive `size` bytes; raises EOFError if the peer hangs up before.

    MSG_WAITALL returns early when the process is stopped and goes on, as under a debugger.
    """
    data = bytearray(size)
    missing = memoryview(data)
    while missing:
        received = peer.recv_into(missing)
        if not received:
            raise EOFError
        missing = missing[received:]
    return data


def _sort(payload: Octets, algorithm: Algorithm) -> tuple[bool, bytes]:
    """Return whether it failed, and the sorted array or the error."""
    try:
        return False, sort_payload(payload, algorithm)
    except SortError as error:
        return True, error_reply(error)


if __name__ == "__main__":
    main(Algorithm(sys.argv[1]))
