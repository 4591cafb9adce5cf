"""asyncio inside Trio: its programs as siblings of the Trio services, in one nursery, one process.

trio-asyncio is an asyncio event loop that is itself a Trio task. So an asyncio coroutine becomes a
Trio task (`aio_as_trio`), is cancelled with its nursery, and its exceptions go where a task's go.

Importing trio-asyncio replaces asyncio's policy for the whole process, and is impossible on Python
3.14. So nothing else imports this module, and this module imports it when it is asked to run.

Signals nest like everything else: whoever opened last gets them first. The Trio services drain and
end; that gives the handlers back to the asyncio services, which get the signal again and drain.
The originals know of no signals, and are cancelled: what their pool is sorting is waited for.
"""

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from typing import Any

import asyncio_services.app
import trio
from asyncio_originals import dns_server, sort_server

import trio_services.app
from services_lab.one_process import SETTINGS, ServeOriginal, told
from services_lab.ready import Listening, first_addresses
from trio_services.listeners import Sockets
from trio_services.logs import run_reporting
from trio_services.sans_io.dns_tree import Zones
from trio_services.settings import Address, SettingsError
from trio_services.startup import prepared


def run_hosted(ready_file: str | None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    Raises:
        SettingsError: trio-asyncio cannot be imported.
    """
    try:
        import trio_asyncio  # noqa: F401 - whether it can be
    except (ImportError, AttributeError) as error:  # on 3.14 it misses parts of asyncio
        raise SettingsError(
            f"hosted needs trio-asyncio, which cannot be imported: {error}"
        ) from None
    with (
        prepared(SETTINGS) as ([trio_sockets], zones),
        prepared(SETTINGS) as ([asyncio_sockets], _),
    ):
        return run_reporting(trio.run, host, trio_sockets, asyncio_sockets, zones, ready_file)


async def host(
    trio_sockets: Sockets, asyncio_sockets: Sockets, zones: Zones | None, ready_file: str | None
) -> None:
    """Run the Trio services, the asyncio services and the originals in one nursery."""
    import trio_asyncio

    variants: dict[str, Listening] = {
        "trio": first_addresses(trio_sockets),
        "asyncio": first_addresses(asyncio_sockets),
    }
    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as originals:
        let_pools_in(loop)
        for name, serve in (("dns", dns_server.serve), ("sort", sort_server.serve)):
            address = await originals.start(host_original, serve)
            variants[f"original-{name}"] = {name: address}
        async with trio.open_nursery() as services:
            await services.start(host_services, loop, asyncio_sockets, zones)
            with ExitStack() as ready:
                async with trio.open_nursery() as nursery:
                    await nursery.start(trio_services.app.serve, SETTINGS, trio_sockets, zones)
                    ready.enter_context(told(variants, ready_file))
            signal.raise_signal(signal.SIGTERM)
        originals.cancel_scope.cancel()


async def host_original(serve: ServeOriginal, *, task_status: trio.TaskStatus[Address]) -> None:
    """Run an original as a Trio task; started with its address."""
    import trio_asyncio

    def ready(host: str, port: int) -> None:
        task_status.started(Address(host, port))

    await trio_asyncio.aio_as_trio(serve)("127.0.0.1", 0, ready)


async def host_services(
    loop: Any, sockets: Sockets, zones: Zones | None, *, task_status: trio.TaskStatus[None]
) -> None:
    """Run the asyncio services as a Trio task; started when they listen."""
    import trio_asyncio

    listening = loop.create_future()
    listening.add_done_callback(lambda _: task_status.started())
    serve = partial(asyncio_services.app.serve, task_status=listening)
    await trio_asyncio.aio_as_trio(serve)(SETTINGS, sockets, zones)


def let_pools_in(loop: Any) -> None:
    """Let `run_in_executor` take a pool of processes, which trio-asyncio's loop refuses.

    It takes executors of its own only, since those can be cancelled; the originals bring another.
    """
    refuse = loop.run_in_executor

    def run_in_executor(
        executor: Executor | None, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if isinstance(executor, Executor):
            return asyncio.wrap_future(executor.submit(function, *args), loop=loop)
        found: asyncio.Future[Any] = refuse(executor, function, *args)
        return found

    loop.run_in_executor = run_in_executor
