"""What a document shows that can be run, and whether an output is the one that it shows.

- ```` ```console ````: `$ ` begins a command, `> ` goes on with it, all else is its output.
- ```` ```toml ````: settings that `--config` takes.
- ```` ```python ````: a script.
- ```` ```text ````, ```` ```mermaid ````: to look at.
- Anything under `<!-- file: NAME -->` is written to that file, for the commands that follow.
- Anything under `<!-- not run: REASON -->` is left alone.

Whatever is none of these is an error, so that nothing is shown that is not run and does not say so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

RUN = {"console", "toml", "python"}
LOOKED_AT = {"text", "mermaid"}

_MARK = re.compile(r"<!--\s*(not run|file):\s*(.*?)\s*-->\s*", re.DOTALL)

VOLATILE = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d{3})?( UTC)?", "<time>"),
    (r"(INFO|WARNING|ERROR|CRITICAL) \[\d+\]", r"\1 [<process>]"),
    (r"\bid: \d+", "id: <id>"),
    (r"Query time: \d+ msec", "Query time: <time>"),
    (r"\bin \d+\.\d+ ms\b", "in <time>"),
    (r"WHEN: .*", "WHEN: <time>"),
    (r"<<>> DiG \S+ <<>>", "<<>> DiG <version> <<>>"),
    (r"[ \t]+$", ""),
]
"""What differs from run to run in the log and in what DNS clients print."""


class DocumentError(AssertionError):
    """A document that shows something else than what is; the text begins with its line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of code. `file` is where it is to be written."""

    language: str
    text: str
    line: int
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command and the output that is shown below it."""

    text: str
    output: str
    line: int


def blocks(document: str) -> Iterator[Block]:
    """Yield the blocks of a Markdown document that are to be run or written.

    Raises:
        DocumentError: A block is none that can be run, and has no mark that says why.
    """
    mark: re.Match[str] | None = None
    for token in MarkdownIt().parse(document):
        if token.type == "html_block":
            mark = _MARK.fullmatch(token.content)
            continue
        if token.type in {"fence", "code_block"} and token.map:
            block = Block(token.info.strip(), token.content, token.map[0] + 1)
            if mark and mark[1] == "file":
                yield Block("file", block.text, block.line, mark[2])
            elif mark and not mark[2]:
                raise DocumentError(f"{block.line}: not run, and no reason")
            elif not mark and block.language in RUN:
                yield block
            elif not mark and block.language not in LOOKED_AT:
                raise DocumentError(f"{block.line}: a block of {block.language or 'nothing'!r}")
        mark = None


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block.

    Raises:
        DocumentError: It does not begin with one.
    """
    text, output, line = "", "", 0
    for number, shown in enumerate(block.text.splitlines(keepends=True), block.line + 1):
        if shown.startswith("$ "):
            if text:
                yield Command(text, output, line)
            text, output, line = shown[2:], "", number
        elif not text:
            raise DocumentError(f"{number}: output of no command")
        elif shown.startswith("> ") and not output:
            text += shown[2:]
        else:
            output += shown
    if not text:
        raise DocumentError(f"{block.line}: no command")
    yield Command(text, output, line)


def is_output(shown: str, real: str, *, begins: bool = False) -> bool:
    """Tell whether `real` is the output that is `shown`.

    `...` or `…` stands for anything in a line, and alone in a line for any lines. `begins` asks
    only whether the output begins with it.
    """
    lines = []
    for line in _steady(shown).splitlines():
        if line.strip() in {"...", "…"}:
            lines.append("(?:.*\n)*")
        else:
            lines.append(".*".join(map(re.escape, re.split(r"\.\.\.|…", line))) + "\n")
    pattern = "".join(lines) + ("(?:.*\n)*" if begins else "")
    return (
        re.fullmatch(pattern, "".join(f"{line}\n" for line in _steady(real).splitlines()))
        is not None
    )


def _steady(text: str) -> str:
    for pattern, stand_in in VOLATILE:
        text = re.sub(pattern, stand_in, text, flags=re.MULTILINE)
    return text.rstrip("\n")
