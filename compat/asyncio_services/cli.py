"""The command line of the asyncio variant: `serve` with `--loop`, and the sleepers."""

import inspect
import random
from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from trio_services.cli import add_serve_command
from trio_services.cli import main as run_command_line
from trio_services.settings import ServeSettings, SettingsError

T = TypeVar("T")


class Loop(StrEnum):
    """Whose event loop runs the services."""

    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"


LoopOption = Annotated[Loop, typer.Option(help="Whose event loop.")]

app = typer.Typer(
    help="A static DNS server and a sort service on asyncio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    run_command_line(app)


def run_on(loop: Loop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end.

    Raises:
        SettingsError: The loop is not installed.
    """
    import asyncio

    factory = asyncio.new_event_loop
    if loop is Loop.UVLOOP:
        try:
            import uvloop
        except ImportError:
            main.close()
            raise SettingsError("uvloop is not installed") from None
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def serve_on(loop: Loop, settings: ServeSettings) -> int:
    """Serve until a signal; return the exit status.

    Raises:
        SettingsError: Something cannot be done as it was set.
    """
    from asyncio_services.app import serve
    from trio_services.logs import run_reporting
    from trio_services.startup import prepared

    if settings.processes > 1:
        raise SettingsError("processes: only trio-services runs more than one")
    if settings.status or settings.trace:
        raise SettingsError("status, trace: only trio-services shows itself")
    with prepared(settings) as ([sockets], zones):
        return run_reporting(run_on, loop, serve(settings, sockets, zones))


def _add_serve_with_loop(app: typer.Typer) -> None:
    """Add the command `serve` of all variants, with `--loop` as a further option.

    Typer reads options from the signature of a command, so one is made that has both.
    """
    chosen = Loop.ASYNCIO
    plain = typer.Typer()
    add_serve_command(plain, lambda settings: serve_on(chosen, settings))
    serve = plain.registered_commands[0].callback
    assert serve

    def serve_on_loop(loop: LoopOption = Loop.ASYNCIO, **options: object) -> None:
        nonlocal chosen
        chosen = loop
        serve(**options)

    parameters = inspect.signature(serve).parameters
    own = inspect.signature(serve_on_loop).parameters["loop"]
    serve_on_loop.__signature__ = inspect.Signature([own, *parameters.values()])  # type: ignore[attr-defined]
    serve_on_loop.__annotations__ |= serve.__annotations__
    app.command("serve", help=serve.__doc__)(serve_on_loop)


_add_serve_with_loop(app)


@app.command()
def sleepers(
    loop: LoopOption = Loop.ASYNCIO,
    count: Annotated[int, typer.Option(min=0, max=1000, help="How many.")] = 5,
    max_delay: Annotated[float, typer.Option(min=0, max=3600, help="The longest, seconds.")] = 5.0,
    seed: Annotated[int | None, typer.Option(help="For the same delays again.")] = None,
) -> None:
    """Run sleepers in a task group, and draw who slept when."""
    from asyncio_services.five_sleepers import draw_timeline, run_sleepers

    chance = random.Random(seed)
    delays = [chance.uniform(0, max_delay) for _ in range(count)]
    try:
        naps = run_on(loop, run_sleepers(delays, typer.echo))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo("\n" + draw_timeline(naps))
