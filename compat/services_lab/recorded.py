"""Runs a variant with a recorder in its loop, which it does not notice.

    python -m services_lab.recorded FILE PACKAGE [ARG…]

is `python -m PACKAGE ARG…`, and what its tasks did is in FILE when it has ended (see `recorders`).
Only this process is recorded: no worker, and no copy that it starts.
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from services_lab.recorders import recording
from services_lab.variants import VARIANTS


def main() -> None:
    """Run the module that the command line names, as `python -m` does."""
    path, package, *arguments = sys.argv[1:]
    sys.argv = [package, *arguments]  # its path is filled in by runpy
    with recording(runtime_of(package, arguments), Path(path)):
        runpy.run_module(package, run_name="__main__", alter_sys=True)


def runtime_of(package: str, arguments: Sequence[str]) -> str:
    """Return what the variant that is run by these words runs on.

    Raises:
        LookupError: There is no such variant.
    """
    found = {
        words: variant.runtime[-1]
        for variant in VARIANTS.values()
        if package == variant.package
        and (words := (*variant.command, *variant.options)) == tuple(arguments[: len(words)])
    }
    if not found:
        raise LookupError(f"no variant is run by: {package} {' '.join(arguments)}")
    return found[max(found, key=len)]  # some have an option more than another


if __name__ == "__main__":
    main()
