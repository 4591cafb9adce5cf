"""What the parts of a report's page are written with: text, links within the page, boxes."""

import re
from html import escape

from services_lab.experiment import Figure, Verdict
from services_lab.results import ExperimentResult

SPELT = {"ctrl c": "Ctrl-C", "dns": "DNS", "eof": "EOF", "sigterm": "SIGTERM", "tcp": "TCP"}
"""Words of names that are written in another way."""


def anchor(result: ExperimentResult) -> str:
    """Return where in the page an experiment is told."""
    return escape(result.name, quote=True)


def markup(text: str) -> str:
    """Return `text` as markup that shows it."""
    return escape(text, quote=True)


def name_of(result: ExperimentResult) -> str:
    """Return the name of an experiment for people."""
    words = result.name.replace("-", " ")
    for word, spelt in SPELT.items():
        words = re.sub(rf"\b{word}\b", spelt, words)
    return words


def look_of(verdict: Verdict) -> str:
    """Return the class of what has a verdict."""
    return verdict.name.lower()


def better(figure: Figure) -> str:
    """Return which values of a figure one would wish for; "" if neither."""
    if figure.lower_is_better is None:
        return ""
    return "lower is better" if figure.lower_is_better else "higher is better"


def scrolled(label: str) -> str:
    """Return the start of a box that scrolls sideways, so that the page need not."""
    return f'<div class="scrolled" role="region" tabindex="0" aria-label="{markup(label)}">'
