"""The metrics, read by the parser that comes with prometheus-client."""

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.status.fake_source import counters, report
from trio_services import __version__
from trio_services.sans_io.histogram import BOUNDS, Histogram
from trio_services.status.metrics import exposition
from trio_services.status.source import Report

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(*reports: Report) -> tuple[dict[str, Any], Samples]:
    """Return the families by name, and the samples by name and labels."""
    families = {
        family.name: family
        for family in text_string_to_metric_families(exposition(reports).decode())
    }
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    return families, samples


def test_values() -> None:
    """Each counter is a metric with its own value, and no label that says nothing."""
    _, samples = parsed(report(counters=counters(queries=7)))
    prefix = "trio_services_"
    for name, labels, value in (
        ("info", (("version", __version__),), 1),
        ("up", (), 1),
        ("uptime_seconds", (), 1.5),
        ("draining", (), 0),
        ("loop_lag_seconds", (), 0.1),
        ("dns_queries_total", (), 7),
        ("dns_replies_total", (("rcode", "NOERROR"),), 2),
        ("sort_errors_total", (("code", "busy"),), 3),
        ("sort_lists_total", (), 0),
        ("resident_memory_bytes", (), 1000),
        ("connections", (("service", "sort"), ("state", "busy")), 3),
        ("connections", (("service", "sort"), ("state", "idle")), 2),
        ("connections_accepted_total", (("service", "dns"),), 0),
        ("connections_ended_total", (("how", "refused"), ("service", "dns")), 0),
    ):
        assert samples[prefix + name, labels] == value, name


def test_conventions() -> None:
    """Names begin with the program's, counters end with _total, and each metric says what it is."""
    families, samples = parsed(report())
    assert all(name.startswith("trio_services_") for name in families)
    for family in families.values():
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    assert not any("milliseconds" in name for name, _ in samples)


def test_histograms() -> None:
    """Buckets are cumulative, end with all, and agree with sum and count."""
    histogram = Histogram()
    for seconds in (1e-6, 0.002, 0.002, 1000.0):
        histogram.add(seconds)
    durations = {"counts": histogram.counts, "total": histogram.total}
    families, samples = parsed(report(counters=counters(batches=durations)))
    family = families["trio_services_dns_batch_seconds"]
    buckets = [each for each in family.samples if each.name.endswith("_bucket")]
    assert [float(each.labels["le"]) for each in buckets] == [*BOUNDS, float("inf")]
    values = [each.value for each in buckets]
    assert values == sorted(values)
    assert (values[0], values[-2], values[-1]) == (1, 3, 4)
    assert samples["trio_services_dns_batch_seconds_count", ()] == 4
    assert samples["trio_services_dns_batch_seconds_sum", ()] == pytest.approx(1000.004001)


def test_copies() -> None:
    """Each copy has series of its own, by its number; one that is missing is down, and no more."""
    _, samples = parsed(
        report(11, counters=counters(queries=1)),
        {"pid": 12, "missing": "no answer"},
        report(13, counters=counters(queries=3)),
    )
    found = {labels: value for (name, labels), value in samples.items() if name.endswith("_up")}
    assert found == {(("copy", "1"),): 1, (("copy", "2"),): 0, (("copy", "3"),): 1}
    queries = {
        dict(labels)["copy"]: value
        for (name, labels), value in samples.items()
        if name == "trio_services_dns_queries_total"
    }
    assert queries == {"1": 1, "3": 3}


def test_a_service_that_does_not_run() -> None:
    """It has no metrics, not zeros."""
    only_dns = counters()
    del only_dns["sort"]
    _, samples = parsed(report(counters=only_dns))
    assert not any("_sort_" in name for name, _ in samples)
    assert ("trio_services_dns_queries_total", ()) in samples
