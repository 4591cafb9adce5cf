"""The runner of documents: it must not be able to pass by running nothing."""

import re

import pytest

from tests.docs.documents import DocumentError, blocks, is_output
from tests.docs.running import run_document

FENCE = "```"


def console(*lines: str) -> str:
    """Return a document of one console block."""
    return "\n".join([f"{FENCE}console", *lines, FENCE, ""])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (console("$ echo one", "two"), "2: .*shown:\ntwo\nreal:\none"),
        (console("$ echo one"), "2: "),
        (console("$ true", "one"), "2: "),
        (console("$ false"), "2: .*ended with 1, unseen"),
        (console("$ echo one", "one", "$ echo two", "three"), "4: "),
        (console("$ no-such-command"), "2: "),
        (console("one"), "2: output of no command"),
        (console(), "1: no command"),
        (console("$ make test", "..."), "2: .*mark it"),
        (f"{FENCE}sh\ntrue\n{FENCE}\n", "1: a block of 'sh'"),
        (f"{FENCE}\ntrue\n{FENCE}\n", "1: a block of 'nothing'"),
        ("Text\n\n    indented\n", "3: a block of 'nothing'"),
        (f"<!-- not run: -->\n{console('$ false')}", "2: not run, and no reason"),
        (f"<!-- not run: late -->\n\nText\n\n{console('$ false')}", "6: .*unseen"),
        (f"{FENCE}toml\nlog_requests = 1\n{FENCE}\n", "1: .*log_requests"),
        (f"{FENCE}python\nraise SystemExit(3)\n{FENCE}\n", "1: the script ended with 3"),
        (f"{FENCE}console\n$ false\n", "2: .*unseen"),
    ],
)
async def test_what_is_not_as_shown(document: str, reason: str) -> None:
    """A document that shows something else than what is, or hides something, is an error."""
    found = None
    try:
        await run_document(document)
    except* DocumentError as errors:
        found = errors
    assert found is not None
    assert re.match(reason, str(leaf(found)), re.DOTALL)


def leaf(error: BaseException) -> BaseException:
    """Return the one exception in a group."""
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    return error


async def test_commands_and_their_output() -> None:
    """Commands run in one folder, see the status of the one before, and may take several lines."""
    document = console(
        "$ echo one; echo two >&2", "one", "two",
        "$ cat > file <<END", "> three", "> END",
        "$ cat file", "three",
        "$ ls missing", "ls: ...: No such file or directory",
        "$ echo $?", "2",
        "$ seq 100", "1", "...", "100",
        "$ pwd", "…",
    )  # fmt: skip
    assert len(await run_document(document)) == 7


async def test_marks() -> None:
    """What is marked is not run, or is written to the file that the mark names."""
    document = (
        f"<!-- not run: it would end the world -->\n{console('$ exit 3')}\n"
        f"<!-- file: hosts -->\n{FENCE}text\n192.0.2.50 printer\n{FENCE}\n"
        f"{console('$ cat hosts', '192.0.2.50 printer')}"
        f"{FENCE}text\nto look at\n{FENCE}\n"
        f"{FENCE}toml\nlog_requests = true\n{FENCE}\n"
        f"{FENCE}python\nassert open('hosts').read() == '192.0.2.50 printer\\n'\n{FENCE}\n"
    )
    assert len(await run_document(document)) == 4


async def test_the_default_server() -> None:
    """Ports and default servers are those of the server that the test has started."""
    document = console(
        "$ trio-services query alpha.example", "alpha.example. 300 IN A 192.0.2.10",
        "$ .venv/bin/trio-services query beta.example --server 127.0.0.1:4343 --tcp",
        "beta.example. 300 IN A 192.0.2.20",
        "$ echo '[3,1,2]' | trio-services sort", "[1,2,3]",
        "$ echo 127.0.0.1:4343 | grep -c :4343", "1",
        "$ echo 4343", "4343",
        "$ trio-services query no.example", "no.example A: NXDOMAIN",
    )  # fmt: skip
    assert len(await run_document(document)) == 6


async def test_the_documents_own_server() -> None:
    """A command that serves is the server of what follows, with its options and its log."""
    document = (
        f"<!-- file: hosts -->\n{FENCE}text\n192.0.2.50 printer\n{FENCE}\n"
        + console(
            '$ make serve ARGS="--hosts hosts --no-sort"',
            "2026-11-22 08:43:05,351 INFO [8632] trio_services: dns on 127.0.0.1:4343",
        )
        + console("$ trio-services query printer", "printer. ... IN A 192.0.2.50")
        + console("$ trio-services serve --sort 127.0.0.1:7777 &", "...")
        + console("$ echo '[2,1]' | trio-services sort --server 127.0.0.1:7777", "[1,2]")
        + console(
            "$ trio-services serve --zone missing.zone",
            "trio-services: missing.zone: No such file or directory",
            "$ echo $?",
            "2",
        )
    )
    assert len(await run_document(document)) == 7


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("one\n", "one\n", True),
        ("one", "one\n", True),
        ("one  \n", "one\n", True),
        ("one\n", "one\ntwo\n", False),
        ("two\n", "one\ntwo\n", False),
        ("...\ntwo\n", "one\ntwo\n", True),
        ("one\n...\n", "one\n", True),
        ("...\n", "", True),
        ("", "", True),
        ("", "one\n", False),
        ("o...e\n", "one\n", True),
        ("o...e\n", "o\ne\n", False),
        ("o.e\n", "one\n", False),
        ("(1)\n", "(1)\n", True),
        (";; Query time: 0 msec\n", ";; Query time: 12 msec\n", True),
        ("status: NOERROR, id: 1\n", "status: NOERROR, id: 22\n", True),
        ("status: NOERROR, id: 1\n", "status: NXDOMAIN, id: 1\n", False),
        ("x INFO [1] y\n", "x INFO [22] y\n", True),
    ],
)
def test_output(shown: str, real: str, same: bool) -> None:
    """Dots stand for anything, what changes from run to run for itself, and all else for itself."""
    assert is_output(shown, real) is same


def test_document_without_blocks() -> None:
    """A document of prose has nothing to run; whoever expects something has to count."""
    assert list(blocks("# Title\n\nSome `code` in *prose*.\n")) == []
