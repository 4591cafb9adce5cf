"""The browser of the tests sees what it is meant to see."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from selenium.webdriver import Remote

from tests.browser import PATIENCE, PHONE, Browser

PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A page</title><style>p { color: green } @media (prefers-color-scheme: dark)
{ p { color: lime } }</style><p>a paragraph</p><button>push</button><input>"""


async def open_page(browser: Browser, folder: Path, more: str = "") -> None:
    """Open the page above."""
    path = folder / "page.html"
    path.write_text(PAGE + more)
    await browser.open(path.as_uri())


async def test_tells_what_the_console_says(browser: Browser, tmp_path: Path) -> None:
    """An error of a page's script is in its console, once; a page without one has a silent one."""
    await open_page(browser, tmp_path)
    assert await browser.console() == []
    await open_page(browser, tmp_path, "<script>throw new Error('wrong')</script>")
    [line] = await browser.console()
    assert line.startswith("SEVERE ")
    assert "wrong" in line
    assert await browser.console() == []


async def test_sees_sideways_scrolling(browser: Browser, tmp_path: Path) -> None:
    """What is too wide for a phone fits on a laptop, and is told apart."""
    await open_page(browser, tmp_path, "<pre style='width: 500px'>wide</pre>")
    assert await browser.overflow() == 0
    await browser.resize(PHONE)
    assert await browser.overflow() > 100


async def test_obeys_preferences(browser: Browser, tmp_path: Path) -> None:
    """A page is light first, and dark when dark is preferred."""
    await open_page(browser, tmp_path)
    colour = "return getComputedStyle(document.querySelector('p')).color"
    assert await browser.run(colour) == "rgb(0, 128, 0)"
    await browser.prefer("dark")
    assert await browser.run(colour) == "rgb(0, 255, 0)"


async def test_clicks_and_types(browser: Browser, tmp_path: Path) -> None:
    """Buttons and inputs get what a mouse and a keyboard would give them."""
    script = "document.querySelector('button').onclick = () => "
    script += "document.querySelector('p').textContent = document.querySelector('input').value"
    await open_page(browser, tmp_path, f"<script>{script}</script>")
    await browser.fill("input", "typed")
    await browser.click("button")
    await browser.shows("p", "typed")


async def test_reaches_nobody_else(browser: Browser, tmp_path: Path) -> None:
    """A name of the outside world does not resolve."""
    await open_page(browser, tmp_path)
    script = "return fetch(arguments[0]).then(() => 'reached', error => error.name)"
    assert await browser.run(script, "http://www.example.com/") == "TypeError"


async def test_says_what_it_has_waited_for(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never comes true fails with the page's text in the message."""
    monkeypatch.setattr("tests.browser.PATIENCE", 0.5)
    await open_page(browser, tmp_path)
    with pytest.raises(AssertionError, match="a paragraph"):
        await browser.until("return false")


async def test_ends_with_killed_tests(chromium: Remote) -> None:
    """When the process of the tests is killed, its driver ends, and its browser with it."""
    code = "from tests.browser import *\nwith running_chromedriver() as url: print(url), input()"
    command = [sys.executable, "-u", "-c", code]
    tests = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with trio.fail_after(PATIENCE):
        assert tests.stdout
        url = urlsplit((await tests.stdout.receive_some()).decode().strip())
        assert url.hostname
        assert url.port
        async with await trio.open_tcp_stream(url.hostname, url.port) as stream:
            tests.kill()
            await tests.wait()
            try:
                assert await stream.receive_some() == b""
            except trio.BrokenResourceError:
                pass  # closed in the other way
