"""Closed-loop load for sort services: some clients at once, one list a connection.

    python -m services_lab.load.sort_closed HOST PORT --clients 16 --seconds 5 --numbers 100

Every reply is compared with the right one. At least one request of each client is made, however
short the time.
"""

import argparse
import json
import random
import select
import socket
import statistics
import struct
import time


def run(address: tuple[str, int], clients: int, seconds: float, numbers: int) -> dict[str, object]:
    """Keep `clients` requests going for `seconds`; return the counts."""
    chance = random.Random(1)
    values = [chance.randrange(1_000_000) for _ in range(numbers)]
    payload = json.dumps(values).encode()
    request = struct.pack("!Q", len(payload)) + payload
    wanted = sorted(values)
    known_good: set[bytes] = set()  # parsed once, then compared as bytes
    poller = select.poll()
    open_requests: dict[int, tuple[socket.socket, float, memoryview, bytearray]] = {}
    latencies: list[float] = []
    errors = 0

    def connect() -> None:
        sock = socket.create_connection(address)
        sock.setblocking(False)
        began = time.perf_counter()
        rest = send(sock, memoryview(request))
        open_requests[sock.fileno()] = (sock, began, rest, bytearray())
        poller.register(sock, select.POLLIN | (select.POLLOUT if rest else 0))

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
                    poller.modify(sock, select.POLLIN)
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
            poller.unregister(sock)
            sock.close()
            if time.perf_counter() - began_all < seconds:
                connect()
    elapsed = time.perf_counter() - began_all
    latencies.sort()
    return {
        "generator": "the lab's own loop",
        "requests": len(latencies),
        "errors": errors,
        "p50": statistics.median(latencies),
        "p99": latencies[int(len(latencies) * 0.99)],
        "seconds": elapsed,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--numbers", type=int, default=100)
    options = parser.parse_args()
    address = options.host, options.port
    print(json.dumps(run(address, options.clients, options.seconds, options.numbers)))
