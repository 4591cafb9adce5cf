"""THE task groups: the services as sibling tasks, signals, and shutdown as the order of nesting.

    everything
    ├── signals                  reload, drain, cancel
    ├── workers                  processes that sort; they outlive what is in flight
    └── in flight                TCP connections; after a signal they have the grace period
        └── accept
            └── services         dns udp, dns tcp, sort: what accepts; the first to go

A signal cancels `accept`: nothing is accepted any more. Its end drains: idle connections are
closed, and the timeout around those in flight gets the grace deadline. When the last connection is
done, or the deadline has passed, the workers are killed and the program ends.

asyncio cancels tasks, not blocks: `accept` is a task so that it can be cancelled, and what is in
flight has two timeouts around it, one to be given a deadline later on, and one to expire at once.

An exception in a connection never arrives here (see `connections`). One in a service does: it
cancels the siblings, kills the workers and leaves as an exception group, since a service that fails
is a bug and must not be missed.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from asyncio_services.connections import Connections
from asyncio_services.dns_server import (
    Respond,
    handle_dns_stream,
    log_requests,
    serve_dns_tcp,
    serve_dns_udp,
)
from asyncio_services.sort_server import SortService, handle_sort_stream, serve_sort
from asyncio_services.workers import Workers, open_workers
from trio_services.listeners import Sockets
from trio_services.logs import ErrorLog
from trio_services.sans_io.dns_compile import ZoneError
from trio_services.sans_io.dns_respond import Responder
from trio_services.sans_io.dns_tree import Zones
from trio_services.sans_io.sort_jobs import ErrorCode, SortError, error_reply
from trio_services.settings import (
    ConnectionLimits,
    DnsSettings,
    ServeSettings,
    SortSettings,
)
from trio_services.startup import announced, switching_quickly, zones_for

logger = logging.getLogger("asyncio_services")


async def _sleep_forever() -> None:
    await asyncio.Event().wait()


async def serve(
    settings: ServeSettings,
    sockets: Sockets,
    zones: Zones | None,
    *,
    until: Callable[[], Awaitable[object]] = _sleep_forever,
    task_status: asyncio.Future[None] | None = None,
) -> None:
    """Run every service until SIGTERM or SIGINT, or until `until()` returns; then drain.

    Args:
        settings: What to serve; a service that is None is not run.
        sockets: Bound and listening, for just these services. They are closed when nothing is to
            be accepted any more: else the kernel would go on accepting, and nobody would answer.
        zones: What the DNS server answers from; SIGHUP loads them anew. None without DNS.
        until: Waits for whatever else may end the services.
        task_status: Done when everything listens.

    Error handling: raises an exception group when a service fails, after its siblings have been
    cancelled and the workers are gone.

    Cancellation: everything at once, without draining.
    """
    loop = asyncio.get_running_loop()
    errors = ErrorLog("dns respond", loop.time)
    responder = Responder(zones, on_error=errors.report) if zones else None
    open_connections: list[Connections] = []
    warm: asyncio.Future[Workers | None] = loop.create_future()
    with received(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with asyncio.TaskGroup() as everything:
            working = everything.create_task(
                run_workers(settings.sort, task_status=warm), name="workers"
            )
            patience, at_once = asyncio.timeout(None), asyncio.timeout(None)
            try:
                async with at_once, patience, asyncio.TaskGroup() as in_flight:
                    services = partial(
                        accept, settings, sockets, responder, warm, in_flight, open_connections
                    )
                    accepting = in_flight.create_task(
                        services(until=until, task_status=task_status), name="accept"
                    )
                    obey = obey_signals(
                        signals,
                        accepting,
                        reload=partial(reload_zones, settings.dns, responder),
                        cancel=partial(give, at_once, 0),
                    )
                    obeying = everything.create_task(obey, name="signals")
                    await asyncio.wait([accepting])
                    sockets.close()
                    drain(open_connections, patience, settings.grace)
            except TimeoutError:
                if patience.expired():
                    logger.warning(
                        "what was still in flight after %g s is cancelled", settings.grace
                    )
                elif not at_once.expired():
                    raise
            obeying.cancel()
            working.cancel()
    logger.info("stopped")


async def accept(
    settings: ServeSettings,
    sockets: Sockets,
    responder: Responder | None,
    warm: asyncio.Future[Workers | None],
    in_flight: asyncio.TaskGroup,
    open_connections: list[Connections],
    *,
    until: Callable[[], Awaitable[object]],
    task_status: asyncio.Future[None] | None,
) -> None:
    """Run whatever accepts once its workers are `warm`, until cancelled or `until()` returns.

    The connections of each service are added to `open_connections`.
    """
    await asyncio.wait([warm])  # which, unlike `await warm`, can be given up and leaves it alone
    workers = warm.result()
    async with asyncio.TaskGroup() as services:
        if responder:
            open_connections.append(
                await start_dns(services, in_flight, settings, sockets, responder)
            )
        if workers:
            open_connections.append(
                await start_sort(services, in_flight, settings, sockets, workers)
            )
        if task_status is not None:
            task_status.set_result(None)
        with announced(settings.ready_file, sockets):
            await until()
        raise asyncio.CancelledError  # ends the siblings: a TaskGroup has no cancel()


async def start_dns(
    services: asyncio.TaskGroup,
    in_flight: asyncio.TaskGroup,
    settings: ServeSettings,
    sockets: Sockets,
    responder: Responder,
) -> Connections:
    """Start the DNS tasks in `services`, one for each socket; connections run in `in_flight`."""
    dns = settings.dns or DnsSettings()
    respond_udp: Respond = responder.respond_udp
    respond_tcp: Respond = responder.respond_tcp
    if settings.log_requests:
        respond_udp = log_requests(respond_udp, "udp")
        respond_tcp = log_requests(respond_tcp, "tcp")
    connections = Connections(
        "dns tcp",
        in_flight,
        ConnectionLimits(total=dns.tcp_connections, per_address=dns.tcp_connections_per_address),
        partial(handle_dns_stream, respond=respond_tcp, settings=dns),
    )
    for sock in sockets.udp:
        await start(services, serve_dns_udp, sock, respond_udp, name="dns udp")
    for listener in sockets.dns:
        await start(services, serve_dns_tcp, listener, connections, name="dns tcp")
    return connections


async def start_sort(
    services: asyncio.TaskGroup,
    in_flight: asyncio.TaskGroup,
    settings: ServeSettings,
    sockets: Sockets,
    workers: Workers,
) -> Connections:
    """Start the sort tasks in `services`, one for each socket; connections run in `in_flight`."""
    sort = settings.sort or SortSettings()
    service = SortService(settings=sort, workers=workers, log_requests=settings.log_requests)
    connections = Connections(
        "sort",
        in_flight,
        ConnectionLimits(total=sort.connections, per_address=sort.connections_per_address),
        partial(handle_sort_stream, service=service),
        refusal=error_reply(SortError(ErrorCode.BUSY, "too many connections, try again later")),
    )
    for listener in sockets.sort:
        await start(services, serve_sort, listener, connections, name="sort")
    return connections


async def start(
    nursery: asyncio.TaskGroup,
    serve: Callable[..., Coroutine[Any, Any, None]],
    *args: object,
    name: str,
) -> None:
    """Run `serve(*args)` as a task of `nursery`, and return when it is really listening.

    A task group has no such handshake; a future takes its place.
    """
    task_status: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    nursery.create_task(serve(*args, task_status=task_status), name=name)
    await asyncio.wait([task_status])


async def run_workers(
    sort: SortSettings | None, *, task_status: asyncio.Future[Workers | None]
) -> None:
    """Keep the workers that `sort` asks for; `task_status` is done with them when they are warm.

    Cancellation: kills them.
    """
    if sort is None:
        task_status.set_result(None)
        return
    async with open_workers(
        place=sort.sort_in,
        algorithm=sort.algorithm,
        workers=sort.workers,
        job_deadline=sort.job_deadline,
        max_waiting=sort.max_waiting,
    ) as workers:
        task_status.set_result(workers)
        await _sleep_forever()


@contextmanager
def received(*numbers: signal.Signals) -> Iterator[asyncio.Queue[int]]:
    """Catch signals; they are in the queue in the order in which they came."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in numbers:
        loop.add_signal_handler(number, signals.put_nowait, number)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def obey_signals(
    signals: asyncio.Queue[int],
    accepting: asyncio.Task[None],
    *,
    reload: Callable[[], Awaitable[None]],
    cancel: Callable[[], object],
) -> None:
    """Do what each signal says.

    Args:
        signals: SIGHUP reloads; the first other signal ends `accepting`, so that its services
            drain; the next cancels.
        accepting: The task of whatever accepts.
        reload: Called for SIGHUP, one call at a time; any number of signals that come meanwhile
            is answered by one more.
        cancel: Ends at once what is still in flight.
    """
    asked = asyncio.Event()

    async def reload_when_asked() -> None:
        while True:
            await asked.wait()
            asked.clear()
            await reload()

    async with asyncio.TaskGroup() as nursery:
        nursery.create_task(reload_when_asked(), name="reload")
        while True:
            number = await signals.get()
            if number == signal.SIGHUP:
                asked.set()
                continue
            name = signal.Signals(number).name
            if accepting.cancelling() or accepting.done():
                logger.warning("%s while draining: cancelling what is in flight", name)
                cancel()
            else:
                logger.info("%s: no longer accepting", name)
                accepting.cancel(name)


def drain(open_connections: list[Connections], in_flight: asyncio.Timeout, grace: float) -> None:
    """Close idle connections, and give those that are busy `grace` seconds from now."""
    give(in_flight, grace)
    for connections in open_connections:
        connections.drain()
    statistics = [each.statistics() for each in open_connections]
    if busy := sum(each.open - each.idle for each in statistics):
        logger.info("%d connections in flight have %g s to finish", busy, grace)


def give(in_flight: asyncio.Timeout, seconds: float) -> None:
    """Let a timeout expire `seconds` from now, unless it has: asyncio would raise RuntimeError."""
    if not in_flight.expired():
        in_flight.reschedule(asyncio.get_running_loop().time() + seconds)


async def reload_zones(dns: DnsSettings | None, responder: Responder | None) -> None:
    """Load the zones of `dns` anew and serve them; with a mistake in them, keep the old ones."""
    if not dns or not responder:
        return
    try:
        with switching_quickly():
            # Given up when the server ends; but a thread of asyncio's is no daemon, and Python
            # does not end before it does: a file system that hangs keeps the process.
            zones = await asyncio.to_thread(zones_for, dns)
    except ZoneError as error:
        logger.error("zones not reloaded, the old ones are served on: %s", error)
    except Exception:  # a bug in reading files is no reason to stop serving
        logger.exception("zones not reloaded, the old ones are served on")
    else:
        responder.replace_zones(zones)
        logger.info("zones reloaded")
