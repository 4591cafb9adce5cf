"""Takes the picture of the status page in the README: a real server under a small load.

    PYTHONPATH=. python docs/images/make_status.py     # a minute; writes docs/images/status.png

It needs Chromium and, to make the file small, Pillow, which the tests do not need.
"""

import json
import random
from functools import partial
from pathlib import Path

import trio
from PIL import Image

from tests.browser import WIDE, Browser, running_chromium
from tests.system.serving import Server, serving, sort_raw
from trio_services.dns_client import query

PICTURE = Path(__file__).with_name("status.png")

HEIGHT = 960
SCALE = 1.5
COLOURS = 200
"""Enough for text that is drawn in shades."""

FOLDED = ("nursery run_sync_soon_nursery", "task signals", "task watchdog")
"""Items that say nothing of the services."""

HISTORY = 45.0
"""Seconds of load before the picture, so that the sparklines have something to show."""

NAMES = ("www.example", "alpha.example", "nobody.example", "any.wild.example")


async def ask(server: Server) -> None:
    """Ask in bursts, for ever."""
    while True:
        for _ in range(random.randrange(2, 20)):
            await query(random.choice(NAMES), "A", server.dns)
        await trio.sleep(random.uniform(0.0, 0.4))


async def sort(server: Server, length: int) -> None:
    """Have lists sorted, for ever."""
    while True:
        await sort_raw(server.sort, b"[%s]" % b",".join(b"%d" % n for n in range(length, 0, -1)))
        await trio.sleep(random.uniform(0.2, 1.5))


async def wait_for_nothing(server: Server) -> None:
    """Connect and say nothing."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port):
        await trio.sleep_forever()


async def take(browser: Browser, server: Server) -> None:
    """Open the page, use it, and take the picture."""
    host, port = json.loads(server.ready_file.read_text())["status"][0]
    await browser.renew()
    await browser.resize(WIDE, HEIGHT, scale=SCALE)
    await browser.prefer("light")
    await browser.open(f"http://{host}:{port}/")
    await browser.until("return document.querySelector('#tree .task')")
    await trio.sleep(HISTORY)
    for form in ("ask", "sort", "slow"):
        await browser.click(f"#{form} button")
    for item in FOLDED:
        await browser.click(f"[aria-label='{item}'] .twist")
    await browser.until("return document.querySelector('#tree [aria-label=\"task worker\"]')")
    await trio.sleep(3)
    await browser.click("#nursery-title")  # or the mouse would still be over an item
    await browser.screenshot(PICTURE)


async def main(browser: Browser) -> None:
    """Run everything."""
    options = ("--status", "127.0.0.1:0", "--status-control", "--workers", "2")
    async with serving(*options, "--algorithm", "gnome") as server, trio.open_nursery() as nursery:
        nursery.start_soon(ask, server)
        for length in (600, 1500, 2500, 4000):
            nursery.start_soon(sort, server, length)
        for _ in range(5):
            nursery.start_soon(wait_for_nothing, server)
        await take(browser, server)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    with running_chromium() as driver:
        trio.run(partial(main, Browser(driver)))
    Image.open(PICTURE).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        PICTURE, optimize=True
    )
