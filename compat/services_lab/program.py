"""Runs one program of an experiment on one runtime, in this process.

    python -m services_lab.program [--record FILE] [--facts FILE] MODULE:FUNCTION RUNTIME [ARG…]

A program is `async def program(report: Report, *args: str) -> None`. RUNTIME is one of
RUNTIMES. Nothing is caught here: what escapes the program is printed by
Python and gives the exit status, since that is what is being compared.
"""

import argparse
import atexit
import os
from collections.abc import Callable, Coroutine
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from services_lab.facts import Report

RUNTIMES = ("asyncio", "uvloop", "trio", "anyio-asyncio", "anyio-uvloop", "anyio-trio")

Program = Callable[..., Coroutine[Any, Any, None]]


def run_on(runtime: str, program: Program, *args: object) -> None:
    """Run `program(*args)` on `runtime`, as its users do."""
    if runtime == "trio":
        import trio

        trio.run(program, *args)
    elif runtime in ("asyncio", "uvloop"):
        from asyncio import run

        if runtime == "uvloop":
            from uvloop import run
        run(program(*args))
    else:
        import anyio

        backend, options = runtime.removeprefix("anyio-"), {}
        if backend == "uvloop":
            backend, options = "asyncio", {"use_uvloop": True}
        anyio.run(program, *args, backend=backend, backend_options=options)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="services_lab.program", description=__doc__)
    parser.add_argument("program", metavar="MODULE:FUNCTION")
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("--facts", metavar="FILE", type=partial(open, mode="a"))
    parser.add_argument("--record", metavar="FILE")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="ARG")
    options = parser.parse_args()
    module, _, name = options.program.partition(":")
    program = getattr(import_module(module), name)
    file = options.facts
    # At exit, not in a `finally`: the workers of a pool are waited for after the program has ended.
    atexit.register(lambda: Report(file)(cpu=sum(os.times()[:4])))
    if not options.record:
        run_on(options.runtime, program, Report(file), *options.args)
        return
    from services_lab.recorders import recording

    with recording(options.runtime, Path(options.record)) as recorder:
        run_on(options.runtime, program, Report(file, recorder), *options.args)


if __name__ == "__main__":
    main()
