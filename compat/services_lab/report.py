"""A report in a folder: `index.html`, its pictures as files, and `results.json`.

The page holds everything; the pictures are there a second time for slides, and the results for
whoever wants to compute with them, or to make the page again (`--from`).
"""

from pathlib import Path

from services_lab.pictures.drawings import drawings
from services_lab.pictures.style import WIDE, standalone
from services_lab.report_page import page
from services_lab.results import Results, write_results

RESULTS_FILE = "results.json"


def write_report(results: Results, folder: Path) -> Path:
    """Write the report of `results` into `folder`, which is made if need be.

    Returns:
        The page.

    Raises:
        OSError: It cannot be written.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for result in results.experiments:
        for number, drawing in enumerate(drawings(result), 1):
            file = pictures / f"{result.name}-{number}.svg"
            file.write_text(standalone(drawing.draw(WIDE)) + "\n")
    write_results(results, folder / RESULTS_FILE)
    index = folder / "index.html"
    index.write_text(page(results))
    return index
