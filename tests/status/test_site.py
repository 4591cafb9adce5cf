"""The site in this process, on loopback: who may see and change what, and what it answers."""

import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
import trio.testing

from tests.status.http_client import PATIENCE, Answer, Client, connected, fetch
from tests.system.serving import ENDLESS_LIST, sort_raw, sort_request
from trio_services.app import serve
from trio_services.dns_client import query
from trio_services.listeners import Sockets, bind_copies
from trio_services.sans_io.sort_jobs import Algorithm
from trio_services.settings import (
    Address,
    DnsSettings,
    Place,
    ServeSettings,
    SortSettings,
    StatusSettings,
)
from trio_services.startup import zones_for
from trio_services.status.feed import Feed
from trio_services.status.serve import watch
from trio_services.status.site import POLICY, Guard, static_files
from trio_services.status.task_tree_json import from_json

ANY_PORT = Address("127.0.0.1", 0)
SETTINGS = ServeSettings(
    dns=DnsSettings(addresses=(ANY_PORT,)),
    sort=SortSettings(addresses=(ANY_PORT,), sort_in=Place.INLINE, workers=1),
    status=StatusSettings(address=ANY_PORT),
    grace=30.0,
)
CONTROLLED = replace(SETTINGS, status=StatusSettings(address=ANY_PORT, control=True))
SLOW = replace(
    CONTROLLED,
    dns=None,
    sort=SortSettings(
        addresses=(ANY_PORT,), sort_in=Place.THREAD, workers=1, algorithm=Algorithm.GNOME
    ),
)
"""A list may take for ever, in a thread, which needs no process and sees that it is cancelled."""


@dataclass(frozen=True, slots=True)
class Running:
    """Services with a site, in this process."""

    sockets: Sockets
    addresses: Mapping[str, Address]

    async def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await fetch(self.addresses["status"], path, headers=named)

    async def post(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Ask for a change."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await fetch(self.addresses["status"], path, body=body, headers=named)

    async def token(self) -> str:
        """Return the token that stands in the page."""
        found = re.search(rb'name="status-token" content="([^"]+)"', (await self.get("/")).body)
        assert found
        return found[1].decode()

    async def state(self) -> Any:
        """Return the state."""
        return (await self.get("/state.json")).json()

    async def tasks(self, name: str) -> list[int]:
        """Return the numbers of the tasks with this name."""
        tree = (await self.get("/tree.json?fold=0")).json()
        return [row["number"] for row in tree["tasks"] if row["name"] == name]

    async def until_tasks(self, name: str, count: int) -> list[int]:
        """Wait until there are `count` tasks with this name; return their numbers."""
        with trio.fail_after(PATIENCE):
            while len(found := await self.tasks(name)) != count:
                pass
        return found


@asynccontextmanager
async def running(settings: ServeSettings = SETTINGS) -> AsyncIterator[Running]:
    """Run services and their site until the block is left."""
    zones = zones_for(settings.dns) if settings.dns else None
    [sockets] = bind_copies(settings)
    with sockets:
        addresses = {name: Address(*where[0]) for name, where in sockets.addresses().items()}

        async def run(task_status: trio.TaskStatus[None]) -> None:
            shown = watch(settings, sockets)
            await serve(settings, sockets, zones, watch=shown, task_status=task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield Running(sockets, addresses)
            nursery.cancel_scope.cancel()


PATHS = ("/", "/state.json", "/tree.json", "/healthz", "/readyz", "/metrics", "/nowhere", "/sort")


async def test_headers() -> None:
    """Every response says what the page may load, and that nothing is to be kept."""
    async with running() as site:
        for path in PATHS:
            headers = (await site.get(path)).headers
            assert headers["content-security-policy"] == POLICY
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
    directives = dict(each.strip().split(" ", 1) for each in POLICY.split(";"))
    assert directives["default-src"] == directives["base-uri"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"


async def test_page() -> None:
    """The page and its files are served as what they are, and nothing else of the machine is."""
    async with running() as site:
        page = await site.get("/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert static_files()
        for name in static_files():
            assert (await site.get(f"/static/{name}")).status == 200, name
        script = await site.get("/static/page.js")
        assert script.headers["content-type"].startswith("text/javascript")
        for name in ("nothing.js", "..%2fsite.py", "../site.py", "%2e%2e/site.py", ""):
            assert (await site.get(f"/static/{name}")).status == 404, name


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8043", 200),
        ("127.1.2.3", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8043", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8043", 403),
        ("192.0.2.1", 403),
        ("", 403),
    ],
)
async def test_dns_rebinding(host: str, status: int) -> None:
    """A request by a name that is not this machine's is refused, whatever it asks for."""
    async with running() as site:
        for path in ("/state.json", "/", "/nowhere"):
            answer = await site.get(path, Host=host)
            assert answer.status == (status if status == 403 or path != "/nowhere" else 404)


async def test_a_site_that_is_bound_elsewhere() -> None:
    """Who binds the site to all addresses is asked by any name."""
    everywhere = replace(SETTINGS, status=StatusSettings(address=Address("0.0.0.0", 0)))
    async with running(everywhere) as site:
        here = Address("127.0.0.1", site.addresses["status"].port)
        answer = await fetch(here, "/readyz", headers={"Host": "services.example"})
        assert answer.status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
    ],
)
async def test_another_origin(headers: dict[str, str], status: int) -> None:
    """No page of another origin may post anything."""
    async with running() as site:
        answer = await fetch(site.addresses["status"], "/sort", body=b"[2,1]", headers=headers)
        assert answer.status == status


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
    ],
)
async def test_another_origin_may_only_link(site: str, mode: str, status: int) -> None:
    """A page of another origin can lead people here, and cannot keep us busy with what it loads."""
    async with running() as ours:
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        answer = await fetch(ours.addresses["status"], "/tree.json", headers=headers)
        assert answer.status == status


async def test_control_needs_to_be_allowed() -> None:
    """Without --status-control nothing can be changed, also with the token."""
    async with running() as site:
        token = await site.token()
        for path in ("/cancel", "/trace/start", "/trace/stop"):
            answer = await site.post(path, b'{"task": 1}', X_Status_Token=token)
            assert answer.status == 403
            assert "--status-control" in answer.json()["error"]["message"]
        assert (await site.state())["control"] is False


async def test_control_needs_the_token() -> None:
    """With it, each change needs the token of this start."""
    async with running(CONTROLLED) as site:
        other = "x" * len(await site.token())
        for path in ("/cancel", "/trace/start", "/trace/stop"):
            for headers in ({}, {"X_Status_Token": other}, {"X_Status_Token": ""}):
                assert (await site.post(path, b'{"task": 1}', **headers)).status == 403
        assert (await site.state())["control"] is True
    async with running(CONTROLLED) as again:
        assert await again.token() != other


async def test_cancel() -> None:
    """A connection that is cancelled is told so, others go on, and the page shows who did it."""
    async with running(SLOW) as site:
        token = await site.token()
        clients = []
        for count in (1, 2):
            client = await trio.open_tcp_stream(*astuple(site.addresses["sort"]))
            await client.send_all(sort_request(ENDLESS_LIST))
            clients.append(client)
            numbers = await site.until_tasks("sort connection", count)
        first = min(numbers)
        answer = await site.post("/cancel", b'{"task": %d}' % first, X_Status_Token=token)
        assert answer.json() == {"cancelled": first}
        with trio.fail_after(PATIENCE):
            reply = b"".join([bytes(data) async for data in clients[0]])
        assert json.loads(reply)["error"]["code"] == "busy"
        assert b"status page" in reply
        await clients[0].aclose()
        await site.until_tasks("sort connection", 1)
        [occurrence] = (await site.state())["recent"]
        assert occurrence["kind"] == "cancelled"
        assert occurrence["who"] == "sort connection"
        assert occurrence["by"] == "status connection"
        await clients[1].aclose()


def astuple(address: Address) -> tuple[str, int]:
    """Return an address as Trio takes it."""
    return address.host, address.port


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"task": 1}', 404),
        (b'{"task": 999999999999}', 404),
        (b'{"task": -1}', 404),
        (b'{"task": "x"}', 400),
        (b'{"task": null}', 400),
        (b"{}", 400),
        (b"[]", 400),
        (b"nonsense", 400),
        (b" " * 2000, 400),
    ],
)
async def test_cancel_what_is_no_connection(body: bytes, status: int) -> None:
    """Only connections can be cancelled: not a service, not the root task, not what is no task."""
    async with running(CONTROLLED) as site:
        answer = await site.post("/cancel", body, X_Status_Token=await site.token())
        assert answer.status == status
        for name in ("dns udp", "sort", "status", "signals"):
            [number] = await site.tasks(name)
            refused = await site.post(
                "/cancel", b'{"task": %d}' % number, X_Status_Token=await site.token()
            )
            assert refused.status == 404


async def test_trace() -> None:
    """What tasks do is recorded between start and stop, and only then."""
    async with running(CONTROLLED) as site:
        token = await site.token()
        assert (await site.post("/trace/stop", X_Status_Token=token)).status == 409
        assert (await site.post("/trace/start", X_Status_Token=token)).status == 200
        assert (await site.state())["tracing"] is True
        assert await sort_raw(site.addresses["sort"], b"[2,1]") == b"[1,2]"
        trace = await site.post("/trace/stop", X_Status_Token=token)
        assert trace.headers["content-disposition"].startswith("attachment")
        names = {event.get("args", {}).get("name") for event in trace.json()["traceEvents"]}
        assert "sort connection" in names
        assert (await site.state())["tracing"] is False


async def test_sort() -> None:
    """A list is sorted as over TCP, and errors are the same, each with a status that fits it."""
    limited = replace(SETTINGS, sort=replace(SETTINGS.sort, max_payload=100))  # type: ignore[type-var]
    async with running(limited) as site:
        for body, status in (
            (b"[3, 1, 2]", 200),
            (b'["b", "a"]', 200),
            (b"[1,", 400),
            (b'[1, "a"]', 400),
            (b"[" + b"1," * 60 + b"1]", 413),
        ):
            answer = await site.post("/sort", body)
            assert answer.status == status
            assert answer.headers["content-type"] == "application/json"
            assert answer.body == await sort_raw(site.addresses["sort"], body)
        assert (await site.get("/sort")).status == 405
        unknown = {"Transfer-Encoding": "chunked"}
        async with connected(site.addresses["status"]) as client:
            answer = await client.ask("/sort", method="POST", headers=unknown)
            assert answer.status == 411
        assert (await site.post("/sort?algorithm=bogo", b"[]")).status == 400


@pytest.mark.parametrize("length", [2**63, 10**20 - 1])
@pytest.mark.parametrize("algorithm", ["", "?algorithm=gnome"])
async def test_a_list_of_any_length(
    length: int, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever length is announced, it is refused before anything is read."""
    async with running() as site, connected(site.addresses["status"]) as client:
        head = f"POST /sort{algorithm} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
        await client.stream.send_all(f"{head}\r\n".encode())
        answer = bytes(await client.stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 413")
    assert not caplog.records


async def test_sort_without_the_service() -> None:
    """Where no list is sorted, there is nothing to post to; and without DNS nothing to ask."""
    async with running(replace(SETTINGS, sort=None)) as site:
        assert (await site.post("/sort", b"[2,1]")).status == 404
        assert (await site.state())["sort"] is None
    async with running(replace(SETTINGS, dns=None)) as site:
        assert (await site.get("/query?name=alpha.example")).status == 404
        assert (await site.state())["dns"] is None


async def test_sort_that_takes_too_long() -> None:
    """A job that outlives its deadline is a gateway's timeout."""
    assert SLOW.sort
    async with running(replace(SLOW, sort=replace(SLOW.sort, job_deadline=0.05))) as site:
        answer = await site.post("/sort", ENDLESS_LIST)
        assert (answer.status, answer.json()["error"]["code"]) == (504, "timeout")


async def test_a_client_that_leaves_cancels_its_job() -> None:
    """It takes its connection to the sort service along; the page shows who was cancelled, why."""
    async with running(SLOW) as site:
        async with connected(site.addresses["status"]) as client:
            await client.begin("/sort", body=ENDLESS_LIST)
            await site.until_tasks("sort job", 1)
        await site.until_tasks("sort job", 0)
        await site.until_tasks("sort connection", 0)
        [occurrence] = (await site.state())["recent"]
        assert (occurrence["who"], occurrence["why"]) == ("sort job", "the client left")


async def test_a_client_that_leaves_where_clients_may_half_close() -> None:
    """It is gone all the same: the site tells the service so in a way that means it."""
    assert SLOW.sort
    lenient = replace(SLOW, sort=replace(SLOW.sort, allow_half_close=True))
    async with running(lenient) as site:
        async with connected(site.addresses["status"]) as client:
            await client.begin("/sort", body=ENDLESS_LIST)
            await site.until_tasks("sort job", 1)
        await site.until_tasks("sort job", 0)
        assert (await site.post("/sort", b"[2,1]")).body == b"[1,2]"


async def test_no_redirects() -> None:
    """An address that is not there is not there, with a slash at its end or without."""
    async with running() as site:
        assert (await site.get("/metrics/")).status == 404


async def test_a_reader_that_stalls() -> None:
    """A stream that nobody reads is dropped, and those that are read go on."""
    few = replace(SETTINGS, status=StatusSettings(address=ANY_PORT, streams=2))
    async with running(few) as site, connected(site.addresses["status"]) as reader:
        await reader.begin("/events")
        async with trio.open_nursery() as crowd:
            for number in range(2000):  # of different names, so that a state is large
                crowd.start_soon(trio.sleep_forever, name=f"task {number}")
            with socket.socket() as stalled, trio.fail_after(PATIENCE):
                stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                stalled.connect(astuple(site.addresses["status"]))
                stalled.send(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                await site.until_tasks("status connection", 3)  # with the one that asks
                response = await reader.event()
                assert response.status_code == 200
                async with aclosing(reader.events()) as events:
                    async for _ in events:
                        if len(await site.tasks("status connection")) == 2:
                            break
            crowd.cancel_scope.cancel()


async def test_slow_sort_on_purpose() -> None:
    """Gnome sort runs once at a time, within limits, and ends with its client."""
    async with running(replace(SETTINGS, dns=None)) as site:
        assert (await site.post("/sort?algorithm=gnome", b"[3,1,2]")).body == b"[1,2,3]"
        assert (await site.post("/sort?algorithm=gnome", b"[1,")).status == 400
        too_long = b"[" + b"1," * 200_000 + b"1]"
        assert (await site.post("/sort?algorithm=gnome", too_long)).status == 413
        async with connected(site.addresses["status"]) as client:
            await client.begin("/sort?algorithm=gnome", body=ENDLESS_LIST[:200_000] + b"0]")
            await site.until_tasks("worker", 1)
            assert (await site.post("/sort?algorithm=gnome", b"[2,1]")).status == 503
        await site.until_tasks("worker", 0)
        assert (await site.post("/sort?algorithm=gnome", b"[2,1]")).body == b"[1,2]"
        occurrence = (await site.state())["recent"][0]
        assert (occurrence["who"], occurrence["why"]) == ("gnome sort", "the client left")


async def test_slow_sort_of_a_list_that_does_not_come() -> None:
    """It keeps nobody from a slow sort, and is not waited for longer than the service would."""
    assert SETTINGS.sort
    impatient = replace(SETTINGS, dns=None, sort=replace(SETTINGS.sort, read_deadline=0.5))
    head = b"POST /sort?algorithm=gnome HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n["
    async with running(impatient) as site, connected(site.addresses["status"]) as client:
        await client.stream.send_all(head)
        await site.until_tasks("status connection", 2)  # with the one that asks
        assert (await site.post("/sort?algorithm=gnome", b"[2,1]")).body == b"[1,2]"
        with trio.fail_after(PATIENCE):
            assert bytes(await client.stream.receive_some()).startswith(b"HTTP/1.1 408")


async def test_query() -> None:
    """A question is answered by our own server, as `trio-services query --json` prints it."""
    async with running() as site:
        answer = await site.get("/query?name=alpha.example&type=A")
        reply = await query("alpha.example", "A", site.addresses["dns"], tcp=True)
        assert answer.json() == json.loads(reply.as_json())
        assert (await site.get("/query?name=no.example")).json()["verdict"] == "NXDOMAIN"
        for wrong in ("/query", "/query?name=a..b", "/query?name=a.example&type=NOSUCH"):
            refused = await site.get(wrong)
            assert refused.status == (200 if wrong == "/query" else 400), wrong


async def test_state() -> None:
    """The state has what the services counted, how long they took, and who runs."""
    async with running() as site:
        await query("alpha.example", "A", site.addresses["dns"])
        await query("alpha.example", "A", site.addresses["dns"], tcp=True)
        await query("no.example", "A", site.addresses["dns"])
        assert await sort_raw(site.addresses["sort"], b"[2,1]") == b"[1,2]"
        assert b"not-json" in await sort_raw(site.addresses["sort"], b"[2")
        state = await site.state()
        assert state["dns"]["queries"] == 3
        assert state["dns"]["rcodes"] == {"NOERROR": 2, "NXDOMAIN": 1}
        assert state["dns"]["tcp"]["accepted"] == 1
        assert 0 < state["dns"]["latency"]["p50"] <= state["dns"]["latency"]["p99"]
        assert state["sort"]["lists"] == 1
        assert state["sort"]["errors_by_code"] == {"not-json": 1}
        assert state["sort"]["connections"]["accepted"] == 2
        assert 0 < state["sort"]["latency"]["p50"] <= state["sort"]["latency"]["p99"]
        assert [each["kind"] for each in state["recent"]] == ["error"]
        assert (state["draining"], state["tracing"], len(state["copies"])) == (False, False, 1)
        assert state["memory"] > 2**20
        assert from_json(state["tree"]).name == "<init>"


async def test_health_while_draining() -> None:
    """While what is in flight ends, the site is there and says that nothing is accepted."""
    async with running() as site:
        assert (await site.get("/readyz")).status == 200
        async with await trio.open_tcp_stream(*astuple(site.addresses["sort"])) as client:
            await client.send_all(sort_request(b"[2,1]")[:-1])
            await site.until_tasks("sort connection", 1)
            signal.raise_signal(signal.SIGTERM)
            while site.sockets.sort[0].fileno() != -1:
                await trio.lowlevel.checkpoint()
            assert (await site.get("/readyz")).status == 503
            assert (await site.get("/healthz")).status == 200
            assert (await site.state())["draining"] is True
            answer = await site.post("/sort", b"[2,1]")
            assert (answer.status, answer.json()["error"]["code"]) == (503, "busy")
            await client.send_all(b"]")
            assert b"".join([bytes(data) async for data in client]) == b"[1,2]"


async def test_a_reply_that_is_under_way_when_all_else_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the sort service has sent reaches its client whole; a page that is open ends with it."""
    monkeypatch.setattr("trio_services.status.http_server.WRITE_DEADLINE", PATIENCE)
    monkeypatch.setattr("trio_services.status.serve.REPLY_DEADLINE", PATIENCE)
    numbers = list(range(80_000))  # more than is kept for a client, less than for a service
    assert SETTINGS.sort
    generous = replace(SETTINGS, sort=replace(SETTINGS.sort, write_deadline=PATIENCE))
    async with running(generous) as site, connected(site.addresses["status"]) as page:
        await page.begin("/events")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.connect(astuple(site.addresses["status"]))
            sock.setblocking(False)
            client = Client(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
            await client.begin("/sort", body=json.dumps(numbers).encode())
            with trio.fail_after(PATIENCE):
                while not (await site.state())["sort"]["connections"]["accepted"]:
                    pass
            await site.until_tasks("sort connection", 0)
            assert len(await site.tasks("status connection")) == 3  # its own, and who asks
            signal.raise_signal(signal.SIGTERM)
            await site.until_tasks("workers", 0)
            assert (await client.answer()).json() == numbers
        with trio.fail_after(PATIENCE):
            while await page.stream.receive_some(65536):
                pass
            while site.sockets.status:
                await trio.lowlevel.checkpoint()


async def test_events() -> None:
    """A page is sent the state at once, and again and again."""
    async with running() as site, connected(site.addresses["status"]) as client:
        await client.begin("/events")
        response = await client.event()
        headers = dict(response.headers)
        assert headers[b"content-type"].startswith(b"text/event-stream")
        seen = []
        with trio.fail_after(PATIENCE):
            async with aclosing(client.events()) as events:
                async for name, state in events:
                    seen.append((name, state["uptime"]))
                    if len(seen) == 3:
                        break
        assert [name for name, _ in seen] == ["state"] * 3
        assert seen == sorted(seen)


async def test_only_so_many_streams() -> None:
    """Whoever comes when enough pages are open is told so, until one is closed."""
    few = replace(SETTINGS, status=StatusSettings(address=ANY_PORT, streams=2))
    async with running(few) as site:
        async with connected(site.addresses["status"]) as one:
            await one.begin("/events")
            await one.event()
            async with connected(site.addresses["status"]) as other:
                await other.begin("/events")
                await other.event()
                assert (await site.get("/events")).status == 503
            with trio.fail_after(PATIENCE):
                while True:
                    async with connected(site.addresses["status"]) as other:
                        await other.begin("/events")
                        if (await other.event()).status_code == 200:
                            break


@pytest.mark.parametrize("body", [b"", b"Content-Length: 5\r\n"])
async def test_a_stream_without_its_body(body: bytes) -> None:
    """HEAD is over with the headers: who asks that and leaves takes no place of a page's."""
    few = replace(SETTINGS, status=StatusSettings(address=ANY_PORT, streams=1))
    async with running(few) as site:
        for _ in range(2):
            async with connected(site.addresses["status"]) as client:
                head = b"HEAD /events HTTP/1.1\r\nHost: 127.0.0.1\r\n" + body + b"\r\n"
                await client.stream.send_all(head)
                answer = bytes(await client.stream.receive_some())
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"text/event-stream" in answer
        async with connected(site.addresses["status"]) as client:
            await client.begin("/events")
            assert (await client.event()).status_code == 200


async def test_only_so_many_connections() -> None:
    """Whoever comes when there are enough connections is refused, in HTTP."""
    few = replace(SETTINGS, status=StatusSettings(address=ANY_PORT, connections=2))
    async with running(few) as site, connected(site.addresses["status"]) as one:
        assert (await one.ask("/healthz")).status == 200
        async with connected(site.addresses["status"]) as other:
            assert (await other.ask("/healthz")).status == 200
            assert (await site.get("/healthz")).status == 503
            assert (await one.ask("/healthz")).status == 200


async def test_a_site_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, nobody's DNS depends on it, and who asks it does not wait in vain."""

    async def fail(self: Feed) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Feed, "keep", fail)
    async with running() as site:
        with trio.fail_after(PATIENCE):
            while "has failed" not in caplog.text:
                await query("alpha.example", "A", site.addresses["dns"])
        assert (await query("alpha.example", "A", site.addresses["dns"])).exit_status == 0
        with pytest.raises(OSError, match="connect"):
            await site.get("/healthz")
    assert [record.name for record in caplog.records if record.exc_info] == ["trio_services.status"]


async def test_a_bug_in_one_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs that answer: status 500, a line in the log, and the next is answered."""

    async def fail(self: Feed) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Feed, "state", fail)
    async with running() as site:
        assert (await site.get("/state.json")).status == 500
        assert (await site.get("/healthz")).status == 200
    assert "unexpected error in status connection" in caplog.text


def test_guard_is_strict_by_default() -> None:
    """Whether other names are let in has to be said."""
    with pytest.raises(TypeError):
        Guard(None)  # type: ignore[call-arg, arg-type]
