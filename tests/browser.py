"""A headless Chromium for tests: what a reader of a page would see, click and be told.

One browser is started for all tests, and each test gets a tab of its own in it, so that sizes,
colour schemes and event streams of one test do not meet those of another. Steps run in threads: a
test's own Trio tasks (a server, a peer) go on meanwhile. Nothing here waits for a time: `until`
asks the page again and again whether something holds.

Chromium takes no part in the network: every name but this machine's own fails to resolve.

The tests are skipped where there is no Chromium, and fail there if REQUIRE_BROWSER is set, so that
a machine that is meant to run them cannot leave them out unseen.
"""

import base64
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
import trio
from selenium.webdriver import ActionChains, ChromeOptions, Remote
from selenium.webdriver.chrome.remote_connection import ChromeRemoteConnection
from selenium.webdriver.common.by import By

T = TypeVar("T")

PROGRAMS = ("chromium", "chromedriver")

PATIENCE = 60.0
"""Seconds after which what a test waits for is taken as never to come."""

POLL_INTERVAL = 0.05
"""Seconds between two looks at a page."""

STARTS = 5
"""How often chromedriver is started until it runs: it takes a free port of IPv4, and gives up if
that of IPv6 with the same number is not free."""

WIDE, PHONE = 1280, 390
"""Widths of viewports, in CSS pixels: a laptop's, a phone's."""

PHONES_BELOW = 600
"""Viewports narrower than this many CSS pixels are a phone's, whose layout heeds `<meta viewport>`
and whose scroll bars take no room."""

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests also run as root, in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's /dev/shm is small
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--lang=en-GB",
)

GUARD = "chromedriver --port=0 & exec >/dev/null; read _; kill -KILL 0"
"""Ends the whole group of the driver and its browser when our end of standard input is closed, as
it is also when the tests are killed. Standard output is the driver's alone: its end is told."""


class Browser:
    """A tab. All sizes are CSS pixels.

    Scripts are the bodies of JavaScript functions: `arguments` holds what is passed along, elements
    among it, and `return` gives the result.
    """

    def __init__(self, driver: Remote) -> None:
        self._driver = driver

    async def renew(self) -> None:
        """Become another tab, with an empty console; the old one is closed."""

        def renew() -> None:
            old = self._driver.current_window_handle
            self._driver.switch_to.new_window("tab")
            new = self._driver.current_window_handle
            self._driver.switch_to.window(old)
            self._driver.close()
            self._driver.switch_to.window(new)

        await _aside(renew)
        await self.console()

    async def open(self, url: str) -> None:
        """Load a page, and wait until it is loaded."""
        await _aside(self._driver.get, url)

    async def run(self, script: str, *args: object) -> Any:
        """Run a script in the page."""
        return await _aside(self._driver.execute_script, script, *args)

    async def until(self, script: str, *args: object) -> Any:
        """Wait until a script's result is true in JavaScript's sense, and return it.

        Raises:
            AssertionError: It never was; with what the page shows, and what the console says.
        """
        with trio.move_on_after(PATIENCE):
            while True:
                if result := await self.run(script, *args):
                    return result
                await trio.sleep(POLL_INTERVAL)
        shown = await self.text("body")
        raise AssertionError(f"never: {script} {args}\n{await self.console()}\n{shown}")

    async def shows(self, css: str, text: str) -> None:
        """Wait until the first element that `css` selects has `text` in it."""
        script = "return document.querySelector(arguments[0])?.innerText.includes(arguments[1])"
        await self.until(script, css, text)

    async def text(self, css: str) -> str:
        """Return the text that is seen of the first element that `css` selects."""
        script = "const element = document.querySelector(arguments[0]);"
        script += "return element.checkVisibility() ? element.innerText : ''"
        return str(await self.run(script, css))

    async def click(self, css: str) -> None:
        """Click the first element that `css` selects, as a mouse does."""
        await _aside(lambda: self._driver.find_element(By.CSS_SELECTOR, css).click())

    async def fill(self, css: str, text: str) -> None:
        """Replace the text of an input by typing."""

        def type_text() -> None:
            element = self._driver.find_element(By.CSS_SELECTOR, css)
            element.clear()
            element.send_keys(text)

        await _aside(type_text)

    async def press(self, *keys: str) -> None:
        """Press keys (`selenium.webdriver.Keys`) on whatever has the focus."""
        await _aside(lambda: ActionChains(self._driver).send_keys(*keys).perform())

    async def console(self) -> list[str]:
        """Return what the console has got since the last call, as `LEVEL message`."""

        def read() -> list[str]:
            entries = self._driver.execute("getLog", {"type": "browser"})["value"]
            return [f"{entry['level']} {entry['message']}" for entry in entries]

        return await _aside(read)

    async def resize(self, width: int, height: int = 900, *, scale: float = 1) -> None:
        """Give the viewport a size, and `scale` pixels of the screen to each of its own."""
        size = {"width": width, "height": height, "mobile": width < PHONES_BELOW}
        await self._devtools("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=scale)

    async def prefer(self, scheme: str, *, reduced_motion: bool = False) -> None:
        """Prefer a colour scheme, `light` or `dark`, and less motion or not."""
        motion = "reduce" if reduced_motion else "no-preference"
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        await self._devtools("Emulation.setEmulatedMedia", features=features)

    async def overflow(self) -> int:
        """Return how far the page can be scrolled sideways."""
        # A phone's innerWidth grows with what is too wide; the width that is laid out for does not.
        root = "document.documentElement"
        return int(await self.run(f"return {root}.scrollWidth - {root}.clientWidth"))

    async def save_in(self, folder: Path) -> None:
        """Let the page save files, in a folder and without asking."""
        await self._devtools(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder)
        )

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the viewport, or of the `whole` page."""
        shot = await self._devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        await trio.Path(path).write_bytes(base64.b64decode(shot["data"]))

    async def _devtools(self, command: str, **parameters: object) -> dict[str, Any]:
        """Send a command of the DevTools protocol."""
        return await _aside(self._driver.execute_cdp_cmd, command, parameters)


async def _aside(step: Callable[..., T], *args: Any) -> T:
    """Run a step of the driver in a thread; one that hangs does not hold the test's end."""
    with trio.fail_after(2 * PATIENCE):
        return await trio.to_thread.run_sync(step, *args, abandon_on_cancel=True)


@contextmanager
def running_chromedriver() -> Iterator[str]:
    """Run a chromedriver on a port of its own choice; yield its URL."""
    said: list[str] = []
    for _ in range(STARTS):
        process = subprocess.Popen(
            ["sh", "-c", GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        with process:  # closes our ends of the pipes, and waits
            assert process.stdout
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"started successfully on port (\d+)", line):
                    yield f"http://127.0.0.1:{found[1]}"
                    return
    raise AssertionError(f"chromedriver has ended without telling its port: {''.join(said)}")


@contextmanager
def running_chromium() -> Iterator[Remote]:
    """Run a browser with a profile of its own."""
    options = ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, running_chromedriver() as url:
        for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
            options.add_argument(argument)
        driver = Remote(ChromeRemoteConnection(url), options=options)
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Remote]:
    """The one browser of all tests."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing and os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with running_chromium() as driver:
        yield driver


@pytest.fixture
async def browser(chromium: Remote) -> AsyncIterator[Browser]:
    """A fresh tab, 1280 pixels wide, light; nothing is left of the tabs of other tests."""
    tab = Browser(chromium)
    await tab.renew()
    await tab.resize(WIDE)
    await tab.prefer("light")
    yield tab
    await tab.open("about:blank")  # so that no stream to a test's server outlives the test
