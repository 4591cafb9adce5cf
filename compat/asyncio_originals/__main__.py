"""The command line of the originals: `python -m asyncio_originals dns|sort|sleepers`."""

import argparse
import asyncio
import json
import os
import random
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from asyncio_originals import dns_server, five_sleepers, sort_server

HOST = "127.0.0.1"
SLEEPERS, MAX_DELAY = 5, 5.0


def main() -> None:
    """Run the program that the arguments name until it ends, or until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="asyncio_originals", description=__doc__)
    loop = argparse.ArgumentParser(add_help=False)
    loop.add_argument("--uvloop", action="store_true", help="run on uvloop")
    server = argparse.ArgumentParser(add_help=False, parents=[loop])
    server.add_argument("--ready-file", metavar="PATH", help="written when the server listens")
    programs = parser.add_subparsers(dest="program", required=True)
    dns = programs.add_parser("dns", parents=[server], help="the DNS server, UDP")
    dns.add_argument("--port", type=int, default=4343)
    sort = programs.add_parser("sort", parents=[server], help="sorting as a service, TCP")
    sort.add_argument("--port", type=int, default=2015)
    sort.add_argument("--sort", choices=["gnome", "builtin"], default="gnome")
    programs.add_parser("sleepers", parents=[loop], help="five sleepers")
    options = parser.parse_args()
    run = asyncio.run
    if options.uvloop:
        import uvloop

        run = uvloop.run
    with suppress(KeyboardInterrupt):
        run(program(options))


def program(options: argparse.Namespace) -> Coroutine[Any, Any, None]:
    """Return the coroutine of the program that `options` ask for."""
    if options.program == "sleepers":
        return five_sleepers.run_sleepers([random.uniform(0, MAX_DELAY) for _ in range(SLEEPERS)])
    ready = partial(announce, options.ready_file, options.program)
    if options.program == "dns":
        return dns_server.serve(HOST, options.port, ready)
    sort = sort_server.gnome_sort if options.sort == "gnome" else sorted
    return sort_server.serve(HOST, options.port, ready, sort=sort)


def announce(path: str | None, service: str, host: str, port: int) -> None:
    """Write the ready file, if one is wanted, in the form that `trio-services serve` gives it."""
    if path is not None:
        unfinished = Path(f"{path}.{os.getpid()}")
        unfinished.write_text(json.dumps({"pid": os.getpid(), service: [[host, port]]}) + "\n")
        unfinished.replace(path)


if __name__ == "__main__":
    main()
