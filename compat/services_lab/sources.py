"""The text of the files that a report names, wherever the packages are installed."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

PACKAGES = frozenset(
    {"trio_services", "asyncio_originals", "asyncio_services", "anyio_services", "services_lab"}
)
"""The packages of this project."""


@cache
def source_text(path: str) -> str | None:
    """Return the text of a file of an installed package of this project; None if there is none.

    Args:
        path: From the project's root: `trio_services/app.py`, `compat/services_lab/trial.py`. What
            does not name a Python file of one of these is refused: a report may be made from a
            file that somebody sent.
    """
    parts = PurePosixPath(path.removeprefix("compat/")).parts
    if len(parts) < 2 or ".." in parts or not path.endswith(".py") or parts[0] not in PACKAGES:
        return None
    spec = find_spec(parts[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0], *parts[1:])
    return file.read_text() if file.is_file() else None
