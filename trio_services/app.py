"""THE nursery: the services as sibling tasks, signals, and shutdown as the order of nesting.

    everything
    ├── signals                  reload, drain, cancel
    ├── status                   the page, metrics and health; it shows the draining, too
    ├── workers                  processes that sort; they outlive what is in flight
    └── in flight                TCP connections; after a signal they have the grace period
        └── services             dns udp, dns tcp, sort: what accepts; the first to go

A signal cancels the services: nothing is accepted any more. Leaving their nursery drains: idle
connections are closed, and the nursery around them gets the grace deadline. When the last
connection is done, or the deadline has passed, the workers are killed and the program ends. There
are no stop flags, since there is nothing that anybody has to remember to check.

The status site is a sibling like the others, but none that matters: if it fails, that is logged,
and the services run on. It sees them through `Inside`, in which they are noted as they start.

An exception in a connection never arrives here (see `connections`). One in a service does: it
cancels the siblings, kills the workers and leaves as an exception group, since a service that fails
is a bug and must not be missed.
"""

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial

import trio

from trio_services.connections import Connections
from trio_services.dns_server import (
    Respond,
    UdpStatistics,
    handle_dns_stream,
    log_requests,
    serve_dns_tcp,
    serve_dns_udp,
)
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
from trio_services.sort_server import SortService, handle_sort_stream, serve_sort
from trio_services.startup import announced, switching_quickly, zones_for
from trio_services.status.inside import Inside
from trio_services.status.show_tasks import show_tasks_when_asked
from trio_services.workers import Workers, open_workers

logger = logging.getLogger("trio_services")


async def nobody_watches(inside: Inside) -> None:
    """Stand in for a status site where there is none."""


async def serve(
    settings: ServeSettings,
    sockets: Sockets,
    zones: Zones | None,
    *,
    stop_signals: Collection[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    until: Callable[[], Awaitable[None]] = trio.sleep_forever,
    watch: Callable[[Inside], Awaitable[None]] = nobody_watches,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run every service until one of `stop_signals`, or until `until()` returns; then drain.

    Args:
        settings: What to serve; a service that is None is not run.
        sockets: Bound and listening, for just these services. They are closed when nothing is to
            be accepted any more: else the kernel would go on accepting, and nobody would answer.
        zones: What the DNS server answers from; SIGHUP loads them anew. None without DNS.
        stop_signals: The first drains, the next cancels. SIGHUP always reloads.
        until: Waits for whatever else may end the services.
        watch: Runs beside the services until all of them are gone, and is shown what they do. It
            must not fail.

    Error handling: raises an exception group when a service fails, after its siblings have been
    cancelled and the workers are gone.

    Cancellation: everything at once, without draining.
    """
    inside = Inside()
    errors = ErrorLog("dns respond", trio.current_time)

    def report(error: Exception) -> None:
        errors.report(error)
        inside.recent.error("dns respond", type(error).__name__, error)

    inside.responder = responder = Responder(zones, on_error=report) if zones else None
    open_connections = []
    accepting = trio.CancelScope()
    with trio.open_signal_receiver(*stop_signals, signal.SIGHUP) as signals:
        async with trio.open_nursery() as everything:
            obey = partial(
                obey_signals,
                reload=partial(reload_zones, settings.dns, responder),
                cancel=everything.cancel_scope.cancel,
            )
            everything.start_soon(obey, signals, accepting, name="signals")
            everything.start_soon(show_tasks_when_asked, name="show tasks")
            everything.start_soon(watch, inside, name="status")
            async with trio.open_nursery() as in_flight:
                with accepting:
                    workers = await everything.start(run_workers, settings.sort, name="workers")
                    async with trio.open_nursery() as services:
                        if responder:
                            open_connections.append(
                                await start_dns(
                                    services, in_flight, settings, sockets, responder, inside
                                )
                            )
                        if workers:
                            open_connections.append(
                                await start_sort(
                                    services, in_flight, settings, sockets, workers, inside
                                )
                            )
                        inside.ready = True
                        task_status.started()
                        with announced(settings.ready_file, sockets):
                            await until()
                        accepting.cancel()
                sockets.close()
                inside.draining = True
                drain(open_connections, in_flight, settings.grace)
            if in_flight.cancel_scope.cancelled_caught:
                logger.warning("what was still in flight after %g s is cancelled", settings.grace)
            everything.cancel_scope.cancel()  # the signals and the workers are left
    logger.info("stopped")


async def start_dns(
    services: trio.Nursery,
    in_flight: trio.Nursery,
    settings: ServeSettings,
    sockets: Sockets,
    responder: Responder,
    inside: Inside,
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
        recent=inside.recent,
    )
    inside.dns_tcp = connections
    for sock in sockets.udp:
        statistics = UdpStatistics()
        inside.udp.append(statistics)
        serve = partial(serve_dns_udp, statistics=statistics)
        await services.start(serve, sock, respond_udp, name="dns udp")
    for listener in sockets.dns:
        await services.start(serve_dns_tcp, listener, connections, name="dns tcp")
    return connections


async def start_sort(
    services: trio.Nursery,
    in_flight: trio.Nursery,
    settings: ServeSettings,
    sockets: Sockets,
    workers: Workers,
    inside: Inside,
) -> Connections:
    """Start the sort tasks in `services`, one for each socket; connections run in `in_flight`."""
    sort = settings.sort or SortSettings()
    service = SortService(
        settings=sort, workers=workers, log_requests=settings.log_requests, recent=inside.recent
    )
    connections = Connections(
        "sort",
        in_flight,
        ConnectionLimits(total=sort.connections, per_address=sort.connections_per_address),
        partial(handle_sort_stream, service=service),
        refusal=error_reply(SortError(ErrorCode.BUSY, "too many connections, try again later")),
        recent=inside.recent,
    )
    inside.sort, inside.sort_tcp = service, connections
    for listener in sockets.sort:
        await services.start(serve_sort, listener, connections, name="sort")
    return connections


async def run_workers(
    sort: SortSettings | None,
    *,
    task_status: trio.TaskStatus[Workers | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the workers that `sort` asks for; `started()` with them when they are warm.

    Cancellation: kills them.
    """
    if sort is None:
        task_status.started(None)
        return
    async with open_workers(
        place=sort.sort_in,
        algorithm=sort.algorithm,
        workers=sort.workers,
        job_deadline=sort.job_deadline,
        max_waiting=sort.max_waiting,
    ) as workers:
        task_status.started(workers)
        await trio.sleep_forever()


async def obey_signals(
    signals: AsyncIterator[int],
    accepting: trio.CancelScope,
    *,
    reload: Callable[[], Awaitable[None]],
    cancel: Callable[[], object],
) -> None:
    """Do what each signal says.

    Args:
        signals: SIGHUP reloads; the first other signal ends `accepting`, so that its services
            drain; the next cancels.
        accepting: The scope around whatever accepts.
        reload: Called for SIGHUP, one call at a time; any number of signals that come meanwhile
            is answered by one more.
        cancel: Ends at once what is still in flight.
    """
    ask, asked = trio.open_memory_channel[None](1)

    async def reload_when_asked() -> None:
        async for _ in asked:
            await reload()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload_when_asked, name="reload")
        async for number in signals:
            if number == signal.SIGHUP:
                with suppress(trio.WouldBlock):
                    ask.send_nowait(None)
                continue
            name = signal.Signals(number).name
            if accepting.cancel_called:
                logger.warning("%s while draining: cancelling what is in flight", name)
                cancel()
            else:
                logger.info("%s: no longer accepting", name)
                accepting.cancel(reason=name)


def drain(open_connections: list[Connections], in_flight: trio.Nursery, grace: float) -> None:
    """Close idle connections, and give those that are busy `grace` seconds from now."""
    in_flight.cancel_scope.deadline = trio.current_time() + grace
    for connections in open_connections:
        connections.drain()
    statistics = [each.statistics() for each in open_connections]
    if busy := sum(each.open - each.idle for each in statistics):
        logger.info("%d connections in flight have %g s to finish", busy, grace)


async def reload_zones(dns: DnsSettings | None, responder: Responder | None) -> None:
    """Load the zones of `dns` anew and serve them; with a mistake in them, keep the old ones."""
    if not dns or not responder:
        return
    try:
        with switching_quickly():
            # A file system that hangs must not keep us from ending; reading can be given up.
            zones = await trio.to_thread.run_sync(zones_for, dns, abandon_on_cancel=True)
    except ZoneError as error:
        logger.error("zones not reloaded, the old ones are served on: %s", error)
    except Exception:  # a bug in reading files is no reason to stop serving
        logger.exception("zones not reloaded, the old ones are served on")
    else:
        responder.replace_zones(zones)
        logger.info("zones reloaded")
