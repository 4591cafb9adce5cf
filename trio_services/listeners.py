"""Binding the sockets, before Trio runs: what cannot be bound is said in one line, at once.

UDP and TCP of the DNS server share one port, also when port 0 lets the kernel choose it. With
several processes each has sockets of its own on the same ports (SO_REUSEPORT); the parent binds
them all, so that an address in use is found before anything starts, and so that a copy that
crashes leaves its sockets, and what is queued in them, to the next.
"""

import contextlib
import errno
import ipaddress
import os
import resource
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from trio_services.settings import DEFAULT_STATUS, Address, ServeSettings

BACKLOG = 65535
"""Connections that the kernel may queue; it grants up to net.core.somaxconn. As Trio's default."""

PORT_ATTEMPTS = 20
"""Ports to try for one that is free for both UDP and TCP; the first is nearly always."""


RECEIVE_BUFFER = 4 * 1024 * 1024
"""Asked of the kernel for UDP, which grants up to net.core.rmem_max: what arrives while a sibling
has the loop waits there instead of being lost."""

STATUS_SEND_BUFFER = 128 * 1024
"""What the kernel keeps of a page for a reader that stalls; by itself it would take megabytes, and
it would be long before anybody noticed. Accepted sockets inherit this."""

# Names that the socket module lacks on some versions; the values are Linux's.
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT = 10, 23, 5


class BindError(Exception):
    """An address that cannot be listened on; the text is one line that names it."""


@dataclass(slots=True)
class Sockets:
    """The bound sockets of one process; a context manager that closes them."""

    udp: list[socket.socket] = field(default_factory=list)
    dns: list[socket.socket] = field(default_factory=list)
    sort: list[socket.socket] = field(default_factory=list)
    status: list[socket.socket] = field(default_factory=list)
    """At most one, of the first set only; it is no service and stays open until the very end."""

    def __enter__(self) -> "Sockets":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
        for sock in self.status:
            sock.close()

    def close(self) -> None:
        """Close the services' sockets; again does nothing. No task may be waiting on one."""
        for sock in self.all():
            sock.close()

    def all(self) -> list[socket.socket]:
        """Return every socket of the services."""
        return [*self.udp, *self.dns, *self.sort]

    def addresses(self) -> dict[str, list[tuple[str, int]]]:
        """Return where each service listens, as the ready file tells it."""
        return {
            name: [sock.getsockname()[:2] for sock in sockets]
            for name, sockets in (("dns", self.dns), ("sort", self.sort), ("status", self.status))
            if sockets
        }


def bind_copies(settings: ServeSettings) -> list[Sockets]:
    """Bind and listen on every address of `settings`, a set of sockets for each process.

    Raises:
        BindError: An address is in use, not allowed, or not of this machine.
    """
    shared = settings.processes > 1
    if shared:
        # Ports that are shared are shared with everything else that this user runs on them, so
        # somebody else's use shows only in an attempt to have them alone.
        _bind_first(settings, shared=False).close()
    with contextlib.ExitStack() as on_error:
        first = on_error.enter_context(_bind_first(settings, shared))
        others = [on_error.enter_context(_bind_again(first)) for _ in range(1, settings.processes)]
        if settings.status:
            first.status.append(_bind_status(settings.status.address))
        on_error.pop_all()
        return [first, *others]


def _bind_first(settings: ServeSettings, shared: bool) -> Sockets:
    with contextlib.ExitStack() as on_error:
        sockets = on_error.enter_context(Sockets())
        for address in settings.dns.addresses if settings.dns else ():
            udp, tcp = _bind_both(address, shared)
            sockets.udp.append(udp)
            sockets.dns.append(tcp)
        for address in settings.sort.addresses if settings.sort else ():
            sockets.sort.append(_bind_one(address, socket.SOCK_STREAM, shared))
        on_error.pop_all()
        return sockets


def _bind_again(first: Sockets) -> Sockets:
    """Bind a further set of sockets on the very ports of `first`, which were bound as shared."""
    with contextlib.ExitStack() as on_error:
        sockets = on_error.enter_context(Sockets())
        for sock in first.udp:
            sockets.udp.append(_bind_one(_address_of(sock), socket.SOCK_DGRAM, True))
        for ours, theirs in ((sockets.dns, first.dns), (sockets.sort, first.sort)):
            for sock in theirs:
                ours.append(_bind_one(_address_of(sock), socket.SOCK_STREAM, True))
        on_error.pop_all()
        return sockets


def _bind_status(address: Address | None) -> socket.socket:
    """Bind where the page is wanted; by default any port will do if the usual one is taken."""
    try:
        sock = _bind_one(address or DEFAULT_STATUS, socket.SOCK_STREAM, shared=False)
    except BindError:
        if address:
            raise
        sock = _bind_one(replace(DEFAULT_STATUS, port=0), socket.SOCK_STREAM, shared=False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STATUS_SEND_BUFFER)
    return sock


def _address_of(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def _bind_both(address: Address, shared: bool) -> tuple[socket.socket, socket.socket]:
    """Bind UDP and TCP to one port; port 0 is chosen by UDP and tried for TCP."""
    attempt = 0
    while True:
        attempt += 1
        udp = _bind_one(address, socket.SOCK_DGRAM, shared)
        try:
            return udp, _bind_one(_address_of(udp), socket.SOCK_STREAM, shared)
        except BindError:
            udp.close()
            if address.port or attempt == PORT_ATTEMPTS:
                raise


def _bind_one(address: Address, kind: socket.SocketKind, shared: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=kind, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (socket.gaierror, UnicodeError) as error:
        raise BindError(f"cannot listen on {address}: {_reason(error)}") from None
    family, _, _, _, sockaddr = found[0]
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            # RFC 3493 5.3: else [::] would take the IPv4 port too, or not, as the system pleases.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM:
            # Restarting must not wait for old connections; on Linux this never steals a port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Replies are sent whole, so waiting for more to come would only delay them. Accepted
            # sockets inherit this.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(sockaddr)
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
        else:
            _prepare_udp(sock)
    except OSError as error:
        sock.close()
        name = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        raise BindError(f"cannot listen on {address} ({name}): {_reason(error)}") from None
    return sock


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return "address already in use"
        return error.strerror or str(error)
    return str(error)


def _prepare_udp(sock: socket.socket) -> None:
    """Set the options that a DNS server wants on a bound UDP socket.

    The path MTU that routers report is not believed, so that nobody can make us fragment replies
    by forging it (RFC 9715 section 3.1); and an all-addresses socket learns where queries went.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    v6 = sock.family == socket.AF_INET6
    if sys.platform == "linux":
        level, option = (
            (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
            if v6
            else (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
        )
        sock.setsockopt(level, option, _PMTUDISC_OMIT)
    if is_wildcard(sock):
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def reachable(sock: socket.socket) -> Address:
    """Return where this machine reaches a listening socket, also one bound to all addresses."""
    host, port = sock.getsockname()[:2]
    if is_wildcard(sock):
        host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
    return Address(host, port)


def is_wildcard(sock: socket.socket) -> bool:
    """Tell whether `sock` is bound to all addresses of its family."""
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified


def raise_open_file_limit() -> int:
    """Raise this process's limit of open files to what it is allowed; return the limit.

    Each connection is an open file. The soft limit is low (1024) only for the sake of programs that
    use `select`; Trio does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sys.platform == "darwin":
        hard = min(hard, os.sysconf("SC_OPEN_MAX"))  # launchd says "unlimited" and means less
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def inherited(file_descriptors: dict[str, list[int]]) -> Iterator[Sockets]:
    """Wrap the sockets that a parent process left open for this one, by service."""
    with Sockets(
        **{
            name: [socket.socket(fileno=number) for number in numbers]
            for name, numbers in file_descriptors.items()
        }
    ) as sockets:
        yield sockets
