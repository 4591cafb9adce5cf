"""A DNS server's sockets without its zones: what tests of the transports answer with."""

from collections.abc import Iterator
from contextlib import contextmanager

from trio_services.listeners import Sockets, bind_copies
from trio_services.settings import Address, DnsSettings, ServeSettings


def shout(packet: bytes) -> bytes | None:
    """Reply in capitals; garbage, as it were, gets silence, and `long` a reply of 60 KB."""
    if packet in (b"", b"garbage"):
        return None
    return b"L" * 60_000 if packet == b"long" else packet.upper()


@contextmanager
def bound(address: Address) -> Iterator[Sockets]:
    """Bind a DNS server's sockets as the program does."""
    [sockets] = bind_copies(ServeSettings(dns=DnsSettings(addresses=(address,)), sort=None))
    with sockets:
        yield sockets
