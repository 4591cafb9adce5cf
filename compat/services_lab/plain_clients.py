"""Clients made of blocking sockets, for experiments whose server is a program of a few lines.

They run in a thread beside the loop, and are the same for every library: what differs is the
server. Nothing here raises for what a server does: the end of a stream, in order or by a reset, is
an empty reply, and silence is a word of its own.
"""

import socket

HOST = "127.0.0.1"

PATIENCE = 20.0
"""Seconds after which silence is taken as that: a reply takes a millisecond, and a loaded machine a
second at the worst."""

DATAGRAM_PATIENCE = 0.2
"""Seconds after which a datagram is sent again: what was sent to a socket that is about to close is
lost, and only the next one is told so."""

SILENCE = "(silence)"
"""What a server said that neither replied nor closed."""

ROUNDS = 20
"""How often something is asked whose answer may change when the server gets to its other tasks."""


def connect(port: int) -> socket.socket:
    """Return a new connection to `port` of loopback.

    Raises:
        OSError: It was refused.
    """
    return socket.create_connection((HOST, port), timeout=PATIENCE)


def ask(sock: socket.socket, line: bytes) -> str:
    """Send `line`; return the line that comes back, "" for the end of the stream, or SILENCE."""
    try:
        sock.sendall(line)
        return read_line(sock)
    except TimeoutError:
        return SILENCE
    except OSError:
        return ""


def ask_often(sock: socket.socket, line: bytes) -> str:
    """Ask ROUNDS times and return the last answer, or the first that is none.

    Each answer is at least one pass of the server's loop, in which its other tasks run as well: so
    what another task is about to do to this connection has been done when the last one comes.
    """
    answer = ""
    for _ in range(ROUNDS):
        answer = ask(sock, line)
        if answer in ("", SILENCE):
            break
    return answer


def ask_newly(port: int, line: bytes) -> str:
    """Connect, ask and leave; "" if the connection is refused."""
    try:
        with connect(port) as sock:
            return ask(sock, line)
    except OSError:
        return ""


def read_line(sock: socket.socket) -> str:
    """Return the next line, without its end, or what came before the end of the stream.

    Raises:
        TimeoutError: Nothing came.
        OSError: The connection was reset.
    """
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(1)  # no more than the line: what follows it is for the next call
        if not data:
            break
        line += data
    return line.decode().removesuffix("\n")


def ask_datagram(sock: socket.socket, packet: bytes) -> str:
    """Send `packet` on a connected UDP socket until a reply comes, or nobody is there any more.

    Returns:
        The reply; "" if the port is closed; SILENCE if neither is known after PATIENCE.
    """
    sock.settimeout(DATAGRAM_PATIENCE)
    for _ in range(int(PATIENCE / DATAGRAM_PATIENCE)):
        try:
            sock.send(packet)
            return sock.recv(65535).decode().removesuffix("\n")
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            return ""
    return SILENCE
