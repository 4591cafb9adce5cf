"""What all pictures have in common: colours, sizes of text, and writing SVG.

Pictures are written as SVG by hand: text stays text (selected, searched, read aloud), colours are
CSS variables, so that one picture serves light and dark, and the result is the same every time. A
picture has no `<style>` of its own: a page includes STYLE once, a file gets it from `standalone`.

Every picture can be drawn WIDE and NARROW, with the same size of text, for text that shrinks with
its picture cannot be read on a phone; `both` is the two, of which a page shows one.

Colours are those of Okabe and Ito, which colour-blind people tell apart ("Color Universal Design",
2008); what they mean is always told by shape or words too.

Text is not measured but estimated, for nobody knows the reader's font: as wide as in DejaVu Sans,
which is wider than the other common ones.
"""

from collections.abc import Callable, Mapping
from html import escape
from unicodedata import category

WIDE = 760
"""Units, of one CSS pixel at least: the width of a column of text on a screen."""

NARROW = 350
"""The same for a phone 390 pixels wide, without the margins of a page."""

BREAKPOINT = 620
"""Pixels of the window below which a page shows the narrow picture."""

TEXT = 13
"""The size of text."""

SMALL = 12
"""The size of numbers at an axis, and of other small print."""

LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "dim": "#57606a", "grid": "#d8dee4",
    "run": "#0072b2", "wait": "#8c959f", "cancel": "#c04000", "orphan": "#a06000",
    "1": "#0072b2", "2": "#c04000", "3": "#007a58", "4": "#a8487f",
    "5": "#7a6a00", "6": "#3d7ea6", "7": "#6e7781", "8": "#1b1f24",
}  # fmt: skip

DARK = {
    "paper": "#14171b", "ink": "#e9edf1", "dim": "#a4adb8", "grid": "#373e47",
    "run": "#56b4e9", "wait": "#76818d", "cancel": "#ff8f5a", "orphan": "#f0b840",
    "1": "#56b4e9", "2": "#ff8f5a", "3": "#2cc99a", "4": "#e08cbc",
    "5": "#e6d040", "6": "#9fd0ee", "7": "#98a2ad", "8": "#e9edf1",
}  # fmt: skip
"""Colours by name, as light as the others are dark; the numbers are for what is compared."""


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f" --lab-{name}: {colour};" for name, colour in colours.items())


def _looks() -> str:
    """Return a class for lines, and one for areas, of each colour."""
    return "".join(
        f".lab .lab-{name} {{ stroke: var(--lab-{name}); }}\n"
        f".lab .lab-fill-{name} {{ fill: var(--lab-{name}); stroke: none; }}\n"
        for name in LIGHT
    )


STYLE = f"""\
.lab {{{_variables(LIGHT)}
  font: {TEXT}px system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  display: block; width: 100%; height: auto; }}
@media (prefers-color-scheme: dark) {{ .lab {{{_variables(DARK)} }} }}
.lab path, .lab line {{ fill: none; stroke: var(--lab-ink); }}
{_looks()}\
.lab .lab-mark {{ stroke-dasharray: 4 3; }}
.lab .lab-thin {{ stroke: var(--lab-dim); }}
.lab text {{ fill: var(--lab-ink); }}
.lab .lab-small {{ font-size: {SMALL}px; fill: var(--lab-dim); }}
.lab .lab-bold {{ font-weight: 650; }}
.lab .lab-bad {{ fill: var(--lab-cancel); }}
.lab .lab-lost {{ fill: var(--lab-orphan); }}
.lab .lab-over {{ paint-order: stroke; stroke: var(--lab-paper); stroke-width: 4px;
  stroke-linejoin: round; }}
.lab-narrow {{ max-width: {BREAKPOINT}px; }}
.lab-wide {{ max-width: {WIDE * 1.2:.0f}px; }}
@media (min-width: {BREAKPOINT + 0.02}px) {{ .lab-both > .lab-narrow {{ display: none; }} }}
@media (max-width: {BREAKPOINT}px) {{ .lab-both > .lab-wide {{ display: none; }} }}
"""
"""The style sheet of all pictures. A page may set the variables anew."""

_NARROW_LETTERS = frozenset("iljtfrI.,:;'|!()[]- ")
_BROAD_LETTERS = frozenset("mwMW@%…—×")


def text_width(text: str, size: float = TEXT) -> float:
    """Return how wide `text` is at most, in units."""
    narrow = sum(letter in _NARROW_LETTERS for letter in text)
    broad = sum(
        letter in _BROAD_LETTERS or letter > "\u2e7f" or not letter.isprintable() for letter in text
    )
    upper = sum(letter.isupper() for letter in text)
    return size * (0.64 * len(text) - 0.24 * narrow + 0.37 * broad + 0.11 * upper)


def shortened(text: str, width: float, size: float = TEXT) -> str:
    """Return `text`, or as much of it as fits into `width` units, with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def printable(text: str) -> str:
    """Return `text` without what XML cannot hold and people cannot see."""
    return "".join(
        each if each.isprintable() or category(each) == "Zs" else "\N{REPLACEMENT CHARACTER}"
        for each in text
    )


def tag(name: str, content: str = "", **attributes: float | str) -> str:
    """Return an element; `content` is markup, attributes are escaped.

    Underscores in names become dashes, and one at the end goes: `class_`, `stroke_width`. Numbers
    are given to a tenth of a unit.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value != ""
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _value(value: float | str) -> str:
    return escape(printable(value)) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Return a coordinate, to a tenth of a unit."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def label(x: float, y: float, text: str, class_: str = "", anchor: str = "") -> str:
    """Return `text` with its baseline at y."""
    return tag("text", escape(printable(text)), x=x, y=y, class_=class_, text_anchor=anchor)


def hint(text: str) -> str:
    """Return what is shown where a pointer rests on an element: its first child."""
    return tag("title", escape(printable(text)))


def picture(width: float, height: float, title: str, description: str, content: str) -> str:
    """Return an SVG document without a style sheet.

    Args:
        width, height: In units.
        title: What it shows; the accessible name.
        description: The same in words, for those who do not see it.
        content: Markup.
    """
    head = hint(title) + tag("desc", escape(printable(description)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img"'
        f' class="lab {"lab-wide" if width >= BREAKPOINT else "lab-narrow"}"'
        f' viewBox="0 0 {number(width)} {number(height)}">{head}{content}</svg>'
    )


def both(draw: Callable[[int], str]) -> str:
    """Return HTML with the picture in both widths, of which STYLE shows the one that fits.

    Args:
        draw: Returns the picture, given a width.
    """
    return f'<div class="lab-both">{draw(WIDE)}{draw(NARROW)}</div>'


def standalone(svg: str) -> str:
    """Return a picture as a file of its own: with its style, and with paper behind it."""
    style = f"<style>{STYLE}.lab {{ background: var(--lab-paper); }}</style>"
    return svg.replace("</desc>", f"</desc>{style}", 1)
