"""Binding: the ports that were asked for, or one line that says why not."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from trio_services.listeners import (
    BindError,
    Sockets,
    bind_copies,
    inherited,
    raise_open_file_limit,
)
from trio_services.settings import Address, DnsSettings, ServeSettings, SortSettings

LOOPBACK = Address("127.0.0.1", 0)
HAS_IPV6 = pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")


def settings_for(
    *addresses: Address, sort: Address | None = None, processes: int = 1
) -> ServeSettings:
    """Return settings with DNS on `addresses` and, if given, the sort service on `sort`."""
    return ServeSettings(
        dns=DnsSettings(addresses=addresses) if addresses else None,
        sort=SortSettings(addresses=(sort,)) if sort else None,
        processes=processes,
    )


@contextmanager
def bound(settings: ServeSettings) -> Iterator[list[Sockets]]:
    """Bind `settings`, and close everything at the end."""
    with ExitStack() as closing:
        yield [closing.enter_context(sockets) for sockets in bind_copies(settings)]


def port_of(sock: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    return int(sock.getsockname()[1])


def test_udp_and_tcp_share_the_port_that_the_kernel_chose() -> None:
    """With port 0 a DNS client finds UDP and TCP at one number."""
    with bound(settings_for(LOOPBACK, LOOPBACK, sort=LOOPBACK)) as [sockets]:
        assert [port_of(udp) for udp in sockets.udp] == [port_of(tcp) for tcp in sockets.dns]
        assert len({port_of(sock) for sock in sockets.all()}) == 3
        assert all(sock.getblocking() is False for sock in sockets.all())


def test_addresses_are_those_of_the_ready_file() -> None:
    """Each service tells host and port; a service that is not run is left out."""
    with bound(settings_for(LOOPBACK)) as [sockets]:
        assert sockets.addresses() == {"dns": [("127.0.0.1", port_of(sockets.udp[0]))]}


def test_tcp_listens_at_once() -> None:
    """A client that comes before Trio runs waits in the kernel's queue instead of being refused."""
    with bound(settings_for(sort=LOOPBACK)) as [sockets]:
        with socket.create_connection(sockets.sort[0].getsockname(), timeout=10):
            pass


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_address_in_use_is_named(kind: socket.SocketKind, processes: int) -> None:
    """One line with the address and the transport, and nothing is left open."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        address = Address("127.0.0.1", port_of(taken))
        with pytest.raises(BindError) as caught:
            bind_copies(settings_for(LOOPBACK, address, processes=processes))
    name = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    assert str(caught.value) == f"cannot listen on {address} ({name}): address already in use"


def test_another_server_of_several_processes_is_in_use_too() -> None:
    """Sharing ports is for our own copies: a second server does not slip in beside the first."""
    with bound(settings_for(LOOPBACK, sort=LOOPBACK, processes=2)) as [first, _]:
        dns, sort = (Address("127.0.0.1", port_of(group[0])) for group in (first.dns, first.sort))
        with pytest.raises(BindError, match="already in use"):
            bind_copies(settings_for(dns, processes=2))
        with pytest.raises(BindError, match="already in use"):
            bind_copies(settings_for(sort=sort, processes=2))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 300, "a\0b"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    """An address of another machine, or a name that means nothing, is told in one line."""
    with pytest.raises(BindError) as caught:
        bind_copies(settings_for(Address(host, 0)))
    assert str(caught.value).startswith(f"cannot listen on {host}:0")
    assert len(str(caught.value).splitlines()) == 1


@HAS_IPV6
def test_ipv6_leaves_ipv4_alone() -> None:
    """`[::]` and `0.0.0.0` are two addresses: both can have the same port."""
    with bound(settings_for(Address("::", 0))) as [v6]:
        port = port_of(v6.udp[0])
        assert v6.addresses() == {"dns": [("::", port)]}
        with bound(settings_for(Address("0.0.0.0", port))):
            pass


def test_copies_are_on_one_port() -> None:
    """Each process has sockets of its own, all at the same addresses."""
    with bound(settings_for(LOOPBACK, LOOPBACK, sort=LOOPBACK, processes=3)) as copies:
        assert len(copies) == 3
        assert copies[0].addresses() == copies[1].addresses() == copies[2].addresses()
        assert len({sock.fileno() for sockets in copies for sock in sockets.all()}) == 3 * 5
        for sock in (sock for sockets in copies for sock in sockets.all()):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_one_process_shares_with_nobody() -> None:
    """Without copies a second server is told that the address is in use."""
    with bound(settings_for(LOOPBACK)) as [sockets]:
        address = Address("127.0.0.1", port_of(sockets.udp[0]))
        with pytest.raises(BindError, match="already in use"):
            bind_copies(settings_for(address))


def test_inherited_sockets_are_the_same_sockets() -> None:
    """A copy that is told descriptors listens where its parent bound, and closes what it got."""
    with bound(settings_for(LOOPBACK, sort=LOOPBACK)) as [sockets]:
        numbers = {
            name: [sock.dup().detach() for sock in group]
            for name, group in (
                ("udp", sockets.udp),
                ("dns", sockets.dns),
                ("sort", sockets.sort),
            )
        }
        with inherited(numbers) as ours:
            assert ours.addresses() == sockets.addresses()
            assert [sock.type for sock in ours.all()] == [sock.type for sock in sockets.all()]
        assert all(sock.fileno() == -1 for sock in ours.all())


def test_open_files_are_raised_to_what_is_allowed() -> None:
    """The soft limit becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_open_file_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
