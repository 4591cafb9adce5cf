"""Counters as plain values."""

from trio_services.sans_io.dns_respond import Responder
from trio_services.settings import DnsSettings
from trio_services.startup import zones_for
from trio_services.status.inside import Inside, add_up, memory


def test_add_up() -> None:
    """Numbers are added by name, also in lists and dictionaries; nothing that is added changes."""
    one = {"a": 1, "b": {"c": 1.5, "d": [1, 2]}}
    other = {"a": 10, "b": {"d": [10, 20], "e": 7}, "f": 2}
    total = {"a": 11, "b": {"c": 1.5, "d": [11, 22], "e": 7}, "f": 2}
    assert add_up([one, other]) == total
    assert one == {"a": 1, "b": {"c": 1.5, "d": [1, 2]}}
    assert other == {"a": 10, "b": {"d": [10, 20], "e": 7}, "f": 2}
    assert add_up([]) == {}


def test_services_that_do_not_run_have_no_counters() -> None:
    """What is not there is left out; what starts has its counters at once."""
    inside = Inside()
    assert set(inside.counters()) == {"memory"}
    zones = zones_for(DnsSettings())
    inside.responder = Responder(zones, on_error=lambda error: None)
    assert inside.counters()["dns"]["queries"] == 0
    inside.responder.respond_udp(b"")
    assert inside.counters()["dns"]["dropped"] == 1


def test_nothing_to_cancel() -> None:
    """Without connections no task is one."""
    assert Inside().cancel(1, "why") is False


def test_memory() -> None:
    """A Python process has some megabytes."""
    assert 2**20 < memory() < 2**40
