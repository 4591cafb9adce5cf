"""Connections per second: connect, be accepted, close, and again; some clients at once.

    python -m services_lab.load.connections HOST PORT --clients 16 --seconds 5

The kernel completes connections before the server accepts them, so each is counted when the
server has *answered*: the client sends the length 0 with nothing after it, an empty payload, which
is no JSON list, and waits for the end of the stream.
"""

import argparse
import json
import select
import socket
import time


def run(address: tuple[str, int], clients: int, seconds: float) -> dict[str, object]:
    """Keep `clients` connections going for `seconds`; return the counts."""
    poller = select.poll()
    socks: dict[int, socket.socket] = {}
    served = reset = 0

    def connect() -> None:
        sock = socket.create_connection(address)
        sock.setblocking(False)
        sock.shutdown(socket.SHUT_WR)
        socks[sock.fileno()] = sock
        poller.register(sock, select.POLLIN)

    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(clients):
        connect()
    while socks:
        for number, _ in poller.poll():
            try:
                while socks[number].recv(65536):
                    pass
                served += 1
            except BlockingIOError:
                continue
            except OSError:
                reset += 1
            poller.unregister(number)
            socks.pop(number).close()
            if time.perf_counter() - began < seconds:
                connect()
    return {
        "generator": "the lab's own loop",
        "served": served,
        "reset": reset,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    print(json.dumps(run((options.host, options.port), options.clients, options.seconds)))
