"""The variants mirror each other by file, name and parameter, so that `diff` is a lesson.

What differs on purpose is listed here with its reason; a difference that is listed and is not there
fails too.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_layering import imports_of, modules_under

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "trio_services"
MIRRORS = {name: ROOT / "compat" / name for name in ("asyncio_services", "anyio_services")}
FILES = ("app", "five_sleepers", "dns_server", "sort_server", "workers", "connections")

_BUILT_ON_EAGER_IO = "trio_services has it in eager_io, which is not mirrored"
_NO_HANDSHAKE = "a TaskGroup has no start()"
_EXPIRED = "asyncio raises RuntimeError when an expired timeout is moved"
_LATE_READ = "a request that was already there takes passes of the loop to be read"
_TWO_HALVES = "asyncio's stream is a reader and a writer"
_LIBRARY_POOL = "anyio.to_process keeps the processes, and to_thread the threads"

_STATUS = "only trio_services has a status page, which is what looks at this"
STATUS: Mapping[str, Mapping[str, str]] = {
    file: dict.fromkeys(names, _STATUS)
    for file, names in {
        "app": ("nobody_watches", "serve", "start_dns", "start_sort"),
        "dns_server": ("TIMED_BATCHES", "UdpStatistics.durations"),
        "sort_server": ("Request.began", "SortService.recent", "SortStatistics.durations"),
        "connections": (
            "Connections.__init__",
            "Connections.cancel",
            "Connections.enter",
            "Connections.leave",
            "Patience.cancel",
        ),
    }.items()
}
"""What no variant has, by file."""

ALLOWED: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("asyncio_services", "app"): {
        "accept": "the services are one task, since a TaskGroup cannot be cancelled from outside",
        "give": _EXPIRED,
        "received": "a loop's signal handlers are no context manager",
        "start": _NO_HANDSHAKE,
    },
    ("asyncio_services", "dns_server"): {
        "DnsProtocol": "a datagram transport calls a protocol",
        "UDP_BATCH": "asyncio reads one datagram in each pass of the loop (9)",
        "handle_dns_stream": _TWO_HALVES,
    },
    ("asyncio_services", "sort_server"): {
        "RECEIVE_BYTES": _BUILT_ON_EAGER_IO,
        "handle_sort_stream": _TWO_HALVES,
    },
    ("asyncio_services", "workers"): {
        "JobCancelledError": "asyncio has no from_thread.check_cancelled (11)",
        "ThreadLane.__init__": "threads belong to an executor",
    },
    ("asyncio_services", "connections"): {
        "ACCEPT_BATCH": "start_server accepts, up to its backlog in a pass (26)",
        "Connections.admit": _TWO_HALVES,
        "DRAIN_PATIENCE": _LATE_READ,
        "Patience.end_within": _EXPIRED,
        "SEND_BYTES": "write() takes any size and copies what the kernel does not (10)",
        "Stream": _TWO_HALVES,
        "send_all": "write() and drain() in one (10)",
    },
    ("anyio_services", "sort_server"): {"RECEIVE_BYTES": _BUILT_ON_EAGER_IO},
    ("anyio_services", "workers"): {
        "Lane": _LIBRARY_POOL,
        "ThreadLane": _LIBRARY_POOL,
        "Workers.__init__": _LIBRARY_POOL,
        "Workers.add_lane": _LIBRARY_POOL,
        "Workers.close": _LIBRARY_POOL,
        "Workers.remove_lane": _LIBRARY_POOL,
        "Workers.supervise_process": _LIBRARY_POOL,
        "Workers.warm": _LIBRARY_POOL,
        "WorkersStatistics.pids": _LIBRARY_POOL,
        "WorkersStatistics.replaced": _LIBRARY_POOL,
        "logger": "its workers die and are replaced unseen",
    },
    ("anyio_services", "connections"): {
        "ACCEPT_PAUSE": _BUILT_ON_EAGER_IO,
        "Connections.admit": "AnyIO's listener makes the stream",
        "DRAIN_PATIENCE": _LATE_READ,
        "REFUSAL_PATIENCE": "AnyIO has no send that does not wait",
        "accept_all": "AnyIO's Listener.serve runs a task for each before it is admitted",
    },
}
"""By package and file: each public name that is not as in `trio_services`, and why. The numbers are
those of the table of differences between asyncio and Trio. A class stands for all that is in it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a public definition is to be the same: its kind, and the names of its parameters."""

    kind: str
    parameters: tuple[str, ...] = ()


def shapes(path: Path) -> dict[str, Shape]:
    """Return the shape of every public definition of a module; methods as `Class.method`."""
    return dict(_shapes(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _shapes(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Shape]]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if _is_public(node.name):
                    yield prefix + node.name, Shape("function", _parameters(node.args))
            case ast.ClassDef():
                if _is_public(node.name):
                    yield prefix + node.name, Shape("class")
                    yield from _shapes(node.body, f"{prefix}{node.name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if _is_public(name):
                    yield prefix + name, Shape("value")


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def _parameters(arguments: ast.arguments) -> tuple[str, ...]:
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    only = [f"{each.arg}=" for each in arguments.kwonlyargs]
    return (*positional, *only)


def differences(package: str, file: str) -> dict[str, str]:
    """Return the public names of a file that are not as in `trio_services`, and how they are."""
    reference = shapes(REFERENCE / f"{file}.py")
    mirror = shapes(MIRRORS[package] / f"{file}.py")
    found: dict[str, str] = {}
    for name in sorted(reference.keys() | mirror.keys()):
        if name.partition(".")[0] in found:
            continue
        if name not in mirror:
            found[name] = "is missing"
        elif name not in reference:
            found[name] = "is new"
        elif mirror[name] != reference[name]:
            found[name] = f"is {mirror[name]} instead of {reference[name]}"
    return found


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("package", MIRRORS)
def test_mirror(package: str, file: str) -> None:
    """A variant has each file, with the public names and parameter names of `trio_services`."""
    found = differences(package, file)
    allowed = {**ALLOWED.get((package, file), {}), **STATUS.get(file, {})}
    unexpected = {name: how for name, how in found.items() if name not in allowed}
    assert not unexpected
    assert allowed.keys() <= found.keys(), "a difference that is allowed is gone"


def test_the_mirror_is_able_to_break(tmp_path: Path) -> None:
    """Missing names, new names and other parameters are seen, in classes too."""
    module = tmp_path / "module.py"
    module.write_text(
        "A = 1\nclass B:\n    c: int\n    def d(self, e, *, f): ...\n    def _g(self): ...\n"
        "async def h(i, /, j): ...\n"
    )
    assert shapes(module) == {
        "A": Shape("value"),
        "B": Shape("class"),
        "B.c": Shape("value"),
        "B.d": Shape("function", ("self", "e", "f=")),
        "h": Shape("function", ("i", "j")),
    }


def test_each_is_written_in_its_own_library() -> None:
    """A variant imports no other variant, nor what of `trio_services` runs on Trio."""
    trio_only = {
        f"trio_services.{path.stem}"
        for path in REFERENCE.glob("*.py")
        if any(name.partition(".")[0] == "trio" for name in imports_of(path))
    } - {"trio_services.cli"}  # which imports it only to run its own commands
    assert "trio_services.app" in trio_only
    packages = {"trio_services", *MIRRORS}
    for package, folder in MIRRORS.items():
        for path in modules_under(folder):
            imported = set(imports_of(path))
            assert imported.isdisjoint(trio_only), path
            others = packages - {package, "trio_services"}
            assert others.isdisjoint(name.partition(".")[0] for name in imported), path
