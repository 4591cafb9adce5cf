"""Runs a variant with a recorder in its loop, which it does not notice.

    python -m services_lab.recorded FILE RUNTIME PACKAGE [ARG…]

is `python -m PACKAGE ARG…`, and what its tasks did is in FILE when it has ended (see `recorders`).
Only this process is recorded: no worker, and no copy that it starts.
"""

import runpy
import sys
from pathlib import Path

from services_lab.recorders import recording


def main() -> None:
    """Run the module that the command line names, as `python -m` does."""
    path, runtime, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]  # the program is given its path by runpy
    with recording(runtime, Path(path)):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
