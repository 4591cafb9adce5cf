"""The figures of this project, measured: `make bench`, or `python benchmarks/run.py [NAME…]`.

Each server runs alone on core 0, the load comes from another process on core 1, and CPU time is
read from the operating system, for the server and its worker processes together. Servers that are
compared are measured in turns, over several rounds, and the median is given with the range.
Loopback only. Needs Linux; what has to do with DNS needs dnsperf (Debian's package); uvloop is
left out if it is not installed. Nothing here is a test: a figure that is missed is printed like any
other.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = "0", "1"
ROUNDS = 3
SECONDS = 4
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE.parent / 'compat'}"}
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A server process, its ports, and what it used."""

    process: subprocess.Popen[bytes]
    ports: dict[str, int]

    def family(self) -> list[int]:
        """Return the process ids of the server and its descendants."""
        children = defaultdict(list)
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            children[int(fields[1])].append(int(path.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += children[pid]
        return found

    def cpu(self) -> float:
        """Return the CPU seconds used so far, by processes that have ended as well."""
        total = 0.0
        for pid in self.family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += sum(map(int, fields[11:13] if pid != self.process.pid else fields[11:15]))
        return total * TICK

    def resident(self) -> int:
        """Return the resident bytes of the server process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """Return how many files the server process has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def trio_services(*options: str, cores: str = SERVER_CORE) -> Iterator[Server]:
    """Run `trio-services serve` on free ports."""
    arguments = ["serve", "--dns", "127.0.0.1:0", "--sort", "127.0.0.1:0"]
    arguments += ["--log-level", "warning", *options]
    if "--status" not in options:
        arguments.append("--no-status")
    with started("trio_services", *arguments, cores=cores) as server:
        yield server


@contextmanager
def original(service: str, *options: str, cores: str = SERVER_CORE) -> Iterator[Server]:
    """Run one of the asyncio originals on a free port."""
    arguments = [service, "--port", "0", *options]
    with started("asyncio_originals", *arguments, cores=cores) as server:
        if service == "sort":
            warm_up_pool(server.ports["sort"])
        yield server


@contextmanager
def started(module: str, *arguments: str, cores: str) -> Iterator[Server]:
    """Run a module that writes a ready file, on some cores, until it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = ["taskset", "-c", cores, sys.executable, "-m", module, *arguments]
        command += ["--ready-file", str(ready)]
        with ended(subprocess.Popen(command, process_group=0, env=ENVIRONMENT)) as process:
            while not ready.exists():
                assert process.poll() is None
                time.sleep(0.005)
            listening = json.loads(ready.read_text())
            listening.pop("pid")
            yield Server(process, {name: found[0][1] for name, found in listening.items()})


def warm_up_pool(port: int) -> None:
    """Have an original fork its workers now, by clients that do not wait for the end of the stream.

    A worker is forked while its first client is connected and keeps a copy of the connection, so
    that client would wait for ever.
    """
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    for client in clients:
        client.sendall(bytes([0, 0, 0, 0, 0, 0, 0, 5]) + b"[2,1]")
    for client in clients:
        with client:
            reply = b""
            while not reply.endswith(b"]"):
                reply += client.recv(100)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """See that `process` and its group end."""
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what an original leaves behind
        process.wait()


def loaded(command: list[str]) -> str:
    """Run a load generator on its own core; return what it printed."""
    command = ["taskset", "-c", LOAD_CORE, *command]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return done.stdout


def sort_generator(server: Server, *options: str) -> list[str]:
    """Return the command that loads the sort service of `server`: the lab's generator."""
    module = "services_lab.load.sort_closed"
    return [sys.executable, "-m", module, "127.0.0.1", str(server.ports["sort"]), *options]


def spread(values: list[float], unit: str, digits: int = 1) -> str:
    """Return the median of `values` with their range."""
    return (
        f"{statistics.median(values):.{digits}f} {unit} "
        f"({min(values):.{digits}f} to {max(values):.{digits}f})"
    )


Start = Callable[[], AbstractContextManager[Server]]


def rivals(service: str) -> dict[str, Start]:
    """Return our server and the originals of `service`, by name."""
    servers: dict[str, Start] = {
        "trio-services": trio_services,
        "asyncio original": lambda: original(service),
    }
    if find_spec("uvloop"):
        servers["original on uvloop"] = lambda: original(service, "--uvloop")
    return servers


def in_turns(
    servers: dict[str, Start], measure: Callable[[Server], dict[str, float]]
) -> dict[str, dict[str, list[float]]]:
    """Measure each server once a round, in turns; return its figures by name."""
    results: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in servers}
    for _ in range(ROUNDS):
        for name, start in servers.items():
            with start() as server:
                for figure, value in measure(server).items():
                    results[name][figure].append(value)
    return results


def table(
    results: dict[str, dict[str, list[float]]], columns: dict[str, tuple[str, float, int]]
) -> None:
    """Print a row for each server: each figure, scaled, and its ratio to the asyncio original."""
    base = results.get("asyncio original")
    for name, figures in results.items():
        cells = []
        for figure, (unit, scale, digits) in columns.items():
            values = [value * scale for value in figures[figure]]
            cell = f"{figure} {spread(values, unit, digits)}"
            if base is not None and figures is not base:
                ratio = statistics.median(figures[figure]) / statistics.median(base[figure])
                cell += f" [×{ratio:.2f}]"
            cells.append(cell)
        print(f"  {name:<20} " + "; ".join(cells))


def queries(names: list[str]) -> str:
    """Write a dnsperf query file for `names`; return its path."""
    path = Path(tempfile.gettempdir()) / f"trio-services-queries-{os.getpid()}"
    path.write_text("".join(f"{name} A\n" for name in names))
    return str(path)


def dnsperf(port: int, path: str, *options: str) -> dict[str, float]:
    """Run dnsperf; return the queries completed, lost, and by the second."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", path, "-l", str(SECONDS)]
    printed = loaded([*command, *options])
    found = {}
    for figure in ("completed", "lost", "per second"):
        match = re.search(rf"Queries {figure}:\s+([\d.]+)", printed)
        assert match, printed
        found[figure] = float(match[1])
    return found


def bench_dns() -> None:
    """CPU per DNS query over UDP."""
    chance = random.Random(1)
    known = ["alpha.example", "beta.example", "gamma.example"]
    unknown = [f"{chance.getrandbits(64):x}.test" for _ in range(500_000)]
    for title, names in (("known names", known), ("names never seen before", unknown)):
        path = queries(names)

        def measure(server: Server, path: str = path) -> dict[str, float]:
            before = server.cpu()
            counts = dnsperf(server.ports["dns"], path, "-c", "8", "-q", "100")
            cpu = (server.cpu() - before) / counts["completed"]
            return {"CPU": cpu, "rate": counts["per second"], "lost": counts["lost"]}

        print(f"DNS over UDP, {title}:")
        columns = {"CPU": ("µs", 1e6, 2), "rate": ("k/s", 1e-3, 0)}
        results = in_turns(rivals("dns"), measure)
        table(results, columns)
        Path(path).unlink()


def sort_load(server: Server, numbers: int, clients: int) -> dict[str, float]:
    """Load the sort service; return rate, CPU a request and latency."""
    before = server.cpu()
    command = sort_generator(server, "--numbers", str(numbers), "--clients", str(clients))
    command += ["--seconds", str(SECONDS)]
    counts = json.loads(loaded(command))
    assert not counts["errors"], counts
    return {
        "rate": counts["requests"] / counts["seconds"],
        "CPU": (server.cpu() - before) / counts["requests"],
        "p50": counts["p50"],
        "p99": counts["p99"],
        "generator": counts["cpu"] / counts["seconds"],
    }


def bench_sort() -> None:
    """Sorting 100 numbers, one connection each, 16 clients."""
    print("Sorting 100 numbers, one connection each, 16 clients:")
    results = in_turns(rivals("sort"), lambda server: sort_load(server, 100, 16))
    table(
        results,
        {
            "rate": ("/s", 1, 0),
            "CPU": ("µs", 1e6, 0),
            "p99": ("ms", 1e3, 2),
            "generator": ("% busy", 1e2, 0),
        },
    )


def bench_million() -> None:
    """Sorting a million integers, one client, against json + sorted in a process pool."""
    print("Sorting 1M integers, one client; the original with sorted() instead of gnome sort:")
    servers: dict[str, Start] = {
        "trio-services": trio_services,
        "asyncio original": lambda: original("sort", "--sort", "builtin"),
    }
    results = in_turns(servers, lambda server: sort_load(server, 1_000_000, 1))
    table(results, {"p50": ("ms", 1e3, 0), "CPU": ("ms", 1e3, 0)})


def bench_dns_while_sorting() -> None:
    """DNS latency at a steady rate while both cores sort 100k-number lists without pause."""
    print("DNS latency at 1,000 queries/s while 2 clients sort 100k-number lists without pause:")
    path = queries(["alpha.example", "beta.example"])
    for _ in range(ROUNDS):
        with trio_services(cores="0,1") as server:
            command = sort_generator(server, "--clients", "4", "--numbers", "100000")
            command += ["--seconds", str(SECONDS + 2)]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
            ) as sorting:
                time.sleep(1)
                command = ["dnsperf", "-s", "127.0.0.1", "-p", str(server.ports["dns"]), "-v"]
                command += ["-d", path, "-l", str(SECONDS), "-Q", "1000", "-c", "8"]
                done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                counts = json.loads(sorting.communicate()[0])
        latencies = sorted(
            float(found) for found in re.findall(r"^> NOERROR .* ([\d.]+)$", done, re.M)
        )
        lost = re.search(r"Queries lost:\s+(\d+)", done)
        assert lost
        p50, p99, worst = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99, 0.99999))
        print(
            f"  p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, worst {worst * 1e3:.2f} ms, "
            f"{len(latencies)} answered, {lost[1]} lost; {counts['requests']} lists sorted"
        )
    Path(path).unlink()


def bench_idle() -> None:
    """What an idle sort connection costs, and that it is closed at its deadline."""
    count = 5000
    print(f"{count} idle sort connections:")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write("[sort]\nidle_deadline = 4.0\n")
        config.flush()
        with trio_services("--config", config.name) as server:
            before, files = server.resident(), server.open_files()
            address = ("127.0.0.1", server.ports["sort"])
            clients = [socket.create_connection(address) for _ in range(count)]
            began = time.monotonic()
            while server.open_files() < files + count:
                time.sleep(0.01)
            each = (server.resident() - before) / count
            while server.open_files() > files:
                time.sleep(0.05)
            print(
                f"  {each / 1024:.1f} KiB of resident memory each; all closed "
                f"{time.monotonic() - began:.1f} s later (deadline 4 s)"
            )
            for client in clients:
                client.close()


def bench_ready() -> None:
    """Time from starting the process to the ready file, workers warm."""
    times = []
    for _ in range(2 * ROUNDS):
        began = time.perf_counter()
        with trio_services(cores="0,1"):
            times.append(time.perf_counter() - began)
    print(f"Ready with warm workers: {spread(times, 's', 2)}")


def bench_soak() -> None:
    """Memory and open files of the server before and after mixed load."""
    seconds = 100
    print(f"{seconds} s of mixed load (DNS known and new, lists of 100, of 100k, broken clients):")
    chance = random.Random(1)
    path = queries(
        [f"{chance.getrandbits(64):x}.example" for _ in range(100_000)] + ["beta.example"]
    )
    with trio_services(cores="0,1") as server:
        script = sort_generator(server)

        def mixed(duration: float) -> None:
            commands = [
                [*script, "--numbers", "100", "--clients", "8", "--seconds", str(duration)],
                [*script, "--numbers", "100000", "--clients", "2", "--seconds", str(duration)],
                ["dnsperf", "-s", "127.0.0.1", "-p", str(server.ports["dns"]), "-d", path]
                + ["-l", str(int(duration)), "-Q", "20000", "-c", "8"],
            ]
            running = [
                subprocess.Popen(each, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
                for each in commands
            ]
            end = time.monotonic() + duration
            while time.monotonic() < end:
                with socket.create_connection(("127.0.0.1", server.ports["sort"])) as client:
                    client.sendall(chance.randbytes(chance.randrange(200)))
                time.sleep(0.01)
            for each in running:
                assert each.wait() == 0

        mixed(10)  # caches and allocators reach their steady state
        time.sleep(1)
        before = server.resident(), server.open_files()
        mixed(seconds)
        time.sleep(1)
        after = server.resident(), server.open_files()
        print(
            f"  memory {before[0] / 2**20:.1f} -> {after[0] / 2**20:.1f} MiB, "
            f"open files {before[1]} -> {after[1]}"
        )
    Path(path).unlink()


@contextmanager
def with_page() -> Iterator[Server]:
    """Run our server with its status page, which one browser has open."""
    with trio_services("--status", "127.0.0.1:0") as server:
        with socket.create_connection(("127.0.0.1", server.ports["status"])) as page:
            page.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            reader = Thread(target=lambda: deque(iter(lambda: page.recv(2**16), b""), maxlen=0))
            reader.start()
            try:
                yield server
            finally:
                page.shutdown(socket.SHUT_RDWR)
                reader.join()


def bench_status() -> None:
    """What an open status page costs a DNS query, and a sort request."""
    servers: dict[str, Start] = {
        "no status": trio_services,
        "status, nobody looks": lambda: trio_services("--status", "127.0.0.1:0"),
        "status, a page open": with_page,
    }
    path = queries(["alpha.example", "beta.example", "gamma.example"])

    def measure(server: Server) -> dict[str, float]:
        before = server.cpu()
        counts = dnsperf(server.ports["dns"], path, "-c", "8", "-q", "100")
        cpu = (server.cpu() - before) / counts["completed"]
        return {"CPU": cpu, "rate": counts["per second"]}

    print("DNS over UDP, known names, with and without the status page:")
    table(in_turns(servers, measure), {"CPU": ("µs", 1e6, 2), "rate": ("k/s", 1e-3, 0)})
    print("Sorting 100 numbers, 16 clients, with and without the status page:")
    results = in_turns(servers, lambda server: sort_load(server, 100, 16))
    table(results, {"CPU": ("µs", 1e6, 1), "rate": ("/s", 1, 0)})
    Path(path).unlink()


BENCHMARKS = {
    "dns": bench_dns,
    "sort": bench_sort,
    "million": bench_million,
    "dns-while-sorting": bench_dns_while_sorting,
    "idle": bench_idle,
    "ready": bench_ready,
    "soak": bench_soak,
    "status": bench_status,
}


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    kernel = os.uname()
    python = sys.version.split()[0]
    print(f"Python {python}, {kernel.sysname} {kernel.release}, {os.cpu_count()} cores")
    for name in names:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
