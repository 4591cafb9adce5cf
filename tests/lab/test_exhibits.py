"""The exhibits are measured beside the services, so they have to answer as those do."""

import signal
from pathlib import Path

import pytest
import trio
from services_lab.clients import ask_dns
from services_lab.load.dns_packets import dns_query
from services_lab.server import open_server
from services_lab.side_by_side import open_folder
from services_lab.variants import EXHIBIT_VARIANTS

from trio_services.sans_io.dns_respond import Responder
from trio_services.sans_io.dns_zone import load_builtin_zones
from trio_services.settings import Address

NAMES = ("alpha.example", "nobody.example", "anything.at.all")


@pytest.mark.parametrize("name", EXHIBIT_VARIANTS)
async def test_exhibits_answer_as_the_services_do(name: str, tmp_path: Path) -> None:
    """An exhibit gives the same answers as the services, and has no TCP."""
    errors: list[Exception] = []
    respond = Responder(load_builtin_zones(), on_error=errors.append).respond_udp
    async with open_folder() as home:
        async with open_server(
            EXHIBIT_VARIANTS[name], "--no-sort", name=name, home=home, folder=tmp_path
        ) as server:
            for asked in NAMES:
                reply = await ask_dns(server.dns, asked)
                wanted = respond(dns_query(asked))
                assert reply
                assert wanted
                assert reply[2:] == wanted[2:]
            with pytest.raises(OSError, match=r"refused|all attempts"):
                await connect(server.dns)
            server.send_signal(signal.SIGINT)
            assert await server.wait() == 0


async def connect(address: Address) -> None:
    """Connect by TCP, and leave."""
    async with await trio.open_tcp_stream(address.host, address.port):
        pass
