"""Running a document: its commands against a server of its own, on free ports.

The ports that a document names are replaced, in commands and in their output, by those of the
server that runs in the test: 4343, 2015 and 8043, or what the document's own `make serve` or
`trio-services serve` says. Such a command is not run by the shell; the server is started anew with
its options. The clients' default server is replaced too.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from tests.docs.documents import Block, Command, DocumentError, blocks, commands, is_output
from tests.system.serving import PATIENCE, ROOT, Server, environment, serving
from trio_services.settings import SettingsError, read_settings

DEFAULT_PORTS = {"dns": 4343, "sort": 2015, "status": 8043}

SHIM = """\
#!/bin/sh
# `trio-services` as documents name it, with the test's server as the default.
case " $* " in *" --server"* | *" --status"*) ;; *)
    case "$1" in
        query) set -- "$@" --server {dns} ;;
        sort) set -- "$@" --server {sort} ;;
        tree) set -- "$@" --status {status} ;;
    esac ;;
esac
exec {python} -m trio_services "$@"
"""

_SERVE = re.compile(r"(?:make serve|(?:\.venv/bin/)?trio-services serve)\b(?!.*--help)")
_OTHER_MAKE = re.compile(r"make (?!serve\b)")


@dataclass(slots=True)
class Section:
    """What runs against one server: blocks and commands, in order.

    `serve` is the command that starts it, None for a server with default options.
    """

    serve: Command | None = None
    steps: list[Block | Command] = field(default_factory=list)


def sections(found: Iterable[Block]) -> list[Section]:
    """Divide the blocks of a document by the server that they run against."""
    result = [Section()]
    for block in found:
        for step in commands(block) if block.language == "console" else [block]:
            # One that shows an error is to be run, not to be a server.
            if (
                isinstance(step, Command)
                and _SERVE.match(step.text)
                and "trio-services: " not in step.output
            ):
                result.append(Section(step))
            else:
                result[-1].steps.append(step)
    return result


async def run_document(document: str) -> list[str]:
    """Run everything in a Markdown document; return what was run, as the document has it.

    Raises:
        DocumentError: Something is not as it is shown.
    """
    done: list[str] = []
    with TemporaryDirectory() as folder:
        _link_project(Path(folder))
        for section in sections(blocks(document)):
            done += await _run_section(section, Path(folder))
    return done


async def _run_section(section: Section, folder: Path) -> list[str]:
    if not section.serve and not section.steps:
        return []
    options, documented = _server_options(section.serve)
    async with serving(*options, cwd=folder) as server:
        ports = _ports(server, documented)
        if section.serve:
            await _check_log(server, section.serve, ports)
        runner = _Runner(folder, server, ports)
        for step in section.steps:
            await runner.run(step)
    return [step.text for step in (section.serve, *section.steps) if step]


def _link_project(folder: Path) -> None:
    """Make the files of the project visible in `folder`, so that new ones do not land in it."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)


def _server_options(serve: Command | None) -> tuple[list[str], dict[str, int]]:
    """Return options that serve on free ports, and the ports that the document speaks of."""
    words = shlex.split(serve.text.strip().removesuffix("&")) if serve else []
    arguments = next((word for word in words if word.startswith("ARGS=")), None)
    options = shlex.split(arguments[5:]) if arguments else words[2:]
    documented = dict(DEFAULT_PORTS)
    for service in DEFAULT_PORTS:
        for place, word in enumerate(options):
            if word == f"--{service}":
                address, _, port = options[place + 1].rpartition(":")
                documented[service] = int(port)
                options[place + 1] = f"{address}:0"
    if "--status" not in options and "--no-status" not in options:
        options += ["--status", "127.0.0.1:0"]
    return options, documented


def _ports(server: Server, documented: dict[str, int]) -> dict[str, str]:
    """Return by what to replace the ports of a document."""
    real = server.ports()
    return {
        str(port): str(real[service]) for service, port in documented.items() if service in real
    }


def _replace_ports(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"\b\d+\b", lambda found: ports.get(found[0], found[0]), text)


async def _check_log(server: Server, serve: Command, ports: dict[str, str]) -> None:
    """Wait until the server has logged what is shown.

    Raises:
        DocumentError: It does not.
    """
    shown = _replace_ports(serve.output, ports)
    try:
        with trio.fail_after(PATIENCE):
            while not is_output(shown, "\n".join(server.lines), begins=True):
                await server.news()
    except trio.TooSlowError:
        raise DocumentError(f"{serve.line}: the server does not log this") from None


class _Runner:
    """Runs the steps of a section."""

    def __init__(self, folder: Path, server: Server, ports: dict[str, str]) -> None:
        self._folder = folder
        self._ports = ports
        self._status = 0
        real = server.ports()
        shim = server.folder / "trio-services"
        shim.write_text(
            SHIM.format(
                python=sys.executable,
                dns=f"127.0.0.1:{real.get('dns')}",
                sort=f"127.0.0.1:{real.get('sort')}",
                status=f"127.0.0.1:{real.get('status')}",
            )
        )
        shim.chmod(0o755)
        path = os.pathsep.join([str(server.folder), str(Path(sys.executable).parent)])
        self._environment = environment()
        self._environment["PATH"] = f"{path}{os.pathsep}{self._environment['PATH']}"

    async def run(self, step: Block | Command) -> None:
        """Run one step; raises DocumentError if something is not as shown."""
        if isinstance(step, Command):
            await self._run_command(step)
        elif step.file:
            (self._folder / step.file).write_text(step.text)
        elif step.language == "toml":
            settings = self._folder / "settings.toml"
            settings.write_text(step.text)
            try:
                read_settings(str(settings))
            except SettingsError as error:
                raise DocumentError(f"{step.line}: {error}") from None
        else:
            status, output = await self._execute([sys.executable, "-c", self._real(step.text)])
            if status:
                raise DocumentError(f"{step.line}: the script ended with {status}:\n{output}")

    async def _run_command(self, command: Command) -> None:
        if _OTHER_MAKE.match(command.text):
            raise DocumentError(f"{command.line}: {command.text} takes long: mark it as not run")
        text = self._real(command.text).replace(".venv/bin/", "")
        # What the one before ended with is what `$?` is for this one.
        self._status, output = await self._execute(["bash", "-c", f"(exit {self._status})\n{text}"])
        shown = self._real(command.output)
        if not is_output(shown, output):
            raise DocumentError(f"{command.line}: $ {text}shown:\n{shown}real:\n{output}")
        if self._status and not shown:
            raise DocumentError(f"{command.line}: $ {text}ended with {self._status}, unseen")

    async def _execute(self, command: list[str]) -> tuple[int, str]:
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                command,
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
                cwd=self._folder,
                env=self._environment,
            )
        return done.returncode, done.stdout.decode()

    def _real(self, text: str) -> str:
        return _replace_ports(text, self._ports)
