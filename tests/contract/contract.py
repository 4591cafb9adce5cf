"""The contract: every promise, every variant, and where something else is expected, on purpose.

An expected difference says what happens instead (a check, which asserts just that, so that a
difference that goes away is noticed), why, and on which versions of Python. All are in
`DIFFERENCES`, and nothing else excuses a variant.

    python -m tests.contract.contract      prints variants by promises, as Markdown
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from services_lab.variants import VARIANTS, Variant

from tests.contract import dns_promises as dns
from tests.contract import elsewhere, originals
from tests.contract import life_promises as life
from tests.contract import sort_promises as sort
from tests.contract.promises import Check, Promise, first_sentence

Version = tuple[int, int]
PYTHON: Version = sys.version_info[:2]


def _promises_in(module: ModuleType) -> Iterator[Promise]:
    return (value for value in vars(module).values() if isinstance(value, Promise))


PROMISES = tuple(
    dict.fromkeys(each for module in (life, dns, sort) for each in _promises_in(module))
)
"""Every promise, in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is expected of some variants instead of a promise.

    Attributes:
        instead: What happens; its docstring says it in one sentence.
        why: The reason, in a few words.
        promises: Those that are not kept.
        variants: By whom.
        number: In the table of differences between asyncio and Trio; 0 if it is not there.
        since: The first version of Python that it is true of.
        until: The first version of Python that it is no longer true of.
    """

    instead: Check
    why: str
    promises: tuple[Promise, ...]
    variants: tuple[str, ...]
    number: int = 0
    since: Version = (3, 11)
    until: Version = (4, 0)

    @property
    def sentence(self) -> str:
        """What happens, in one sentence."""
        return first_sentence(self.instead)


@dataclass(frozen=True, slots=True)
class Case:
    """One promise and one variant."""

    promise: Promise
    variant: str
    difference: Difference | None

    @property
    def check(self) -> Check:
        """What to run: the promise, or what is expected instead."""
        return self.difference.instead if self.difference else self.promise.check

    def __str__(self) -> str:
        return f"{self.variant}-{self.promise.name}"


def is_made(promise: Promise, variant: Variant) -> bool:
    """Tell whether the promise is about something that the variant has."""
    if promise.about_option and variant.is_original:
        return False
    return promise.service == "any" or promise.service in variant.services


def difference(promise: Promise, variant: str, python: Version = PYTHON) -> Difference | None:
    """Return what is expected of `variant` instead of `promise`.

    Raises:
        ValueError: The contract expects two things.
    """
    found = [
        each
        for each in DIFFERENCES
        if promise in each.promises
        and variant in each.variants
        and each.since <= python < each.until
    ]
    if len(found) > 1:
        raise ValueError(f"{promise.name} of {variant}: several differences are expected")
    return found[0] if found else None


def cases() -> Iterator[Case]:
    """Yield every case of the contract, by variant."""
    for variant in VARIANTS.values():
        for promise in PROMISES:
            if is_made(promise, variant):
                yield Case(promise, variant.name, difference(promise, variant.name))


ORIGINAL_DNS = ("original-dns", "original-dns-uvloop")
ORIGINAL_SORT = ("original-sort", "original-sort-uvloop")
SERVICES_BUT_TRIO = tuple(
    name
    for name, each in VARIANTS.items()
    if each.package in {"asyncio_services", "anyio_services"}
)

DIFFERENCES: tuple[Difference, ...] = (
    # --- Variants of the services
    Difference(
        elsewhere.refuses_copies,
        "only trio-services has a supervisor",
        (life.copies,),
        SERVICES_BUT_TRIO,
    ),
    Difference(
        elsewhere.worker_failed,
        "a pool does not tell whether its worker had begun, and sorting twice would be a guess",
        (sort.worker_killed_before_it_reads,),
        SERVICES_BUT_TRIO,
        13,
    ),
    # --- The originals: DNS
    Difference(
        originals.everything_is_an_address,
        "one A record for every question",
        (dns.other_types, dns.no_data),
        ORIGINAL_DNS,
    ),
    Difference(
        originals.every_name_exists, "the default address", (dns.no_such_name,), ORIGINAL_DNS
    ),
    Difference(originals.edns_is_ignored, "older than EDNS", (dns.edns,), ORIGINAL_DNS),
    Difference(
        originals.malformed_packets_raise,
        "nothing is checked",
        (dns.malformed_packets,),
        ORIGINAL_DNS,
        4,
    ),
    Difference(
        originals.replies_are_answered,
        "the flags are not read",
        (dns.replies_are_not_answered,),
        ORIGINAL_DNS,
    ),
    Difference(
        originals.every_operation_is_a_query,
        "the flags are not read",
        (dns.other_operations,),
        ORIGINAL_DNS,
    ),
    Difference(
        originals.no_tcp,
        "UDP only",
        (
            dns.tcp,
            dns.tcp_pipelining,
            dns.tcp_in_pieces,
            dns.tcp_half_close,
            dns.tcp_garbage,
            dns.tcp_idle,
            dns.truncation,
        ),
        ORIGINAL_DNS,
    ),
    # --- The originals: sort
    Difference(
        originals.first_client_waits_for_ever,
        "workers are forked with its connection open",
        (sort.first_client,),
        ORIGINAL_SORT,
        19,
    ),
    Difference(
        originals.an_end_without_a_word, "the handler raises", (sort.not_json,), ORIGINAL_SORT, 3
    ),
    Difference(
        originals.any_object_is_a_list,
        "whatever Python compares",
        (sort.not_sortable,),
        ORIGINAL_SORT,
    ),
    Difference(originals.no_limit, "no limits", (sort.too_large,), ORIGINAL_SORT),
    Difference(
        originals.cut_off_in_silence, "the handler raises", (sort.cut_off,), ORIGINAL_SORT, 3
    ),
    Difference(
        originals.vanishing_clients_are_logged,
        "the handler raises",
        (sort.clients_that_vanish,),
        ORIGINAL_SORT,
        3,
    ),
    Difference(originals.no_deadline, "no deadlines", (sort.slow_sender,), ORIGINAL_SORT),
    Difference(
        originals.everybody_gets_in, "no limits", (sort.too_many_connections,), ORIGINAL_SORT
    ),
    Difference(
        originals.jobs_run_on,
        "a job of a pool cannot be cancelled",
        (sort.client_leaves, sort.slow_job, life.client_leaves_while_draining),
        ORIGINAL_SORT,
        12,
    ),
    Difference(
        originals.broken_pool,
        "one dead worker breaks the pool",
        (sort.worker_killed_at_work, sort.worker_killed_beside_another, sort.worker_killed_idle),
        ORIGINAL_SORT,
        13,
    ),
    # --- The originals: life
    Difference(originals.sighup_is_a_crash, "no signal is handled", (dns.reload,), ORIGINAL_DNS),
    Difference(
        originals.sigterm_is_a_crash,
        "no signal is handled",
        (life.sigterm,),
        (*ORIGINAL_DNS, *ORIGINAL_SORT),
    ),
    Difference(
        originals.draining_is_not_known,
        "no signal is handled",
        (
            life.drain,
            life.drain_of_a_job,
            life.idle_connections,
            life.grace,
            life.last_word,
            life.second_signal,
        ),
        ORIGINAL_SORT,
    ),
    Difference(
        originals.workers_outlive_it,
        "they wait for a queue that they hold open themselves",
        (life.kill_9,),
        ORIGINAL_SORT,
    ),
    Difference(
        originals.address_in_use_is_a_traceback,
        "the exception is nobody's",
        (life.address_in_use,),
        (*ORIGINAL_DNS, *ORIGINAL_SORT),
    ),
)

CASES = tuple(cases())


def table() -> str:
    """Return variants by promises as a Markdown table, and what is expected instead below it."""
    names = list(VARIANTS)
    lines = [f"| promise | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    marks = {each: f"({number})" for number, each in enumerate(DIFFERENCES, 1)}
    known = {(case.promise, case.variant): case.difference for case in CASES}
    for promise in PROMISES:
        row = []
        for name in names:
            if (promise, name) not in known:
                row.append("")
            else:
                expected = known[promise, name]
                row.append(marks[expected] if expected else "kept")
        lines.append(f"| {promise.sentence} | {' | '.join(row)} |")
    lines.append("")
    for each, mark in marks.items():
        number = f"; difference {each.number}" if each.number else ""
        lines.append(f"{mark[1:-1]}. {each.sentence} ({each.why}{number})")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - what it is for
