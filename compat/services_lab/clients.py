"""Clients of the two services, for experiments: one list, one query, on Trio.

They tell what they see, the end of the stream included, and judge nothing.
"""

import json
import random
from dataclasses import dataclass

import trio

from services_lab.load.dns_packets import dns_query
from trio_services.sans_io.length_prefix import sort_prefix
from trio_services.settings import Address

PATIENCE = 30.0
"""Seconds after which a reply is taken as never to come."""


@dataclass(frozen=True, slots=True)
class SortReply:
    """What came back on one connection of the sort service.

    Attributes:
        data: The bytes.
        ended: Whether the stream ended, by FIN or by RST; False if the time was over before.
        seconds: From before connecting to the last byte that came.
    """

    data: bytes
    ended: bool
    seconds: float

    def numbers(self) -> list[float]:
        """Return the list in it.

        Raises:
            ValueError: It is none.
        """
        found = json.loads(self.data)
        if not isinstance(found, list):
            raise ValueError(f"no list: {self.data[:200]!r}")
        return found


async def open_sort(address: Address, payload: bytes) -> trio.SocketStream:
    """Connect, send one list, and return the stream."""
    stream = await trio.open_tcp_stream(address.host, address.port)
    await stream.send_all(sort_prefix(len(payload)) + payload)
    return stream


async def sort_once(
    address: Address, payload: bytes, *, patience: float = PATIENCE, until_list: bool = False
) -> SortReply:
    """Have one list sorted on a connection of its own.

    Args:
        address: The sort service.
        payload: The list, as JSON.
        patience: Seconds for the whole.
        until_list: Whether to leave when the list is complete, without waiting for the end of the
            stream, which the first clients of the original never see.
    """
    began = last = trio.current_time()
    reply, ended = b"", False
    with trio.move_on_after(patience):
        async with await open_sort(address, payload) as stream:
            while not (until_list and reply.endswith(b"]")):
                try:
                    data = await stream.receive_some()
                except trio.BrokenResourceError:
                    data = b""
                if not data:
                    ended = True
                    break
                reply += data
                last = trio.current_time()
    return SortReply(reply, ended, last - began)


async def warm_up(address: Address, clients: int = 4) -> None:
    """Have a server start its workers now, by clients that do not wait for the end of the stream.

    A worker of the original is forked while its first client is connected and keeps a copy of the
    connection: that client would wait for ever, and load that is measured must not.
    """

    async def sort_a_little() -> None:
        reply = await sort_once(address, b"[2,1]", until_list=True)
        if reply.numbers() != [1, 2]:
            raise ValueError(f"not sorted: {reply.data!r}")

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(sort_a_little)


async def ask_dns(
    address: Address, name: str = "alpha.example", *, patience: float = PATIENCE
) -> bytes | None:
    """Ask once over UDP, without repeating; return the reply's bytes, None if there was none."""
    query = dns_query(name, ident=random.getrandbits(16))
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.connect((address.host, address.port))
        await sock.send(query)
        with trio.move_on_after(patience):
            while True:
                reply = await sock.recv(65535)
                if reply[:2] == query[:2]:
                    return reply
    return None
