"""Servers in processes of their own, and the load on them."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import trio
from services_lab.clients import ask_dns, sort_once, warm_up
from services_lab.cores import Cores, cores_apart
from services_lab.experiment import Measured, Subject
from services_lab.loads import (
    KNOWN_NAMES,
    Load,
    LoadFailedError,
    connections_loop,
    dns_closed_loop,
    dns_open_loop,
    generate,
    idle_clients,
    new_names,
    sort_closed_loop,
    write_names,
)
from services_lab.server import ServerFailedError
from services_lab.side_by_side import open_folder
from services_lab.subjects import servers
from services_lab.trial import Trial
from services_lab.variants import Variant

from trio_services.sans_io.task_events import What

SECONDS = 0.2


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """A folder with a warden."""
    async with open_folder() as folder:
        yield folder


def trial(home: Path, column: str, service: str = "") -> Trial:
    """Return a trial of a server, which is pinned."""
    folder = home / "trial"
    folder.mkdir()
    [subject] = servers(service, [column])
    return Trial(subject=subject, quick=True, folder=folder, home=home, cores=cores_apart())


async def test_a_server_is_ready_and_can_be_looked_at(home: Path) -> None:
    """Inside the block both services answer; CPU time, memory, files and the log are told."""
    async with trial(home, "trio").open_server("--workers", "1") as server:
        reply = await sort_once(server.sort, b"[3, 1, 2]")
        assert (reply.numbers(), reply.ended) == ([1, 2, 3], True)
        assert await ask_dns(server.dns) is not None
        assert await server.cpu() > 0
        assert server.resident() > 2**20
        assert server.open_files() > 3
        assert server.family()[0].pid == server.pid
        assert await server.said("(dns|sort) on 127.0.0.1", times=2)
        server.mark("asked to end")
        assert await server.stop() == 0
        with pytest.raises(ProcessLookupError):
            await server.cpu()
    assert not psutil.pid_exists(server.pid)


async def test_options_are_not_for_the_originals(home: Path) -> None:
    """An experiment may ask all variants for one worker: the originals know no such thing."""
    async with trial(home, "original", "sort").open_server("--workers", "1") as server:
        await warm_up(server.sort)
        reply = await sort_once(server.sort, b"[2,1]", until_list=True)
        assert reply.numbers() == [1, 2]


async def test_leaving_ends_the_server_and_its_workers(home: Path) -> None:
    """The original leaves its workers behind when it is ended; the lab does not."""
    async with trial(home, "original", "sort").open_server() as server:
        await warm_up(server.sort)
        family = server.family()
        assert len(family) > 1
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


async def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    """What it printed is in the error."""
    with pytest.raises(ServerFailedError, match=r"(?s)did not become ready; it said.*--nonsense"):
        async with trial(home, "trio").open_server("--nonsense"):
            pass


@pytest.mark.parametrize("column", ["asyncio", "trio"])
async def test_a_server_can_be_recorded(home: Path, column: str) -> None:
    """What its tasks did, and what the lab has marked meanwhile, can be had when it has ended."""
    async with trial(home, column, "sort").open_server("--workers", "1", record=True) as server:
        server.mark("a list comes")
        await sort_once(server.sort, b"[3, 1, 2]")
        with pytest.raises(ServerFailedError, match="stopped"):
            server.events()
        await server.stop()
        events = server.events()
    assert any(each.what is What.SPAWNED for each in events)
    assert "a list comes" in [each.name for each in events if each.what is What.MARK]


async def test_server_and_load_are_kept_apart(home: Path) -> None:
    """Where there are two cores, each has one of its own, and what they start inherits it."""
    apart = cores_apart()
    if not apart.pinned:
        pytest.skip("one core, or a system that cannot pin")
    assert set(apart.server).isdisjoint(apart.load)
    async with trial(home, "trio", "dns").open_server() as server:
        assert os.sched_getaffinity(server.pid) == set(apart.server)
    assert not Cores().pinned


@pytest.mark.parametrize("has_dnsperf", [True, False])
async def test_dns_closed_loop(
    home: Path, has_dnsperf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both generators tell the same counts, of answers that were right."""
    if not has_dnsperf:
        monkeypatch.setattr("shutil.which", lambda name: None)
    one = trial(home, "trio", "dns")
    async with one.open_server() as server:
        load = await dns_closed_loop(
            one, server.dns, write_names(one, KNOWN_NAMES), seconds=SECONDS
        )
        new = await dns_closed_loop(
            one, server.dns, write_names(one, new_names(1000)), seconds=SECONDS
        )
    assert load["completed"] > 0
    assert set(load.counts["rcodes"]) == {"NOERROR"}
    assert set(new.counts["rcodes"]) == {"NXDOMAIN"}
    assert 0 < load.busy < 2
    assert load.seconds >= SECONDS * 0.9
    assert "busy" in str(load)
    if not has_dnsperf:
        assert load.generator == "the lab's own loop"


async def test_dns_open_loop(home: Path) -> None:
    """Every query has a latency or is lost, and quantiles are in their order."""
    one = trial(home, "trio", "dns")
    async with one.open_server() as server:
        names = write_names(one, KNOWN_NAMES)
        load = await dns_open_loop(one, server.dns, names, rate=500, seconds=SECONDS)
    assert load["sent"] == 100
    assert sum(load.counts["rcodes"].values()) + load["lost"] == 100
    assert 0 < load["p50"] <= load["p99"] <= load["p99.9"] <= load["worst"]


async def test_an_open_loop_does_not_wait_for_a_server_that_stalls(home: Path) -> None:
    """Queries that come while it stands still count their waiting: there is no omission."""
    one = trial(home, "trio", "dns")
    stalled = 0.3
    async with one.open_server() as server:
        names = write_names(one, KNOWN_NAMES)

        async def stall() -> None:
            server.send_signal(signal.SIGSTOP)
            await trio.to_thread.run_sync(time.sleep, stalled)
            server.send_signal(signal.SIGCONT)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stall)
            load = await dns_open_loop(one, server.dns, names, rate=200, seconds=2 * stalled)
    assert load["sent"] == 120
    assert load["worst"] < 60


async def test_sort_closed_loop(home: Path) -> None:
    """Lists are sorted, each on a connection of its own, and replies are right."""
    one = trial(home, "trio", "sort")
    async with one.open_server("--workers", "1") as server:
        load = await sort_closed_loop(one, server.sort, numbers=50, clients=4, seconds=SECONDS)
    assert load["requests"] >= 4
    assert load["errors"] == 0


async def test_wrong_replies_are_an_error(home: Path) -> None:
    """A server that refuses every list is not a fast one."""
    one = trial(home, "trio", "sort")
    config = one.folder / "settings.toml"
    config.write_text("[sort]\nmax_payload = 100\n")
    async with one.open_server("--workers", "1", "--config", str(config)) as server:
        with pytest.raises(LoadFailedError, match="wrong"):
            await sort_closed_loop(one, server.sort, numbers=100, clients=1, seconds=SECONDS)


async def test_connections_loop(home: Path) -> None:
    """Each connection that counts was answered by the server."""
    one = trial(home, "trio", "sort")
    async with one.open_server("--workers", "1") as server:
        load = await connections_loop(one, server.sort, clients=2, seconds=SECONDS)
    assert load["served"] >= 2
    assert load["reset"] == 0


async def test_idle_clients_are_there_inside(home: Path) -> None:
    """They are connected in the block, and gone after it."""
    one = trial(home, "trio", "sort")
    async with one.open_server("--workers", "1") as server:
        before = server.open_files()
        async with idle_clients(one, server.sort, 20) as load:
            assert load["connected"] == 20
            with trio.fail_after(60):
                while server.open_files() < before + 20:  # noqa: ASYNC110 - another process
                    await trio.sleep(0.01)


async def test_a_generator_that_fails_is_an_error(home: Path) -> None:
    """What it said is in the error."""
    one = trial(home, "trio", "dns")
    async with one.open_server() as server:
        with pytest.raises(LoadFailedError, match="no-such-file"):
            await generate(
                one, "dns_open", server.dns, "no-such-file", "--rate=1", "--seconds=1", seconds=1
            )


@pytest.mark.parametrize(
    ("busy", "server_cpu", "outcome"),
    [
        (0.99, 1.0, Measured.GENERATOR_BOUND),
        (0.99, 1.9, Measured.MEASURED),
        (0.5, 1.0, Measured.MEASURED),
    ],
)
def test_the_bottleneck_is_told(busy: float, server_cpu: float, outcome: Measured) -> None:
    """A generator that had no time left while the server had is the bottleneck."""
    load = Load(counts={}, generator="x", seconds=2.0, busy=busy)
    assert load.outcome(server_cpu) is outcome


async def test_a_reply_that_does_not_end_is_told(home: Path) -> None:
    """The first client of the original gets its list, and no end of the stream."""
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("Linux forks the workers of a pool")
    async with trial(home, "original", "sort").open_server() as server:
        reply = await sort_once(server.sort, b"[2,1]", patience=3)
        assert reply.data in (b"[1, 2]", b"")
        assert not reply.ended


def test_a_subject_says_who_it_is() -> None:
    """A server is a variant; a program is none."""
    [subject] = servers("dns", ["trio"])
    assert isinstance(subject.variant, Variant)
    assert Subject(column="trio").variant is None
