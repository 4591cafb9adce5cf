"""How an experiment names whom it asks: a program for each library, or the variants as servers."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.util import find_spec

from services_lab.experiment import COLUMNS, EXHIBITS, Outcome, Subject
from services_lab.variants import EXHIBIT_VARIANTS, VARIANTS, Variant

Program = Callable[..., Awaitable[None]]

PACKAGE_FILES = {"dns": "dns_server.py", "sort": "sort_server.py"}
"""What to read of a variant, by service."""


def programs(
    *,
    original: Program | None = None,
    asyncio: Program | None = None,
    anyio: Program | None = None,
    trio: Program | None = None,
    uvloop: bool = False,
    others: Mapping[str, tuple[Program, str]] | None = None,
) -> tuple[Subject, ...]:
    """Return programs as subjects, in the order of the columns.

    Args:
        original: The program in the asyncio of the book; column `original`.
        asyncio: In today's asyncio; column `asyncio`.
        anyio: In AnyIO; columns `anyio-asyncio` and `anyio-trio`.
        trio: In Trio; column `trio`.
        uvloop: Whether to run them on uvloop too, where that may make a difference.
        others: Further columns, as `(program, runtime)`: an exhibit, a barrier.
    """
    found: dict[str, tuple[Program | None, str]] = {
        "original": (original, "asyncio"),
        "original-uvloop": (original if uvloop else None, "uvloop"),
        "asyncio": (asyncio, "asyncio"),
        "uvloop": (asyncio if uvloop else None, "uvloop"),
        "anyio-asyncio": (anyio, "anyio-asyncio"),
        "anyio-uvloop": (anyio if uvloop else None, "anyio-uvloop"),
        "anyio-trio": (anyio, "anyio-trio"),
        "trio": (trio, "trio"),
        **(others or {}),
    }
    return tuple(
        Subject(
            column=column,
            program=f"{program.__module__}:{program.__qualname__}",
            runtime=runtime,
            source=(f"compat/{program.__module__.replace('.', '/')}.py",),
        )
        for column, (program, runtime) in found.items()
        if program
    )


def servers(
    service: str = "",
    columns: Iterable[str] = COLUMNS,
    *,
    options: Iterable[str] = (),
    original_options: Iterable[str] = (),
) -> tuple[Subject, ...]:
    """Return variants as subjects, in the order of `columns`.

    Args:
        service: `dns` or `sort`: only that one is served, and the originals have their program of
            it. "" for both; the originals, which have one each, are left out then.
        columns: Which.
        options: Further arguments of all but the originals.
        original_options: Further arguments of the originals, which know others.
    """
    other = {"dns": ("--no-sort",), "sort": ("--no-dns",), "": ()}[service]
    found = []
    for column in columns:
        is_original = column.startswith("original")
        if is_original and not service:
            continue
        name = column.replace("original", f"original-{service}") if is_original else column
        variant = EXHIBIT_VARIANTS.get(name) or VARIANTS[name]
        found.append(
            Subject(
                column=column,
                variant=variant,
                options=tuple(original_options) if is_original else (*other, *options),
                source=_source(variant, (service,) if service else variant.services),
            )
        )
    return tuple(found)


def _source(variant: Variant, services: Iterable[str]) -> tuple[str, ...]:
    if variant.name in EXHIBIT_VARIANTS:
        return (f"compat/services_lab/exhibits/{variant.name.replace('-', '_')}.py",)
    package = variant.package
    folder = package if package == "trio_services" else f"compat/{package}"
    files = [PACKAGE_FILES[each] for each in services]
    if not variant.is_original:
        files.append("app.py")  # how the services are put together, and end
    return tuple(f"{folder}/{file}" for file in files)


def missing(subject: Subject) -> str:
    """Return why a subject cannot be asked here, in words; "" if it can."""
    if subject.variant:
        return subject.variant.missing() or ""
    absent = [
        each
        for each in subject.runtime.split("-")
        if each not in ("asyncio",) and find_spec(each) is None
    ]
    return f"{' and '.join(absent)} not installed" if absent else ""


def runtime_version(subject: Subject) -> str:
    """Return what a subject runs on, with versions, for people: `anyio 4.16.0 on trio 0.35.0`."""
    if subject.variant:
        return subject.variant.runtime_version()
    runtime = tuple(subject.runtime.split("-"))
    return Variant(name=subject.column, package="", runtime=runtime).runtime_version()


def expect(
    *outcomes: Outcome, **columns: Outcome | Iterable[Outcome]
) -> Mapping[str, frozenset[Outcome]]:
    """Return an experiment's `expected`: which outcomes are right for which column.

    Args:
        outcomes: For all columns that are not named, the usual ones and the exhibits.
        columns: For one, with `_` for `-` in its name; several where more than one is right.
    """
    named = (*COLUMNS, *EXHIBITS) if outcomes else ()
    found = dict.fromkeys(named, frozenset(outcomes))
    for name, right in columns.items():
        found[name.replace("_", "-")] = frozenset({right} if isinstance(right, Outcome) else right)
    return found
