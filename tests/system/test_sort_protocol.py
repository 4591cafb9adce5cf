"""The sort service as its clients see it, those that were written against the original first."""

import json
import socket
import struct
from pathlib import Path

import pytest
import trio

from tests.system.serving import (
    PATIENCE,
    Server,
    read_all,
    serving,
    sort_raw,
    sort_request,
)


def original_client(server: tuple[str, int], numbers: list[int]) -> list[int]:
    """Sort as a client of the original does: blocking, and reading until the end."""
    with socket.create_connection(server, timeout=PATIENCE) as sock:
        payload = json.dumps(numbers).encode()
        sock.sendall(struct.pack("!Q", len(payload)))
        sock.sendall(payload)
        reply = b""
        while data := sock.recv(4096):
            reply += data
    result: list[int] = json.loads(reply)
    return result


@pytest.mark.parametrize(
    ("algorithm", "place"),
    [
        ("auto", "auto"),
        ("timsort", "inline"),
        ("gnome", "thread"),
        ("vector", "process"),
        ("gnome", "process"),
    ],
)
async def test_original_client(algorithm: str, place: str) -> None:
    """A client that was written against the original works unchanged, whatever sorts where."""
    lists = [[], [3, 1, 2], [5] * 100, list(range(1000, 0, -1)), [-(2**70), 2**70, 0]]
    async with serving("--no-dns", "--algorithm", algorithm, "--sort-in", place) as server:
        address = (server.sort.host, server.sort.port)
        for numbers in lists:
            assert await trio.to_thread.run_sync(original_client, address, numbers) == sorted(
                numbers
            )


async def test_large_list() -> None:
    """Megabytes go through a shared file, there and back, and nothing of them is lost."""
    numbers = list(range(500_000, 0, -1))
    async with serving("--no-dns") as server:
        reply = await sort_raw(server.sort, json.dumps(numbers).encode())
        assert json.loads(reply) == numbers[::-1]
        assert [file.name for file in server.folder.iterdir()] == ["ready.json"]


async def test_byte_by_byte() -> None:
    """A list may arrive in any pieces."""
    async with serving("--no-dns") as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            for byte in sort_request(b'["b","a"]'):
                await stream.send_all(bytes([byte]))
            assert await read_all(stream) == b'["a","b"]'


async def half_closing_client(server: Server, payload: bytes) -> bytes:
    """Send a list, close the sending side as `nc -N` does, and read until the end."""
    async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
        await stream.send_all(sort_request(payload))
        await stream.send_eof()
        with trio.fail_after(PATIENCE):
            return await read_all(stream)


async def test_half_close_is_allowed() -> None:
    """With --allow-half-close a client that closes its sending side gets its reply."""
    async with serving("--no-dns", "--allow-half-close", "--sort-in", "process") as server:
        assert await half_closing_client(server, b"[2,1]") == b"[1,2]"


async def test_half_close_is_leaving() -> None:
    """Without it such a client is taken as gone, and its job is cancelled."""
    async with serving("--no-dns", "--algorithm", "gnome", "--log-requests") as server:
        endless = json.dumps(list(range(50_000, 0, -1))).encode()
        assert await half_closing_client(server, endless) == b""
        await server.said(f"{len(endless)} bytes: gone")


ERRORS = {
    "not JSON": (b"[1,", "not-json"),
    "not UTF-8": (b'["\xff"]', "not-json"),
    "nothing": (b"", "not-json"),
    "not an array": (b'{"a":1}', "not-sortable"),
    "mixed": (b'[1,"a"]', "not-sortable"),
    "nested": (b"[[2],[1]]", "not-sortable"),
    "deeply nested": (b"[" * 100_000 + b"]" * 100_000, "not-"),
    "not a number": (b"[NaN]", "not-"),
}


@pytest.mark.parametrize("place", ["inline", "process"])
async def test_bad_lists(place: str) -> None:
    """Whatever is wrong with a list is said in one JSON object; no traceback, and no crash."""
    async with serving("--no-dns", "--sort-in", place) as server:
        for payload, code in ERRORS.values():
            reply = json.loads(await sort_raw(server.sort, payload))
            assert list(reply) == ["error"]
            assert sorted(reply["error"]) == ["code", "message"]
            assert reply["error"]["code"].startswith(code)
        assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"
        assert len(server.lines) == 1


@pytest.mark.parametrize("size", [65 * 1024 * 1024, 2**63, 2**64 - 1])
async def test_too_large(size: int) -> None:
    """A list that is announced as too large is refused before it is sent."""
    async with serving("--no-dns") as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(struct.pack("!Q", size))
            with trio.fail_after(PATIENCE):
                assert b'"too-large"' in await stream.receive_some()


async def test_too_large_for_the_rude() -> None:
    """A client that sends all of a list that is too large still gets to read why not."""
    async with serving("--no-dns") as server:
        async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
            await stream.send_all(struct.pack("!Q", 2**40) + bytes(4_000_000))
            with trio.fail_after(PATIENCE):
                assert b'"too-large"' in await stream.receive_some()


async def test_announced_and_not_sent_costs_nothing() -> None:
    """A hundred clients that announce 64 MiB each and send nothing take no memory from others."""
    async with serving("--no-dns") as server:
        address = server.sort
        silent = [await trio.open_tcp_stream(address.host, address.port) for _ in range(100)]
        for stream in silent:
            await stream.send_all(struct.pack("!Q", 64 * 1024 * 1024) + b"[")
        assert await sort_raw(address, b"[2,1]") == b"[1,2]"
        for stream in silent:
            await stream.aclose()


async def test_client_that_vanishes() -> None:
    """Clients that reset their connection at any point leave no trace in the log."""
    request = sort_request(b"[%s]" % b",".join([b"1"] * 50_000))
    async with serving("--no-dns") as server:
        for sent in (0, 1, 8, 9, 1000, len(request)):
            async with await trio.open_tcp_stream(server.sort.host, server.sort.port) as stream:
                await stream.send_all(request[:sent])
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert await sort_raw(server.sort, b"[2,1]") == b"[1,2]"
        assert len(server.lines) == 1


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
async def test_too_many_connections(tmp_path: Path, limit: str) -> None:
    """A client beyond a cap is told `busy`; those inside are served on, and make room for it."""
    config = tmp_path / "small.toml"
    config.write_text(f"[sort]\n{limit} = 1\n")
    async with serving("--no-dns", "--config", f"{config}") as server:
        address = server.sort
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            assert b'"busy"' in await sort_raw(address, b"[2,1]")
            await stream.send_all(sort_request(b"[2,1]"))
            assert await read_all(stream) == b"[1,2]"
        assert await sort_raw(address, b"[2,1]") == b"[1,2]"
