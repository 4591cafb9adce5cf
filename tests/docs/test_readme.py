"""The README and the documents in docs/: everything that they show is run.

`tests/docs/documents.py` says what a document may contain.
"""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.docs.documents import blocks
from tests.docs.running import run_document
from tests.system.serving import ROOT
from tests.system.test_real_clients import PACKAGES, client
from trio_services.settings import (
    DEFAULT_STATUS,
    ServeSettings,
    StatusSettings,
    read_settings,
)

README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
DOCUMENTS = [README, *sorted(ROOT.glob("docs/**/*.md"))]

SHOWN_IN_README = ["make serve", "nslookup", "dig", "trio-services sort"]
"""What somebody who tries it needs to see; to run nothing must not look like success."""


def text_of(document: Path) -> str:
    """Return what a document says; skip the test if it runs a DNS client that is not here."""
    text = document.read_text(encoding="utf-8")
    for name in PACKAGES:
        if any(f"{name} " in block.text for block in blocks(text)):
            client(name)
    return text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
async def test_everything_shown_is_so(document: Path) -> None:
    """Each command of a document has the output that it shows; settings and scripts work."""
    done = await run_document(text_of(document))
    for command in SHOWN_IN_README if document == README else []:
        assert any(command in text for text in done), f"the README does not run {command}"


def test_settings_shown_as_defaults_are_the_defaults(tmp_path: Path) -> None:
    """docs/operating.md shows each setting, with its default but for what it says it is not."""
    [shown] = [block for block in blocks(OPERATING.read_text()) if block.language == "toml"]
    config = tmp_path / "settings.toml"
    config.write_text(shown.text)
    read, default = read_settings(str(config)), ServeSettings()
    assert read.dns
    assert read.sort
    assert default.dns
    assert default.sort
    assert replace(read.dns, zones=(), default_addresses=None) == default.dns
    assert replace(read.sort, workers=default.sort.workers) == default.sort
    assert replace(read, dns=default.dns, sort=default.sort, status=None) == default
    assert read.status == StatusSettings(address=DEFAULT_STATUS)
    table = tomllib.loads(shown.text)
    shown_tables = (
        (read.dns, table["dns"]),
        (read.sort, table["sort"]),
        (read.status, table["status"]),
    )
    for settings, keys in shown_tables:
        assert set(keys) == {each.name for each in fields(settings)}
    assert set(table) == {each.name for each in fields(read)} - {"ready_file", "trace"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every link to a file of the project has a file at its end."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing
