"""Takes the picture of a report's top, with what its matrix says of behaviour, from results.

    PYTHONPATH=.:compat python docs/images/make_lab_report.py my-report/results.json

It writes docs/images/lab-report.png. It needs Chromium and, to make the file small, Pillow, which
the tests do not need.
"""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from PIL import Image
from services_lab.report import write_report
from services_lab.results import read_results

from tests.browser import WIDE, Browser, running_chromium

PICTURE = Path(__file__).with_name("lab-report.png")

COLOURS = 128
"""Enough for text that is drawn in shades."""

BELOW = 8
"""Pixels of the page that are shown below that."""

END = "return document.querySelector('.matrix tbody').getBoundingClientRect().bottom"
"""Where the first part of the matrix ends, which is on behaviour."""


async def take(browser: Browser, page: Path) -> None:
    """Open the page, and take its top."""
    await browser.resize(WIDE)
    await browser.prefer("light")
    await browser.open(page.as_uri())
    end = float(str(await browser.run(END)))
    await browser.resize(WIDE, round(end) + BELOW)
    await browser.screenshot(PICTURE)


if __name__ == "__main__":
    with TemporaryDirectory() as folder, running_chromium() as driver:
        page = write_report(read_results(Path(sys.argv[1])), Path(folder))
        trio.run(partial(take, Browser(driver), page))
    Image.open(PICTURE).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        PICTURE, optimize=True
    )
