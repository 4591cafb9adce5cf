"""The status site: what each address of it answers, and to whom.

The page shows who is served what, so it is for this machine: a request whose `Host` is no loopback
name is refused, or any web site could read it by giving its own name the address 127.0.0.1 (DNS
rebinding). Whoever binds the site elsewhere has said that it may be reached by other names.

What changes something is a POST, and no POST is taken from a page of another origin. Such a page
may link here, and that is all: what else it loads it could not read, and would only keep us busy.
What changes other people's work (cancelling, tracing) needs `--status-control`, and a token that is
new with each start and stands in the page, where only the page itself can read it.

Sorting and asking go through the front door: the site is a client of the services on loopback. So
there is nothing here that could differ from them in limits or errors, the request shows in the tree
as others do, and a client of ours that leaves takes its connection there along.
"""

import hmac
import secrets
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from ipaddress import ip_address
from pathlib import PurePath

import orjson
import trio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trio_services.dns_client import QueryError, query
from trio_services.settings import Address, StatusSettings
from trio_services.status.feed import RETRY_MILLISECONDS, Feed, TooManyStreamsError, event
from trio_services.status.metrics import CONTENT_TYPE, exposition
from trio_services.status.site_sort import SortEndpoint
from trio_services.status.source import CannotTraceError, Source

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""Of every response. Nothing is worth a cache: the page comes from this machine."""

TOKEN_PLACE = b'name="status-token" content=""'
"""Where the page is given its token."""

TOKEN_HEADER = "x-status-token"

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

MAX_BODY_BYTES = 1024
"""Of a request that says what to cancel."""

BODY_DEADLINE = 5.0
"""Seconds for it to arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What responses are made from.

    Attributes:
        settings: Of the site.
        source: Who knows what goes on.
        feed: Its states; somebody has to keep it going.
        bound: Where the site listens.
        dns: Where the DNS server is reached, None without.
        sort: Answers `POST /sort`.
        token: What a page that may change something has to say.
    """

    settings: StatusSettings
    source: Source
    feed: Feed
    bound: Address
    dns: Address | None
    sort: SortEndpoint
    token: str = field(default_factory=secrets.token_urlsafe)

    def application(self) -> ASGIApp:
        """Return the site as an ASGI application."""
        files = static_files()
        token = f'name="status-token" content="{self.token}"'.encode()
        files["index.html"] = files["index.html"].replace(TOKEN_PLACE, token)
        routes = [
            Route("/", partial(_file, files, "index.html")),
            Route("/static/{name}", partial(_file, files, None)),
            Route("/healthz", _alive),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
            Route("/state.json", self.state),
            Route("/tree.json", self.tree),
            Route("/events", self.events),
            Route("/query", self.query),
            Route("/sort", self.sort.answer, methods=["POST"]),
            Route("/cancel", self.cancel, methods=["POST"]),
            Route("/trace/start", self.start_trace, methods=["POST"]),
            Route("/trace/stop", self.stop_trace, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False  # to where the Host header says
        return Guard(app, loopback_only=_is_loopback(self.bound.host))

    async def ready(self, request: Request) -> Response:
        """Tell whether the services accept: 200, or 503 with the reason why not."""
        reports = (await self.source.view(tree=False)).reports
        if any("missing" in report for report in reports):
            return PlainTextResponse("a copy does not answer\n", 503)
        if any(report["draining"] for report in reports):
            return PlainTextResponse("draining\n", 503)
        if not all(report["ready"] for report in reports):
            return PlainTextResponse("starting\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        """Return the metrics in the text format of Prometheus."""
        view = await self.source.view(tree=False)
        return Response(exposition(view.reports), headers={"content-type": CONTENT_TYPE})

    async def state(self, request: Request) -> Response:
        """Return the state of this moment."""
        return Response(await self.feed.state(), media_type="application/json")

    async def tree(self, request: Request) -> Response:
        """Return the task tree; with `fold=0`, every task of it on its own."""
        fold = request.query_params.get("fold") != "0"
        view = await self.source.view(tree=True, fold=fold)
        return Response(orjson.dumps(view.tree), media_type="application/json")

    async def events(self, request: Request) -> Response:
        """Return the stream of states."""
        return EventStream(self.feed)

    async def query(self, request: Request) -> Response:
        """Ask our own DNS server, over TCP."""
        name = request.query_params.get("name", "")
        record_type = request.query_params.get("type", "A")
        if self.dns is None:
            return failure(404, "no-dns", "no DNS server runs here")
        try:
            reply = await query(name, record_type, self.dns, tcp=True)
        except QueryError as error:
            return failure(400, "no-reply", str(error))
        return Response(reply.as_json(), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        """Cancel the connection whose task has this number in the tree: `{"task": NUMBER}`."""
        if refusal := self._refusal(request):
            return refusal
        try:
            task = int(orjson.loads(await bounded_body(request))["task"])
        except (ValueError, LookupError, TypeError):
            return failure(400, "bad-request", 'say which: {"task": NUMBER}')
        if not await self.source.cancel(task, "somebody cancelled it on the status page"):
            return failure(404, "no-such-task", "that is no connection, or none any more")
        return JSONResponse({"cancelled": task})

    async def start_trace(self, request: Request) -> Response:
        """Begin to record what tasks do."""
        if refusal := self._refusal(request):
            return refusal
        try:
            await self.source.start_trace()
        except CannotTraceError as error:
            return failure(409, "no-trace", str(error))
        return JSONResponse({"tracing": True})

    async def stop_trace(self, request: Request) -> Response:
        """Return what was recorded, as a file for Perfetto."""
        if refusal := self._refusal(request):
            return refusal
        try:
            trace = await self.source.stop_trace()
        except CannotTraceError as error:
            return failure(409, "no-trace", str(error))
        return Response(
            trace,
            media_type="application/json",
            headers={"content-disposition": 'attachment; filename="trio-services-trace.json"'},
        )

    def _refusal(self, request: Request) -> Response | None:
        """Return why this request may not change anything; None if it may."""
        if not self.settings.control:
            return failure(403, "no-control", "start the server with --status-control to do that")
        told = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(told.encode(), self.token.encode()):
            return failure(403, "no-token", f"the header {TOKEN_HEADER} is not this start's token")
        return None


class EventStream(Response):
    """The states as server-sent events, for as long as the client listens."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send states until this is cancelled, as it is when the client leaves."""
        try:
            with self._feed.listening() as next_event:
                headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                if scope["method"] == "HEAD":  # nothing would ever be written, nor found unread
                    await send({"type": "http.response.body", "body": b""})
                    return
                first = b"retry: %d\n\n" % RETRY_MILLISECONDS + event(await self._feed.state())
                await send({"type": "http.response.body", "body": first, "more_body": True})
                while True:
                    body = await next_event()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        except TooManyStreamsError:
            refusal = failure(503, "too-many", "too many pages are open, close one")
            await refusal(scope, receive, send)


class Guard:
    """Lets in who may come, and adds the headers that every response has."""

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it with 403."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        app = self._refusal(scope) or self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._loopback_only and not _is_loopback(_without_port(host)):
            return failure(403, "wrong-host", "this page is for this machine: http://127.0.0.1")
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if scope["method"] in {"GET", "HEAD"}:
            origin = None  # which browsers do not always send, and sites may link here
            site = None if headers.get("sec-fetch-mode") == "navigate" else site
        if site not in {None, "same-origin", "none"} or origin not in {None, f"http://{host}"}:
            return failure(403, "wrong-origin", "another web site may not do that")
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() in {"localhost", "localhost."}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def failure(status: int, code: str, message: str) -> Response:
    """Return an error in the form in which the sort service gives its own."""
    return JSONResponse({"error": {"code": code, "message": message}}, status)


async def bounded_body(request: Request) -> bytes:
    """Return the body of a request that has no reason to be long.

    Raises:
        ValueError: It is long, or long in coming.
    """
    body = b""
    with trio.move_on_after(BODY_DEADLINE):
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise ValueError("the body is too long")
        return body
    raise ValueError("the body did not arrive in time")


def static_files() -> dict[str, bytes]:
    """Return the files of the page by name."""
    folder = files("trio_services.status") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


async def _file(files: dict[str, bytes], name: str | None, request: Request) -> Response:
    name = name or request.path_params["name"]
    kind = _TYPES.get(PurePath(name).suffix)
    if name not in files or kind is None:
        return failure(404, "not-found", "there is no such file")
    return Response(files[name], media_type=kind)


async def _alive(request: Request) -> Response:
    return PlainTextResponse("alive\n")
