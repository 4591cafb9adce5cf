"""Who may import whom: the rules that keep the project legible, held by looking."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trio_services"
SANS_IO = PACKAGE / "sans_io"
COMPAT_PACKAGES = {"asyncio_originals", "asyncio_services", "anyio_services", "services_lab"}
OUTSIDE_WORLD = {
    "anyio",
    "asyncio",
    "logging",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "trio",
}
"""What a module that takes bytes and returns values has no use for: I/O, clocks, logs, tasks."""


def modules_under(folder: Path) -> list[Path]:
    """Return the Python files below `folder`, in a stable order."""
    return sorted(folder.rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """Yield the absolute name of everything that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide which layer is meant"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def run_python(code: str) -> str:
    """Run `code` in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


@pytest.mark.parametrize("path", modules_under(SANS_IO), ids=lambda path: path.stem)
def test_sans_io_knows_no_io(path: Path) -> None:
    """A module of `sans_io` imports neither Trio nor a socket, a clock or a log."""
    assert OUTSIDE_WORLD.isdisjoint(name.partition(".")[0] for name in imports_of(path))


@pytest.mark.parametrize("path", modules_under(SANS_IO), ids=lambda path: path.stem)
def test_sans_io_stands_on_nothing_of_ours(path: Path) -> None:
    """A module of `sans_io` imports from this package only what is in `sans_io` too."""
    ours = [name for name in imports_of(path) if name.partition(".")[0] == "trio_services"]
    assert all(name.startswith("trio_services.sans_io") for name in ours), ours


@pytest.mark.parametrize(
    "path", modules_under(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_servers_know_nothing_of_the_comparison(path: Path) -> None:
    """Nothing in `trio_services` imports anything that lives in `compat`."""
    assert COMPAT_PACKAGES.isdisjoint(name.partition(".")[0] for name in imports_of(path))


def test_nobody_imports_the_folder_compat() -> None:
    """`compat` is a folder: importing through it would load a second copy of each class."""
    folders = [PACKAGE, ROOT / "tests", ROOT / "compat", ROOT / "docs"]
    paths = [path for folder in folders for path in modules_under(folder)]
    assert Path(__file__) in paths
    offenders = [
        path for path in paths for name in imports_of(path) if name.partition(".")[0] == "compat"
    ]
    assert not offenders


def test_the_rules_are_able_to_fail(tmp_path: Path) -> None:
    """Each spelling of an import is seen, also inside a function."""
    module = tmp_path / "module.py"
    module.write_text(
        "import a.b, c as d\nfrom e.f import g\ndef function():\n    from h import i\n"
    )
    assert set(imports_of(module)) == {"a.b", "c", "e.f", "e.f.g", "h", "h.i"}


def test_importing_the_package_imports_nothing() -> None:
    """`import trio_services` adds one module to the process."""
    code = (
        "import sys; before = set(sys.modules); import trio_services;"
        "print(*(set(sys.modules) - before))"
    )
    assert run_python(code).split() == ["trio_services"]


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_imports_nothing_that_is_slow(arguments: list[str]) -> None:
    """`--help` needs no Trio, no dnspython and no numpy: what keeps it under 0.3 s."""
    code = (
        f"import sys; sys.argv = ['trio-services', *{arguments!r}]\n"
        "from trio_services.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "slow = {'trio', 'anyio', 'asyncio', 'dns', 'numpy', 'simdjson'}\n"
        "print('loaded:', *sorted(slow & set(sys.modules)))"
    )
    output = run_python(code)
    assert output.splitlines()[-1] == "loaded:"
    assert "serve" in output or "trio-services" in output
