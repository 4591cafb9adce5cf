"""The status site as one more sibling in the nursery of the services.

    status
    ├── loop lag
    ├── watchdog             names the task that keeps the loop busy
    └── pages                accepts connections, few and bounded
        ├── samples              the states of the feed, twice a second
        └── status connection    one for each

With `--processes` the parent has the site, and the other two run in each copy.

It ends when it is cancelled, with everything else, and so is there while the services drain. Only
the reply to a `POST /sort`, which the sort service has sent and its client has not read yet, keeps
it for REPLY_DEADLINE. If it fails, that is logged once, and the services run on without it: no DNS
should depend on a page.
"""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from trio_services.connections import Connections
from trio_services.eager_io import accept_batches
from trio_services.listeners import Sockets, reachable
from trio_services.logs import configure_logging
from trio_services.settings import Address, ConnectionLimits, ServeSettings
from trio_services.status.copies import CopiesSource, answer_parent
from trio_services.status.inside import Inside
from trio_services.status.loop_lag import LoopLag
from trio_services.status.recent import Recent
from trio_services.status.source import LocalSource, Source
from trio_services.status.watchdog import BusyStep, log_busy_step, watch_steps

if TYPE_CHECKING:
    from trio_services.status.site import Site

NEEDED = ("h11", "starlette", "prometheus_client")
"""What the site is made with: the extra `status`."""

REPLY_DEADLINE = 3.0
"""Seconds for the last sorted lists to be read, when the services have ended: as http_server's
WRITE_DEADLINE, well within what is left of a service manager's patience after the grace period."""

logger = logging.getLogger("trio_services.status")


def what_can_be_shown(settings: ServeSettings) -> ServeSettings:
    """Return `settings` without a status page, and say so, if what it needs is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not settings.status or not missing:
        return settings
    configure_logging(settings.log_level)
    logger.warning(
        "no status page without %s: pip install 'trio-services[status]'",
        ", ".join(missing),
    )
    return replace(settings, status=None)


def watch(settings: ServeSettings, sockets: Sockets) -> Callable[[Inside], Awaitable[None]]:
    """Return what `app.serve` is to run beside the services: the site, on its socket."""

    async def serve_inside(inside: Inside) -> None:
        lag = LoopLag()
        async with contained(), trio.open_nursery() as watching:
            watching.start_soon(lag.keep, name="loop lag")
            watching.start_soon(watch_steps, partial(tell, inside.recent), name="watchdog")
            await serve_site(settings, sockets, LocalSource(inside, lag), inside.recent)

    return serve_inside


def watch_for(parent: socket.socket) -> Callable[[Inside], Awaitable[None]]:
    """Return what `app.serve` is to run in a copy: it answers the parent, which has the site."""

    async def answer_inside(inside: Inside) -> None:
        async with contained(), trio.open_nursery() as watching:
            watching.start_soon(watch_steps, partial(tell, inside.recent), name="watchdog")
            await answer_parent(inside, parent)

    return answer_inside


async def serve_copies(settings: ServeSettings, sockets: Sockets, source: CopiesSource) -> None:
    """Serve the site of a parent."""
    async with contained():
        await serve_site(settings, sockets, source, source.recent)


@asynccontextmanager
async def contained() -> AsyncIterator[None]:
    """Let no failure out: log it. A cancellation passes, also one that came with a failure."""
    try:
        yield
    except* Exception:
        logger.exception("the status page has failed; the services run on without it")


def tell(recent: Recent, step: BusyStep) -> None:
    """Log a task that keeps the loop busy, and show it on the page."""
    log_busy_step(step)
    where = f" in {step.stack[-1].function}" if step.stack else ""
    recent.busy(step.task, f"{step.task} kept the loop busy for {step.seconds:.2f} s{where}")


async def serve_site(
    settings: ServeSettings, sockets: Sockets, source: Source, recent: Recent
) -> None:
    """Serve the site until cancelled.

    Args:
        settings: `status` is set.
        sockets: `status` has one. It is closed and taken away at the end: where nobody answers,
            nobody should wait.
        source: What is shown.
        recent: Is told of what the site itself cancels.

    Cancellation: replies of the sort service that are under way have REPLY_DEADLINE; the rest ends
    with the last of them.
    """
    [listener] = sockets.status
    try:
        site = make_site(settings, sockets, source, recent)
        open_for_replies = trio.CancelScope(shield=True)
        async with trio.open_nursery() as serving:
            serving.start_soon(serve_pages, site, listener, open_for_replies, name="pages")
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(REPLY_DEADLINE, shield=True):
                    await site.sort.all_replied()
                open_for_replies.cancel(reason="the services have ended")
    finally:
        sockets.status.clear()
        listener.close()


def make_site(settings: ServeSettings, sockets: Sockets, source: Source, recent: Recent) -> "Site":
    """Return the site of these settings and sockets."""
    # Imported here: what is not served need not be installed, and takes 70 ms.
    from trio_services.status.feed import Feed
    from trio_services.status.site import Site
    from trio_services.status.site_sort import SortEndpoint

    status = settings.status
    assert status
    return Site(
        settings=status,
        source=source,
        feed=Feed(source, streams=status.streams, control=status.control),
        bound=Address(*sockets.status[0].getsockname()[:2]),
        dns=reachable(sockets.dns[0]) if sockets.dns else None,
        sort=SortEndpoint(
            settings.sort, reachable(sockets.sort[0]) if sockets.sort else None, recent
        ),
    )


async def serve_pages(site: "Site", listener: socket.socket, until: trio.CancelScope) -> None:
    """Accept and serve the connections of `site` until `until` is cancelled, which is entered."""
    from trio_services.status.http_server import REFUSAL, handle_http_stream

    most = site.settings.connections
    limits = ConnectionLimits(total=most, per_address=most)
    server = (site.bound.host, site.bound.port)
    handler = partial(handle_http_stream, app=site.application(), server=server)
    with until:
        async with trio.open_nursery() as pages:
            connections = Connections("status", pages, limits, handler, refusal=REFUSAL)
            pages.start_soon(site.feed.keep, name="samples")
            await accept_batches(listener, connections.admit)
