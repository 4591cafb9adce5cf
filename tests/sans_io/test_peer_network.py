"""Caps for each peer count what one customer is given."""

import pytest

from trio_services.sans_io.peer_network import peer_network


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_network_of_a_peer(host: str, network: str) -> None:
    """An IPv4 address stands for itself, an IPv6 address for its /64."""
    assert peer_network(host) == network
