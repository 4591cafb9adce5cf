"""A load generator for sort services: one list a connection, some clients at once, one process.

    python benchmarks/sort_load.py PORT --clients 16 --seconds 5 --numbers 100

A bare epoll loop, so that it costs less than any server that it loads. Every reply is compared with
the right one. Prints one JSON object: requests, seconds, errors, median and p99 latency in seconds,
and the CPU seconds it used itself: when those are all the seconds there were, the generator was the
bottleneck, not the server.
"""

import argparse
import json
import random
import select
import socket
import statistics
import struct
import time


def run(port: int, clients: int, seconds: float, numbers: int) -> dict[str, float]:
    """Keep `clients` requests going for `seconds`; return the counts."""
    chance = random.Random(1)
    values = [chance.randrange(1_000_000) for _ in range(numbers)]
    payload = json.dumps(values).encode()
    request = struct.pack("!Q", len(payload)) + payload
    wanted = sorted(values)
    known_good: set[bytes] = set()  # parsed once, then compared as bytes
    poller = select.epoll()
    open_requests: dict[int, tuple[socket.socket, float, memoryview, bytearray]] = {}
    latencies: list[float] = []
    errors = 0

    def connect() -> None:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        began = time.perf_counter()
        rest = send(sock, memoryview(request))
        open_requests[sock.fileno()] = (sock, began, rest, bytearray())
        poller.register(sock, select.EPOLLIN | (select.EPOLLOUT if rest else 0))

    def send(sock: socket.socket, rest: memoryview) -> memoryview:
        try:
            while rest:
                rest = rest[sock.send(rest) :]
        except BlockingIOError:
            pass
        return rest

    def right(reply: bytes) -> bool:
        if reply not in known_good and json.loads(reply or b"null") == wanted:
            known_good.add(reply)
        return reply in known_good

    began_all, cpu = time.perf_counter(), time.process_time()
    for _ in range(clients):
        connect()
    while open_requests:
        for number, _ in poller.poll():
            sock, began, rest, reply = open_requests[number]
            if rest:
                rest = send(sock, rest)
                open_requests[number] = (sock, began, rest, reply)
                if not rest:
                    poller.modify(sock, select.EPOLLIN)
            try:
                while data := sock.recv(1 << 20):
                    reply += data
            except BlockingIOError:
                continue
            except OSError:
                reply.clear()
            latencies.append(time.perf_counter() - began)
            errors += not right(bytes(reply))
            del open_requests[number]
            sock.close()
            if time.perf_counter() - began_all < seconds:
                connect()
    elapsed = time.perf_counter() - began_all
    latencies.sort()
    return {
        "requests": len(latencies),
        "seconds": elapsed,
        "errors": errors,
        "p50": statistics.median(latencies),
        "p99": latencies[int(len(latencies) * 0.99)],
        "generator_cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--numbers", type=int, default=100)
    options = parser.parse_args()
    print(json.dumps(run(options.port, options.clients, options.seconds, options.numbers)))
