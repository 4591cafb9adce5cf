"""The status site as one more sibling in the nursery of the services.

    status
    ├── samples              the states of the feed, twice a second
    ├── loop lag
    ├── watchdog             names the task that keeps the loop busy
    ├── accepting            the site's connections, few and bounded
    └── status connection    one for each

It ends when it is cancelled, with everything else, and so is there while the services drain. If it
fails, that is logged once, and the services run on without it: no DNS should depend on a page.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import trio

from trio_services.connections import Connections
from trio_services.eager_io import accept_batches
from trio_services.listeners import Sockets, reachable
from trio_services.logs import configure_logging
from trio_services.settings import Address, ConnectionLimits, ServeSettings
from trio_services.status.inside import Inside
from trio_services.status.loop_lag import LoopLag
from trio_services.status.source import LocalSource, Source

NEEDED = ("h11", "starlette", "prometheus_client")
"""What the site is made with: the extra `status`."""

logger = logging.getLogger("trio_services.status")


def what_can_be_shown(settings: ServeSettings) -> ServeSettings:
    """Return `settings` without a status page, and say so, if what it needs is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not settings.status or not missing:
        return settings
    configure_logging(settings.log_level)
    logger.warning(
        "no status page, %s is not installed: pip install 'trio-services[status]'",
        " and ".join(missing),
    )
    return replace(settings, status=None)


def watch(settings: ServeSettings, sockets: Sockets) -> Callable[[Inside], Awaitable[None]]:
    """Return what `app.serve` is to run beside the services: the site, on its socket."""

    async def serve_inside(inside: Inside) -> None:
        lag = LoopLag()
        await serve_status(settings, sockets, inside, LocalSource(inside, lag), lag)

    return serve_inside


async def serve_status(
    settings: ServeSettings, sockets: Sockets, inside: Inside, source: Source, lag: LoopLag
) -> None:
    """Serve the site until cancelled; if it fails, log that and return."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.keep, name="loop lag")
            await _serve_site(settings, sockets, inside, source, nursery)
    except Exception:
        logger.exception("the status page has failed; the services run on without it")


async def _serve_site(
    settings: ServeSettings,
    sockets: Sockets,
    inside: Inside,
    source: Source,
    nursery: trio.Nursery,
) -> None:
    # Imported here: what is not served need not be installed, and takes 70 ms.
    from trio_services.status.feed import Feed
    from trio_services.status.http_server import REFUSAL, handle_http_stream
    from trio_services.status.site import Site
    from trio_services.status.site_sort import SortEndpoint

    assert settings.status
    [listener] = sockets.status
    bound = Address(*listener.getsockname()[:2])
    feed = Feed(source, streams=settings.status.streams, control=settings.status.control)
    site = Site(
        settings=settings.status,
        source=source,
        feed=feed,
        bound=bound,
        dns=reachable(sockets.dns[0]) if sockets.dns else None,
        sort=SortEndpoint(
            settings.sort, reachable(sockets.sort[0]) if sockets.sort else None, inside.recent
        ),
    )
    total = settings.status.connections
    connections = Connections(
        "status",
        nursery,
        ConnectionLimits(total=total, per_address=total),
        partial(handle_http_stream, app=site.application(), server=(bound.host, bound.port)),
        refusal=REFUSAL,
    )
    nursery.start_soon(feed.keep, name="samples")
    await accept_batches(listener, connections.admit)
