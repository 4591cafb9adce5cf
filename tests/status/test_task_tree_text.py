"""Trees as text and as HTML: exactly as shown, and harmless whatever their names are."""

from html.parser import HTMLParser

import pytest
from hypothesis import given

from tests.status.trees import TREES, chain, nodes_of, nursery, task
from trio_services.status.await_stacks import Frame
from trio_services.status.task_tree import Scope, TaskNode
from trio_services.status.task_tree_text import (
    NAME_LENGTH,
    as_html,
    as_text,
    label,
    printable,
    waits_at,
)

SERVER = task(
    "serve",
    nursery("everything", task("signals"), task("workers", nursery(""))),
    nursery("in_flight", task("sort connection", count=1000), scope=Scope(deadline=29.23)),
    nursery("services", task("dns udp"), task("sort"), scope=Scope(0.0, True, True)),
)


def test_a_tree_is_drawn() -> None:
    """Nurseries stand below their task, tasks below their nursery, and each says what it is."""
    assert as_text(SERVER).splitlines() == [
        "serve",
        "├── nursery everything",
        "│   ├── signals",
        "│   └── workers",
        "│       └── nursery",
        "├── nursery in_flight, deadline in 29.2 s",
        "│   └── sort connection × 1,000",
        "└── nursery services, deadline passed, shielded, cancel called",
        "    ├── dns udp",
        "    └── sort",
    ]


def test_where_tasks_wait() -> None:
    """On demand each task tells where in the program, not in Trio, it waits."""
    text = as_text(task("main", nursery("all", task("child", count=2))), frames=True)
    assert text.splitlines() == [
        "main  at main.py:7 main",
        "└── nursery all",
        "    └── child × 2  at main.py:7 main",
    ]


def test_a_task_of_trio_itself() -> None:
    """A task that is nowhere but in Trio tells no place."""
    frame = Frame("C:\\trio\\_core\\_run.py", 1, "init", "trio._core._run")
    tree = TaskNode(1, "<init>", (frame,), (), starting=True)
    assert waits_at(tree) is None
    assert as_text(tree, frames=True) == "<init>, starting\n"


@pytest.mark.parametrize(
    ("deadline", "words"),
    [
        (0.0, "nursery n, deadline passed"),
        (0.04, "nursery n, deadline in 0.0 s"),
        (12345.678, "nursery n, deadline in 12,345.7 s"),
        (1e300, "nursery n, distant deadline"),
    ],
)
def test_deadlines(deadline: float, words: str) -> None:
    """A deadline is told in seconds, unless it means never."""
    assert label(nursery("n", scope=Scope(deadline))) == words


def test_a_deep_tree_is_cut() -> None:
    """What is nested deeper than asked for is only counted."""
    text = as_text(chain(5), depth=4)
    assert text.splitlines() == [
        "outer",
        "└── nursery nursery",
        "    └── outer",
        "        └── nursery nursery",
        "            └── outer",
        "                └── … 2 more tasks below",
    ]
    assert "… 2 more tasks below" in as_html(chain(5), depth=4)
    assert as_text(chain(5), depth=7).endswith("── … 1 more task below\n")
    assert as_text(chain(5), depth=8) == as_text(chain(5))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("sort connection", "sort connection"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202egnitirw", "\\u202egnitirw"),
        ("lone \udcff", "lone \\udcff"),
        ("größe 日本", "größe 日本"),
        ("a" * 1000, "a" * (NAME_LENGTH - 1) + "…"),
        ("a" * NAME_LENGTH, "a" * NAME_LENGTH),
    ],
)
def test_names_are_harmless_on_a_terminal(name: str, shown: str) -> None:
    """Control characters, reversed writing and endless names are escaped or cut."""
    assert printable(name) == shown
    assert as_text(task(name)) == f"{shown}\n"


class Lists(HTMLParser):
    """Reads the HTML of a tree; complains of tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.items: list[dict[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.open.append(tag)
        if tag == "li":
            self.items.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def read_html(html: str) -> Lists:
    """Return what is in a tree's HTML."""
    lists = Lists()
    lists.feed(html)
    lists.close()
    assert not lists.open
    return lists


def test_html_of_a_tree() -> None:
    """HTML has the same labels in the same order, in lists; names with HTML in them stay text."""
    name = '<img src=x onerror="alert(1)">&amp;'
    lists = read_html(as_html(task(name, nursery("n", task("child", number=3)))))
    assert lists.texts == [name, "nursery n", "child"]
    assert lists.items == [{"data-task": "1"}, {"data-nursery": "2"}, {"data-task": "3"}]


@given(TREES)
def test_any_tree_can_be_drawn(tree: TaskNode) -> None:
    """There is a line, and an item, for each task and each nursery; nothing gets out of it."""
    tasks, nurseries = nodes_of(tree)
    lines = as_text(tree, frames=True).split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(tasks) + len(nurseries)
    assert all(line.isprintable() for line in lines)
    assert len(read_html(as_html(tree, frames=True)).items) == len(lines)
