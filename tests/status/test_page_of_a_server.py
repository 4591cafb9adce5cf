"""The status page in a browser, before a real `trio-services serve`."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.browser import Browser
from tests.system.serving import (
    ENDLESS_LIST,
    LONG_GRACE,
    PATIENCE,
    Server,
    read_all,
    serving,
    sort_request,
)

CONNECTION = "[aria-label='nursery in_flight'] [aria-label='task sort connection']:not(.gone)"

POLL_INTERVAL = 0.05
"""Seconds between two looks into a folder."""

ITEM = "return document.querySelector(arguments[0])"

NO_ITEM = "return !document.querySelector(arguments[0])"


@asynccontextmanager
async def page_of(browser: Browser, *options: str) -> AsyncIterator[Server]:
    """Run a server and open its page."""
    async with serving("--status", "127.0.0.1:0", *options) as server:
        host, port = json.loads(server.ready_file.read_text())["status"][0]
        await browser.open(f"http://{host}:{port}/")
        await browser.until("return document.body.dataset.state === 'live'")
        yield server


@asynccontextmanager
async def sorting(server: Server, payload: bytes) -> AsyncIterator[trio.SocketStream]:
    """Have a list sorted by a client of the TCP service."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
        await stream.send_all(sort_request(payload))
        yield stream


async def test_loads_without_complaint(browser: Browser) -> None:
    """The page is drawn from a running server, whose policy for content lets all of it through."""
    async with page_of(browser):
        for name in ("dns udp", "dns tcp", "sort", "status", "signals"):
            await browser.until(ITEM, f"#tree [aria-label='task {name}']")
        for name in ("everything", "in_flight", "services"):
            await browser.until(ITEM, f"#tree [aria-label='nursery {name}']")
        assert "dns queries" in await browser.text("#counters")
        assert "--status-control" in await browser.text("#desk")
        assert await browser.console() == []


async def test_asks_and_sorts(browser: Browser) -> None:
    """What is typed is asked of this server, also HTML, which comes back as text."""
    async with page_of(browser):
        await browser.click("#ask button")
        await browser.shows("#ask output", "alpha.example. 300 IN A 192.0.2.10")
        await browser.fill("#ask input", "<b>bold</b>.example")
        await browser.click("#ask button")
        await browser.shows("#ask output", "NXDOMAIN, no records")
        await browser.fill("#sort input", '["<i>", "<b>"]')
        await browser.click("#sort button")
        await browser.shows("#sort output", '["<b>","<i>"]')
        await browser.fill("#sort input", '["<b>", 1]')
        await browser.click("#sort button")
        await browser.shows("#sort output", "not-sortable: ")
        await browser.shows("#recent", "not-sortable")
        assert (
            await browser.run("return document.querySelectorAll('output b, output i').length") == 0
        )


async def test_a_connection_comes_and_goes(browser: Browser) -> None:
    """A client of the sort service is a child of its nursery for as long as it is connected."""
    async with page_of(browser, "--algorithm", "gnome") as server:
        await browser.until(NO_ITEM, CONNECTION)
        async with sorting(server, ENDLESS_LIST):
            await browser.until(ITEM, CONNECTION)
            await browser.shows("#meters", "1 sort")
        await browser.until(NO_ITEM, CONNECTION)


async def test_cancels_a_connection(browser: Browser) -> None:
    """The button at a connection cancels just that one, and it is told who did it."""
    async with page_of(browser, "--algorithm", "gnome", "--status-control") as server:
        async with sorting(server, ENDLESS_LIST) as stream:
            await browser.until(ITEM, f"{CONNECTION} button.cancel")
            await browser.click(f"{CONNECTION} button.cancel")
            await browser.shows("#tree-said", "Cancelled sort connection.")
            with trio.fail_after(PATIENCE):
                assert b"cancelled it on the status page" in await read_all(stream)
        await browser.until(NO_ITEM, CONNECTION)
        await browser.shows("#recent", "sort connection was cancelled by")
        assert await browser.console() == []


async def test_cancels_a_slow_sort(browser: Browser) -> None:
    """Aborting the request of a slow sort takes its job along."""
    job = "[aria-label='task status connection'] [aria-label='task worker']:not(.gone)"
    async with page_of(browser):
        await browser.run("document.querySelector('#slow select').value = 40000")
        await browser.click("#slow button")
        await browser.shows("#slow output", "sorting 40,000 numbers")
        await browser.until(ITEM, job)
        await browser.click("#slow button.cancel")
        await browser.shows("#slow output", "cancelled after")
        await browser.until(NO_ITEM, job)


async def test_records_a_trace(browser: Browser, tmp_path: Path) -> None:
    """What was recorded between two clicks is saved as a file in Chrome's trace format."""
    async with page_of(browser, "--status-control"):
        await browser.save_in(tmp_path)
        await browser.click("#trace")
        await browser.shows("#trace", "Stop and save")
        await browser.click("#sort button")
        await browser.shows("#sort output", "in ")
        await browser.click("#trace")
        await browser.shows("#trace-said", "Saved")
        file = tmp_path / "trio-services-trace.json"
        with trio.fail_after(PATIENCE):
            while not file.exists():  # noqa: ASYNC110 - a folder has no events
                await trio.sleep(POLL_INTERVAL)
        names = {event["name"] for event in json.loads(file.read_text())["traceEvents"]}
        assert names
        await browser.shows("#trace", "Record")


async def test_shows_the_draining(browser: Browser) -> None:
    """While what is in flight is answered, the page says so; when all is over, that it is lost."""
    async with page_of(browser, "--algorithm", "gnome", "--grace", LONG_GRACE) as server:
        async with sorting(server, ENDLESS_LIST):
            await browser.until(ITEM, CONNECTION)
            server.process.send_signal(signal.SIGTERM)
            await browser.shows("#link", "draining")
            await browser.until(NO_ITEM, "#tree [aria-label='task dns udp']")
        await browser.shows("#link", "connection lost, trying again")
        assert await server.ended() == 0


async def test_shows_copies(browser: Browser) -> None:
    """With several processes, the tree of each is under the task that keeps it."""
    async with page_of(browser, "--processes", "2", "--algorithm", "gnome") as server:
        await browser.until("return document.querySelectorAll('#copies tbody tr').length === 2")
        for number in (1, 2):
            await browser.until(
                ITEM, f"[aria-label='task copy {number}'] [aria-label='task dns udp']"
            )
        async with sorting(server, ENDLESS_LIST):
            await browser.until(ITEM, f"[aria-label^='task copy'] {CONNECTION}")
        await browser.until(NO_ITEM, CONNECTION)
        assert await browser.console() == []
