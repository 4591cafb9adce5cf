"""A task tree for people: as text for terminals and logs, as HTML for a page.

    trio_services.app.serve
    ├── nursery everything
    │   ├── signals
    │   └── workers
    ├── nursery in_flight, deadline in 29.2 s
    │   └── sort connection × 1,000
    └── nursery services, cancel called
        ├── dns udp
        └── sort

A task's nurseries stand below it, outer before inner, and below each nursery its tasks. Names come
from the program, and may come from its peers: what a terminal or a browser could take for more than
a character is escaped. Nothing recurses, and what is nested deeper than DEPTH is only counted.
"""

from collections.abc import Iterator, Sequence
from html import escape

from trio_services.status.await_stacks import Frame
from trio_services.status.task_tree import NurseryNode, Scope, TaskNode, count_tasks

DEPTH = 100
"""Levels that are drawn; a task and its nurseries are two. Indented lines of 5,000 levels would be
100 MB, and browsers stop nesting after 512."""

NAME_LENGTH = 200
"""Characters of a name that are shown: more than a line holds."""

DISTANT = 366 * 86400.0
"""Seconds from which on a deadline is just said to be distant: some programs mean "never" by it."""

Node = TaskNode | NurseryNode


def as_text(tree: TaskNode, *, frames: bool = False, depth: int = DEPTH) -> str:
    """Return a tree as lines, each ended by a newline.

    Args:
        tree: What to draw.
        frames: Whether to tell where each task waits.
        depth: Levels that are drawn.
    """
    lines = []
    ahead: list[tuple[Node, str, str, int]] = [(tree, "", "", 0)]
    while ahead:
        node, lead, indent, level = ahead.pop()
        lines.append(f"{lead}{label(node, frames=frames)}\n")
        children = _children(node)
        if children and level == depth:
            lines.append(f"{indent}└── {_deeper(node)}\n")
            continue
        for child in reversed(children):
            is_last = child is children[-1]
            ahead.append(
                (
                    child,
                    indent + ("└── " if is_last else "├── "),
                    indent + ("    " if is_last else "│   "),
                    level + 1,
                )
            )
    return "".join(lines)


def as_html(tree: TaskNode, *, frames: bool = False, depth: int = DEPTH) -> str:
    """Return a tree as nested lists, `<ul class="task-tree">`; what has children can be closed.

    Each item has `data-task` or `data-nursery` with its number.

    Args:
        tree: What to draw.
        frames: Whether to tell where each task waits.
        depth: Levels that are drawn.
    """
    return f'<ul class="task-tree">{"".join(_html(tree, frames, depth))}</ul>'


def _html(tree: TaskNode, frames: bool, depth: int) -> Iterator[str]:
    ahead: list[tuple[Node, int] | str] = [(tree, 0)]
    while ahead:
        step = ahead.pop()
        if isinstance(step, str):
            yield step
            continue
        node, level = step
        kind = "task" if isinstance(node, TaskNode) else "nursery"
        text = escape(label(node, frames=frames))
        yield f'<li data-{kind}="{node.number}">'
        if not (children := _children(node)):
            yield f"<span>{text}</span></li>"
            continue
        yield f"<details open><summary>{text}</summary><ul>"
        ahead.append("</ul></details></li>")
        if level == depth:
            yield f"<li>{_deeper(node)}</li>"
        else:
            ahead += [(child, level + 1) for child in reversed(children)]


def label(node: Node, *, frames: bool = False) -> str:
    """Return what is said of a task or a nursery in one line, without control characters."""
    if isinstance(node, NurseryNode):
        notes = [f"nursery {printable(node.name)}".rstrip(), *_scope_notes(node.scope)]
        return ", ".join(notes)
    times = f" × {node.count:,}" if node.count > 1 else ""
    starting = ", starting" if node.starting else ""
    place = waits_at(node) if frames else None
    where = f"  at {printable(describe(place))}" if place else ""
    return f"{printable(node.name)}{times}{starting}{where}"


def waits_at(task: TaskNode) -> Frame | None:
    """Return the innermost place of a task that is not in Trio itself; None if there is none."""
    for frame in reversed(task.frames):
        if frame.module.partition(".")[0] != "trio":
            return frame
    return None


def describe(frame: Frame) -> str:
    """Return a place in short: `sort_server.py:120 handle_sort_stream`."""
    file = frame.file.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{frame.line} {frame.function}"


def printable(text: str) -> str:
    """Return `text` with what does not print as a character escaped, and not too long."""
    if len(text) > NAME_LENGTH:
        text = text[: NAME_LENGTH - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _children(node: Node) -> Sequence[Node]:
    return node.nurseries if isinstance(node, TaskNode) else node.tasks


def _deeper(node: Node) -> str:
    tasks = (
        count_tasks(node) // node.count - 1
        if isinstance(node, TaskNode)
        else sum(map(count_tasks, node.tasks))
    )
    return f"… {tasks:,} more {'task' if tasks == 1 else 'tasks'} below"


def _scope_notes(scope: Scope) -> Iterator[str]:
    if scope.deadline is not None:
        if scope.deadline > DISTANT:
            yield "distant deadline"
        else:
            yield f"deadline in {scope.deadline:,.1f} s" if scope.deadline else "deadline passed"
    if scope.shielded:
        yield "shielded"
    if scope.cancel_called:
        yield "cancel called"
