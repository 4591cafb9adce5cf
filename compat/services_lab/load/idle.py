"""Idle clients: connects a number of times, says so, and holds the connections until it is ended.

    python -m services_lab.load.idle HOST PORT --clients 1000

Prints its line when all are connected. The kernel may complete a connection before the server has
accepted it, so whoever measures looks at the server's open files as well.
"""

import argparse
import json
import resource
import signal
import socket
import time

SPARE_FILES = 50


def run(address: tuple[str, int], clients: int) -> None:
    """Connect `clients` times, print how long it took, and wait for a signal."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = clients + SPARE_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard) if hard > 0 else hard))
    began, cpu = time.perf_counter(), time.process_time()
    socks = [socket.create_connection(address) for _ in range(clients)]
    counts = {
        "generator": "the lab's own clients",
        "connected": len(socks),
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
    }
    print(json.dumps(counts), flush=True)
    signal.pause()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, required=True)
    options = parser.parse_args()
    run((options.host, options.port), options.clients)
