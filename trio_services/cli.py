"""The command line: arguments, binding sockets, `trio.run`; no logic.

What is slow to import (Trio, dnspython, Rich) is imported by the command that needs it, so that
`--help` is quick.
"""

import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from trio_services import __version__
from trio_services.sans_io.sort_jobs import Algorithm
from trio_services.settings import (
    DEFAULT_STATUS,
    Address,
    DnsSettings,
    LogLevel,
    Place,
    ServeSettings,
    SettingsError,
    SortSettings,
    StatusSettings,
    ZoneFile,
    parse_default_addresses,
    read_settings,
    with_overrides,
)

if TYPE_CHECKING:
    from trio_services.status.trace import TraceRecorder

T = TypeVar("T")

PROGRESS_ABOVE = 1024 * 1024
"""Bytes of a list from which on a progress bar is drawn: smaller ones are back at once."""

app = typer.Typer(
    help="A static DNS server and a sort service as sibling tasks of one Trio nursery.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(app: typer.Typer = app) -> None:
    """Run the command line `app`; a setting that cannot be used is one line and status 2."""
    try:
        app()
    except SettingsError as error:
        _print_error(error)
        sys.exit(2)
    except KeyboardInterrupt:  # before Trio runs; later it is a signal like others
        sys.exit(130)


def _print_error(error: object) -> None:
    typer.echo(f"trio-services: {error}", err=True)


def _fail(error: object) -> NoReturn:
    """Print one line to standard error and exit with status 2, as for wrong arguments."""
    _print_error(error)
    raise typer.Exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trio-services {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """A static DNS server and a sort service as sibling tasks of one Trio nursery."""


def add_serve_command(
    app: typer.Typer,
    run: Callable[[ServeSettings], int],
    *,
    status_by_default: StatusSettings | None = None,
) -> None:
    """Add the command `serve` to `app`: the same options for every variant of the services.

    Args:
        app: Where the command is added.
        run: Serves by the settings that the options make; returns the exit status.
        status_by_default: The status page if no option and no file says anything of it.
    """

    @app.command()
    def serve(
        dns: Annotated[
            list[str] | None,
            typer.Option(
                metavar="HOST:PORT",
                help="DNS over UDP and TCP, repeatable.",
                show_default="127.0.0.1:4343",
            ),
        ] = None,
        sort: Annotated[
            list[str] | None,
            typer.Option(
                metavar="HOST:PORT", help="Sort service, repeatable.", show_default="127.0.0.1:2015"
            ),
        ] = None,
        no_dns: Annotated[bool, typer.Option("--no-dns", help="Run no DNS server.")] = False,
        no_sort: Annotated[bool, typer.Option("--no-sort", help="Run no sort service.")] = False,
        zone: Annotated[
            list[str] | None,
            typer.Option(
                metavar="FILE[=ORIGIN]",
                help="Zone file, repeatable.",
                show_default="a built-in zone",
            ),
        ] = None,
        hosts: Annotated[
            list[str] | None, typer.Option(metavar="FILE", help="Hosts file, repeatable.")
        ] = None,
        default_address: Annotated[
            list[str] | None,
            typer.Option(
                metavar="IP|none",
                help="The answer for names that no zone holds.",
                show_default="none; 127.0.0.1 with the built-in zone",
            ),
        ] = None,
        algorithm: Annotated[
            Algorithm | None,
            typer.Option(
                metavar="NAME", help="auto, timsort, vector or gnome.", show_default="auto"
            ),
        ] = None,
        sort_in: Annotated[
            Place | None,
            typer.Option(
                metavar="PLACE", help="auto, inline, thread or process.", show_default="auto"
            ),
        ] = None,
        workers: Annotated[
            int | None,
            typer.Option(metavar="N", help="Threads or processes that sort.", show_default="cores"),
        ] = None,
        allow_half_close: Annotated[
            bool | None,
            typer.Option(
                "--allow-half-close", help="Serve clients that close their sending side first."
            ),
        ] = None,
        grace: Annotated[
            float | None,
            typer.Option(
                metavar="SECONDS",
                help="For what is in flight when a signal comes.",
                show_default="10",
            ),
        ] = None,
        processes: Annotated[
            int | None,
            typer.Option(
                metavar="N", help="Copies of everything, on the same ports.", show_default="1"
            ),
        ] = None,
        status: Annotated[
            str | None,
            typer.Option(
                metavar="HOST:PORT",
                help="Status page, metrics and health.",
                show_default="127.0.0.1:8043, or a free port" if status_by_default else "none",
            ),
        ] = None,
        no_status: Annotated[bool, typer.Option("--no-status", help="No status page.")] = False,
        status_control: Annotated[
            bool | None,
            typer.Option("--status-control", help="Let the page cancel connections, and trace."),
        ] = None,
        trace: Annotated[
            str | None,
            typer.Option(
                metavar="FILE", help="At the end, write what each task did, for Perfetto."
            ),
        ] = None,
        config: Annotated[
            str | None,
            typer.Option(metavar="FILE.toml", help="Settings; options here override them."),
        ] = None,
        ready_file: Annotated[
            str | None, typer.Option(metavar="PATH", help="Write a JSON file when ready.")
        ] = None,
        log_level: Annotated[
            LogLevel | None,
            typer.Option(
                metavar="LEVEL", help="debug, info, warning or error.", show_default="info"
            ),
        ] = None,
        log_requests: Annotated[
            bool | None, typer.Option("--log-requests", help="Log a line for each request.")
        ] = None,
    ) -> None:
        """Run the DNS server and the sort service until SIGTERM or SIGINT; SIGHUP reloads zones."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there are tasks to show
        defaults = ServeSettings(status=status_by_default)
        settings = with_overrides(
            read_settings(config, defaults) if config is not None else defaults,
            grace=grace,
            processes=processes,
            ready_file=ready_file,
            trace=trace,
            log_level=log_level,
            log_requests=log_requests,
        )
        dns_settings = with_overrides(
            settings.dns or DnsSettings(),
            addresses=tuple(map(Address.parse, dns)) if dns else None,
            zones=tuple(map(ZoneFile.parse, zone)) if zone else None,
            hosts=tuple(hosts) if hosts else None,
            default_addresses=parse_default_addresses(default_address) if default_address else None,
        )
        sort_settings = with_overrides(
            settings.sort or SortSettings(),
            addresses=tuple(map(Address.parse, sort)) if sort else None,
            algorithm=algorithm,
            sort_in=sort_in,
            workers=workers,
            allow_half_close=allow_half_close,
        )
        run_dns = not no_dns and (settings.dns is not None or bool(dns))
        run_sort = not no_sort and (settings.sort is not None or bool(sort))
        if not run_dns and not run_sort:
            _fail("there is nothing to serve")
        status_settings = with_overrides(
            settings.status or StatusSettings(),
            address=Address.parse(status) if status is not None else None,
            control=status_control,
        )
        run_status = not no_status and (settings.status is not None or bool(status))
        settings = replace(
            settings,
            dns=dns_settings if run_dns else None,
            sort=sort_settings if run_sort else None,
            status=status_settings if run_status else None,
        )
        raise typer.Exit(run(settings))


def _serve_on_trio(settings: ServeSettings) -> int:
    import trio

    from trio_services.app import serve
    from trio_services.logs import run_reporting
    from trio_services.startup import prepared
    from trio_services.status.serve import watch, what_can_be_shown
    from trio_services.supervisor import supervise

    settings = what_can_be_shown(settings)
    if settings.processes > 1:
        if settings.trace:
            raise SettingsError("trace: only one process can be traced, not copies of it")
        with prepared(settings) as (socket_sets, zones):
            return run_reporting(trio.run, supervise, settings, socket_sets, zones)
    with prepared(settings) as ([sockets], zones), _recorder(settings.trace) as instruments:
        run = partial(trio.run, instruments=instruments)
        shown = partial(serve, watch=watch(settings, sockets)) if settings.status else serve
        return run_reporting(run, shown, settings, sockets, zones)


@contextmanager
def _recorder(path: str | None) -> Iterator[list["TraceRecorder"]]:
    """Yield the instrument that records a run to `path`, if that is wanted."""
    from trio_services.status.trace import record_to

    if path is None:
        yield []
        return
    try:
        with record_to(path, process="trio-services") as recorder:
            yield [recorder]
    except OSError as error:
        raise SettingsError(f"cannot write the trace {path}: {error.strerror}") from None


add_serve_command(app, _serve_on_trio, status_by_default=StatusSettings())


def _run(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `main` on Trio. Ctrl-C, which a nursery hands on in a group, ends with status 130."""
    import trio

    try:
        return trio.run(main, *args)
    except* KeyboardInterrupt:
        pass
    raise typer.Exit(130)


@app.command()
def sleepers(
    count: Annotated[int, typer.Option(min=0, max=1000, help="How many.")] = 5,
    max_delay: Annotated[float, typer.Option(min=0, max=3600, help="The longest, seconds.")] = 5.0,
    seed: Annotated[int | None, typer.Option(help="For the same delays again.")] = None,
) -> None:
    """Run sleepers in a nursery, and draw who slept when."""
    from trio_services.five_sleepers import draw_timeline, run_sleepers

    chance = random.Random(seed)
    delays = [chance.uniform(0, max_delay) for _ in range(count)]
    naps = _run(run_sleepers, delays, typer.echo)
    typer.echo("\n" + draw_timeline(naps))


@app.command()
def query(
    name: Annotated[str, typer.Argument(help="A domain name.")],
    record_type: Annotated[str, typer.Argument(metavar="TYPE", help="A, AAAA, MX, …")] = "A",
    server: Annotated[str, typer.Option(metavar="HOST:PORT")] = "127.0.0.1:4343",
    tcp: Annotated[bool, typer.Option("--tcp", help="Ask over TCP.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the whole reply as JSON.")] = False,
) -> None:
    """Ask a DNS server. Status 0: answered; 1: no such name or data; 2: no usable reply."""
    from trio_services.dns_client import QueryError, Verdict
    from trio_services.dns_client import query as ask

    try:
        reply = _run(partial(ask, name, record_type, Address.parse(server), tcp=tcp))
    except QueryError as error:
        _fail(error)
    if json:
        typer.echo(reply.as_json())
    else:
        for record in reply.records:
            typer.echo(record)
        if reply.verdict is not Verdict.ANSWER:
            typer.echo(f"{name} {record_type}: {reply.summary}", err=True)
    raise typer.Exit(reply.exit_status)


@app.command()
def sort(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON; - is standard input.")] = "-",
    server: Annotated[str, typer.Option(metavar="HOST:PORT")] = "127.0.0.1:2015",
    lines: Annotated[bool, typer.Option("--lines", help="One number a line, in and out.")] = False,
) -> None:
    """Have a list sorted: a JSON array in and out, or numbers, one a line."""
    from trio_services.sort_client import SortFailedError, from_lines, sort_list, to_lines

    address = Address.parse(server)
    try:
        payload = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _fail(f"{file}: {error.strerror}")
    try:
        if lines:
            payload = from_lines(payload)
        with _progress_bar(len(payload)) as progress:
            reply = _run(partial(sort_list, payload, address, progress=progress))
    except SortFailedError as error:
        _fail(error)
    try:
        sys.stdout.buffer.write(to_lines(reply) if lines else reply + b"\n")
        sys.stdout.buffer.flush()
    except OSError as error:
        # The reader has left, or the disk is full. Nothing more can be said there, also at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"cannot write the sorted list: {error.strerror}")


@app.command()
def tree(
    status: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The status page of the server.")
    ] = str(DEFAULT_STATUS),
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew until Ctrl-C.")] = False,
    frames: Annotated[bool, typer.Option("--frames", help="Show where each task waits.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what /tree.json gives.")] = False,
) -> None:
    """Print the tasks and nurseries of a running server."""
    from trio_services.status.tree_client import (
        TreeError,
        as_document,
        fetch_tree,
        show,
        watch_tree,
    )

    address = Address.parse(status)
    try:
        if watch:
            watch_tree(address, frames=frames)
        else:
            document = fetch_tree(address)
            text = as_document(document) if json else show(document, frames=frames)
            typer.echo(text.rstrip("\n"))
    except TreeError as error:
        _fail(error)


@contextmanager
def _progress_bar(size: int) -> Iterator[Callable[[str, int, int], None]]:
    """Draw a progress bar on standard error for a large list on a terminal; else nothing."""
    if size < PROGRESS_ABOVE or not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>9}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bars:
        task = bars.add_task("sending", total=size)

        def show(phase: str, done: int, total: int) -> None:
            waiting = phase == "sending" and done == total
            description = "sorting" if waiting else phase
            # Rich stops the clock of a task that is complete.
            bars.update(task, description=description, completed=done - waiting, total=total)

        yield show
