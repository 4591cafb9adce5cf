"""The command line of the AnyIO variant: `trio-services serve` with `--backend`, and the sleepers.

A backend is imported only when it is chosen, so a server on asyncio or uvloop never loads Trio.
"""

import inspect
import random
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from trio_services.cli import add_serve_command
from trio_services.cli import main as run_command_line
from trio_services.settings import ServeSettings, SettingsError


class Backend(StrEnum):
    """What AnyIO runs on."""

    TRIO = "trio"
    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"


BackendOption = Annotated[Backend, typer.Option(help="What AnyIO runs on.")]

app = typer.Typer(
    help="A static DNS server and a sort service on AnyIO.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    run_command_line(app)


def run_on(backend: Backend) -> Callable[..., Any]:
    """Return `anyio.run` for a backend.

    Raises:
        SettingsError: It is not installed.
    """
    from importlib.util import find_spec

    import anyio

    if find_spec(backend) is None:
        raise SettingsError(f"{backend} is not installed")
    if backend is Backend.TRIO:
        return partial(anyio.run, backend="trio")
    options = {"use_uvloop": backend is Backend.UVLOOP}
    return partial(anyio.run, backend="asyncio", backend_options=options)


def serve_on(backend: Backend, settings: ServeSettings) -> int:
    """Serve until a signal; return the exit status.

    Raises:
        SettingsError: Something cannot be done as it was set.
    """
    from anyio_services.app import serve
    from trio_services.logs import run_reporting
    from trio_services.startup import prepared

    if settings.processes > 1:
        raise SettingsError("processes: only trio-services runs more than one")
    if settings.status or settings.trace:
        raise SettingsError("status, trace: only trio-services shows itself")
    run = run_on(backend)
    with prepared(settings) as ([sockets], zones):
        return run_reporting(run, serve, settings, sockets, zones)


def _add_serve_with_backend(app: typer.Typer) -> None:
    """Add the command `serve` of all variants, with `--backend` as a further option.

    Typer reads options from the signature of a command, so one is made that has both.
    """
    chosen = Backend.TRIO
    plain = typer.Typer()
    add_serve_command(plain, lambda settings: serve_on(chosen, settings))
    serve = plain.registered_commands[0].callback
    assert serve

    def serve_on_backend(backend: BackendOption = Backend.TRIO, **options: object) -> None:
        nonlocal chosen
        chosen = backend
        serve(**options)

    parameters = inspect.signature(serve).parameters
    own = inspect.signature(serve_on_backend).parameters["backend"]
    serve_on_backend.__signature__ = inspect.Signature([own, *parameters.values()])  # type: ignore[attr-defined]
    serve_on_backend.__annotations__ |= serve.__annotations__
    app.command("serve", help=serve.__doc__)(serve_on_backend)


_add_serve_with_backend(app)


@app.command()
def sleepers(
    backend: BackendOption = Backend.TRIO,
    count: Annotated[int, typer.Option(min=0, max=1000, help="How many.")] = 5,
    max_delay: Annotated[float, typer.Option(min=0, max=3600, help="The longest, seconds.")] = 5.0,
    seed: Annotated[int | None, typer.Option(help="For the same delays again.")] = None,
) -> None:
    """Run sleepers in a task group, and draw who slept when."""
    from anyio_services.five_sleepers import draw_timeline, run_sleepers

    chance = random.Random(seed)
    delays = [chance.uniform(0, max_delay) for _ in range(count)]
    try:
        naps = run_on(backend)(run_sleepers, delays, typer.echo)
    except* KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo("\n" + draw_timeline(naps))
