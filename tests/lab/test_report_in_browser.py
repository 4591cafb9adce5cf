"""The report as a reader sees it, in headless Chromium: on a laptop and on a phone."""

from pathlib import Path

import pytest
from services_lab.report import write_report

from tests.browser import PHONE, WIDE, Browser
from tests.lab.test_report import RESULTS

SEEN_SVG = """
return [...document.querySelectorAll("svg")].filter((each) => each.checkVisibility())
    .map((each) => { const box = each.getBoundingClientRect();
                     return [box.left, box.right, box.height] });
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a report is."""
    return write_report(RESULTS, tmp_path).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
async def test_every_picture_is_seen(browser: Browser, url: str, width: int, scheme: str) -> None:
    """In full, in one of its widths; the page does not scroll sideways, the console is empty."""
    await browser.resize(width)
    await browser.prefer(scheme)
    await browser.open(url)
    await browser.run("document.querySelectorAll('details').forEach((each) => each.open = true)")
    boxes = await browser.run(SEEN_SVG)
    assert len(boxes) == 2
    assert all(left >= 0 and right <= width and height > 50 for left, right, height in boxes)
    assert await browser.overflow() == 0
    assert await browser.console() == []


async def test_nothing_is_loaded(browser: Browser, url: str) -> None:
    """The page is all there is."""
    await browser.open(url)
    assert await browser.run("return performance.getEntriesByType('resource').length") == 0


async def test_a_source_unfolds_when_it_is_followed(browser: Browser, url: str) -> None:
    """A link to a file shows the file."""
    await browser.open(f"{url}#trio_services/sort_server.py")
    await browser.until(
        "return document.getElementById('trio_services/sort_server.py').checkVisibility()"
    )
