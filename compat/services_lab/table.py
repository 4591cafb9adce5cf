"""What people see of the variants: a table, and the commands to try. Values in, pictures out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services_lab.usage import Usage
from services_lab.variants import Variant
from trio_services.settings import Address

WIDE = 110
"""Columns from which on addresses are written in full; below, their port is enough."""

MIB = 1024 * 1024


@dataclass(slots=True)
class Row:
    """A variant and what became of it.

    Attributes:
        problem: Why it does not run; None while it does.
        pid: Its process, from the ready file.
        addresses: Where each service listens; empty until it is ready.
        usage: The newest measurement.
        load: Of one core, between the last two measurements; 1.0 is all of it.
    """

    variant: Variant
    problem: str | None = None
    pid: int | None = None
    addresses: dict[str, Address] = field(default_factory=dict)
    usage: Usage | None = None
    load: float | None = None


def draw(rows: Sequence[Row], width: int) -> RenderableType:
    """Return the table of `rows` for a terminal of `width` columns, and what to try."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("variant", no_wrap=True)
    table.add_column("runtime")
    for name in ("DNS", "sort", "pid", "memory", "CPU", "now"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, width >= WIDE), style="dim" if row.problem else "")
    return Group(table, "", *_to_try(rows))


def _cells(row: Row, full: bool) -> list[RenderableType]:
    what = row.variant.runtime_version()
    if row.problem:
        return [row.variant.name, Text(row.problem, style="yellow")]
    if not row.addresses:
        return [row.variant.name, what, "…"]
    usage = row.usage
    return [
        row.variant.name,
        what,
        *(_address(row.addresses.get(service), full) for service in ("dns", "sort")),
        str(row.pid),
        f"{usage.memory / MIB:.0f} MiB" if usage else "",
        f"{usage.cpu:.2f} s" if usage else "",
        f"{row.load:.0%}" if row.load is not None else "",
    ]


def _address(address: Address | None, full: bool) -> str:
    if address is None:
        return "-"
    return str(address) if full else f":{address.port}"


def _to_try(rows: Sequence[Row]) -> list[Text]:
    """Return commands for the first variant of each service that runs; others have other ports."""
    lines = []
    if dns := next((row.addresses["dns"] for row in rows if "dns" in row.addresses), None):
        lines += [
            f"  dig @{dns.host} -p {dns.port} alpha.example",
            f"  trio-services query alpha.example MX --server {dns}",
        ]
    if sort := next((row.addresses["sort"] for row in rows if "sort" in row.addresses), None):
        lines += [f"  echo '[3, 1, 2]' | trio-services sort --server {sort}"]
    if not lines:
        return []
    heading = Text("Try (all listen on 127.0.0.1; other variants, other ports):", style="bold")
    return [heading, *(Text(line, no_wrap=True) for line in lines), Text("Ctrl-C stops all.")]
