"""`python -m services_lab.exhibits NAME serve` and the options of `serve`.

Only what is to be measured is served: DNS over UDP, on the first address, without draining. The
port of TCP is bound as by every variant, and then closed, so it refuses.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import typer

from trio_services.cli import add_serve_command
from trio_services.cli import main as run_command_line
from trio_services.logs import ErrorLog, run_reporting
from trio_services.sans_io.dns_respond import Responder
from trio_services.settings import ServeSettings
from trio_services.startup import announced, prepared

Respond = Callable[[bytes], bytes | None]


def serve_plain_trio(sock: socket.socket, respond: Respond) -> None:
    """Run `plain_trio` until Ctrl-C."""
    import trio

    from services_lab.exhibits import plain_trio

    trio.run(plain_trio.serve_dns_udp, sock, respond)


def serve_drained_asyncio(sock: socket.socket, respond: Respond) -> None:
    """Run `drained_asyncio` until Ctrl-C."""
    import asyncio

    from services_lab.exhibits import drained_asyncio

    asyncio.run(drained_asyncio.serve_dns_udp(sock, respond))


def serve_asyncio_4k(sock: socket.socket, respond: Respond) -> None:
    """Run `asyncio_4k` until Ctrl-C."""
    import asyncio

    from services_lab.exhibits import asyncio_4k

    asyncio.run(asyncio_4k.serve_dns_udp(sock, respond))


Serve = Callable[[socket.socket, Respond], None]


def run(serve: Serve, settings: ServeSettings) -> int:
    """Serve by `settings`; return the exit status.

    Raises:
        SettingsError: An address cannot be listened on.
    """
    with prepared(settings) as ([sockets], zones):
        if not zones:
            return 0
        respond = Responder(zones, on_error=ErrorLog("respond", time.monotonic).report).respond_udp
        with announced(settings.ready_file, sockets):
            for tcp in sockets.dns:
                tcp.close()
            with suppress(KeyboardInterrupt):
                return run_reporting(serve, sockets.udp[0], respond)
    return 0


app = typer.Typer(help="Exhibits: servers made to be measured.", pretty_exceptions_enable=False)


def _add(name: str, serve: Serve) -> None:
    exhibit = typer.Typer()
    add_serve_command(exhibit, lambda settings: run(serve, settings))
    app.add_typer(exhibit, name=name)


_add("plain-trio", serve_plain_trio)
_add("drained-asyncio", serve_drained_asyncio)
_add("asyncio-4k", serve_asyncio_4k)


if __name__ == "__main__":
    run_command_line(app)
