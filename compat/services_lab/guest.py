"""Trio inside asyncio: the Trio services as guests of a running asyncio loop, beside the originals.

In guest mode Trio does not block: it waits for I/O in a thread, and each time that something is to
be done it asks the host's loop to call it. So both run in one thread, and neither knows. This needs
no library but Trio, and works on every Python.

The guests handle the signals: when they have drained and ended, the host cancels the originals.
"""

import asyncio

import trio
from asyncio_originals import dns_server, sort_server
from outcome import Outcome

from services_lab.one_process import SETTINGS, ServeOriginal, told
from services_lab.ready import Listening, first_addresses
from trio_services.app import serve
from trio_services.listeners import Sockets
from trio_services.logs import run_reporting
from trio_services.sans_io.dns_tree import Zones
from trio_services.settings import Address
from trio_services.startup import prepared


def run_guest(ready_file: str | None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    with prepared(SETTINGS) as ([sockets], zones):
        return run_reporting(asyncio.run, host(sockets, zones, ready_file))


async def host(sockets: Sockets, zones: Zones | None, ready_file: str | None) -> None:
    """Run the originals, and the Trio services as guests, until those end."""
    variants: dict[str, Listening] = {"trio": first_addresses(sockets)}
    async with asyncio.TaskGroup() as tasks:
        originals = []
        for name, program in (("dns", dns_server.serve), ("sort", sort_server.serve)):
            listening: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
            originals.append(tasks.create_task(run_original(program, listening)))
            variants[f"original-{name}"] = {name: await listening}
        ready = asyncio.Event()
        guests = tasks.create_task(run_guests(sockets, zones, ready))
        await ready.wait()
        with told(variants, ready_file):
            await asyncio.wait([guests])
        for original in originals:
            original.cancel()


async def run_original(program: ServeOriginal, listening: asyncio.Future[Address]) -> None:
    """Run an original; `listening` gets its address."""
    await program("127.0.0.1", 0, lambda host, port: listening.set_result(Address(host, port)))


async def run_guests(sockets: Sockets, zones: Zones | None, ready: asyncio.Event) -> None:
    """Run the Trio services in the loop that is running; set `ready` when they listen.

    Raises:
        ExceptionGroup: A service failed.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome[None]] = loop.create_future()

    async def guests() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, SETTINGS, sockets, zones)
            ready.set()

    trio.lowlevel.start_guest_run(
        guests,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=ended.set_result,
    )
    (await ended).unwrap()
