"""Whom to count connections by: an IPv4 address, or the /64 that an IPv6 address belongs to.

One customer gets one IPv4 address, but at least 2**64 IPv6 addresses (RFC 6177), so a cap for each
of those would be none.
"""

from ipaddress import IPv6Address

PREFIX_BYTES = 8


def peer_network(host: str) -> str:
    """Return the network of `host`, the first element of a peer's socket address."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(address.packed[:PREFIX_BYTES] + bytes(8))}/64"
