"""The report as a page: results in, one HTML document out, which needs nothing else.

    what was run, where, when
    the matrix                 a row for each experiment, a column for each variant
    each experiment            question, why, outcomes and figures, pictures, evidence, programs
    the conditions             and the command that repeats it
    the sources                every file that the sections name

There is no script, and a Content-Security-Policy that would allow none: what is folded away is in
`<details>`. All text of results is escaped; it holds what servers logged. Colour repeats what a
sign and a word say.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from services_lab.experiment import COLUMNS, Family, Figure, Verdict
from services_lab.pictures.drawings import Drawing, drawings
from services_lab.pictures.style import STYLE, both
from services_lab.results import ColumnResult, ExperimentResult, Results
from services_lab.sources import source_text
from services_lab.statistics import ratio_to_base, spread
from services_lab.units import human, human_ratio, human_spread

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""Nothing is loaded and nothing is run; the style sheet stands in the page."""

FAMILIES = {
    Family.BEHAVIOUR: ("Behaviour", "What happens when something goes wrong."),
    Family.SPEED: ("Speed", "What a request costs, with the same work done."),
    Family.CLAIM: ("Claims", "What books and blogs repeat, measured."),
}

SIGNS = {
    Verdict.GOOD: "as one would wish",
    Verdict.FAIR: "with a catch",
    Verdict.BAD: "a trap",
}

RATIO = "×0.5"
"""A sign for what is measured: half of the first in its row."""

SPELT = {"ctrl c": "Ctrl-C", "dns": "DNS", "eof": "EOF", "sigterm": "SIGTERM", "tcp": "TCP"}
"""Words of names that are written in another way."""

MOST_COLUMNS = 6
"""Columns of a table whose cells have their ratios beside the values; below, where there are more.
"""

LAST = 1000
"""Where experiments stand that no difference in docs is about: after the others."""

NOT_HERE = "–"
"""The sign of what could not be asked on this machine."""

FAILED = "!"
"""The sign of an observation that could not be made."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What the matrix says of one column of one experiment."""

    sign: str
    look: str
    words: str
    short: str = ""


def page(results: Results) -> str:
    """Return the report of `results` as an HTML document."""
    style = STYLE + Path(__file__).with_name("report.css").read_text()
    experiments = sorted(results.experiments, key=_order)
    unexpected = [each for each in experiments if each.complaints]
    parts = [
        _head(results, unexpected),
        _matrix(experiments),
        *(_family(family, experiments) for family in Family),
        _conditions(results),
        _sources(experiments),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>The services lab: what a nursery changes</title>\n<style>\n{style}</style>\n"
        "</head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body>\n</html>\n"
    )


def _order(result: ExperimentResult) -> tuple[int, str]:
    """Return where an experiment stands: as in the table of differences, simple things first."""
    return min(result.differences, default=LAST), result.name


def _head(results: Results, unexpected: Sequence[ExperimentResult]) -> str:
    told = results.conditions
    versions = ", ".join(f"{name} {told.versions[name]}" for name in ("trio", "anyio", "uvloop")
                         if name in told.versions)  # fmt: skip
    line = (
        f"{told.began[:16].replace('T', ' ')} · Python {told.python.partition(' ')[0]} · "
        f"{versions} · {told.processor}, {told.cores} cores · {told.system}"
    )
    notes = []
    if told.quick:
        notes.append("Quick: one round each, rough figures.")
    if results.interrupted:
        notes.append("Interrupted: what had been measured by then.")
    if unexpected:
        links = ", ".join(f'<a href="#{_id(each)}">{_t(each.name)}</a>' for each in unexpected)
        notes.append(f"<strong>Not as expected:</strong> {links}.")
    elif results.experiments:
        notes.append(f"All {len(results.experiments)} experiments ended as expected.")
    return (
        "<header>\n<h1>What a nursery changes</h1>\n"
        '<p class="lead">The same services on asyncio, uvloop, AnyIO and Trio, asked the same '
        "questions on one machine, in one run.</p>\n"
        f'<p class="dim">{_t(line)}</p>\n<p>{" ".join(notes)}</p>\n</header>'
    )


def _matrix(experiments: Sequence[ExperimentResult]) -> str:
    if not experiments:
        return "<p>Nothing was measured.</p>"
    present = {_place(each.column)[0] for one in experiments for each in one.columns}
    columns = [each for each in COLUMNS if each in present]
    head = "".join(f'<th scope="col"><span>{_t(name)}</span></th>' for name in columns)
    bodies = []
    for family in Family:
        rows = [_matrix_row(each, columns) for each in experiments if each.family is family]
        if rows:
            title = FAMILIES[family][0]
            bodies.append(
                f'<tbody>\n<tr class="group"><th scope="rowgroup">{title}</th>'
                f'<td colspan="{len(columns)}"></td></tr>\n' + "\n".join(rows) + "\n</tbody>"
            )
    signs = [f'<span class="{_look(each)}">{each.value}</span> {told}'
             for each, told in SIGNS.items()]  # fmt: skip
    signs.append(f"<span>{RATIO}</span> measured: half of the first in the row")
    signs.append("empty: not asked")
    if any(each.missing for one in experiments for each in one.columns):
        signs.append(f"<span>{NOT_HERE}</span> not to be had here")
    return (
        '<section aria-labelledby="matrix">\n<h2 id="matrix">At a glance</h2>\n'
        '<p class="legend"><b>original</b>: asyncio as the book had it · <b>asyncio</b>: as it is '
        f"written today, with TaskGroup<br>{' · '.join(signs)}</p>\n"
        f'{_scrolled("the matrix")}<table class="matrix">\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n"
        + "\n".join(bodies)
        + "\n</table></div>\n</section>"
    )


def _matrix_row(result: ExperimentResult, columns: Sequence[str]) -> str:
    cells: dict[str, list[Cell]] = defaultdict(list)
    for column in result.columns:
        name, kind = _place(column.column)
        cells[name].append(_cell(result, column, kind))
    mark = ' <strong class="bad">not as expected</strong>' if result.complaints else ""
    told = f'<span class="question">{_t(result.question)}</span>'
    if result.main_figure and _is_measured(result):
        figure = result.main_figure
        measured = ", ".join(filter(None, (_t(figure.name), _better(figure))))
        told += f'<span class="question">{measured}</span>'
    row = f'<th scope="row"><a href="#{_id(result)}">{_t(_title(result))}{told}</a>{mark}</th>'
    for name in columns:
        shown = "".join(_cell_html(result, each) for each in cells[name])
        row += f"<td>{shown}</td>"
    return f"<tr>{row}</tr>"


def _place(column: str) -> tuple[str, str]:
    """Return the column of the matrix where a result's column is shown, and what is special to it:
    `trio-barrier` is Trio, with a barrier, `plain-trio` is Trio, plain."""
    if column in COLUMNS:
        return column, ""
    for name in sorted(COLUMNS, key=len, reverse=True):
        if column.startswith(f"{name}-"):
            return name, column.removeprefix(f"{name}-")
        if column.endswith(f"-{name}"):
            return name, column.removesuffix(f"-{name}")
    return column, ""


def _cell(result: ExperimentResult, column: ColumnResult, kind: str) -> Cell:
    if column.missing:
        return Cell(NOT_HERE, "dim", column.missing, kind)
    seen = column.shown
    if seen is None:
        return Cell(FAILED, "bad", "could not be observed", kind)
    sign, look = seen.verdict.value, _look(seen.verdict)
    figure = result.main_figure
    values = spread(column.values(figure.name)) if figure else None
    if figure is None or values is None:
        return Cell(sign, look, seen.words, kind)
    told = f"{seen.words}; {figure.name} {human(values.median, figure.unit)}"
    if seen.verdict is Verdict.MEASURED:
        ratio = ratio_to_base(result, column, figure.name) if _has_ratios(result, figure) else None
        number = human_ratio(ratio.median) if ratio else human(values.median, figure.unit)
        return Cell(number, look, told, kind)
    return Cell(sign, look, told, kind)


def _is_measured(result: ExperimentResult) -> bool:
    """Tell whether nothing happened that is better or worse: all was only measured."""
    return all(seen.verdict is Verdict.MEASURED for each in result.columns for seen in each.seen)


def _has_ratios(result: ExperimentResult, figure: Figure) -> bool:
    """Tell whether the matrix compares values: counts speak for themselves, and what is not in
    the matrix is nothing to compare with."""
    return bool(figure.unit and result.base and _place(result.base.column)[0] in COLUMNS)


def _cell_html(result: ExperimentResult, cell: Cell) -> str:
    sign = f'<b aria-hidden="true">{_t(cell.sign)}</b>' if cell.sign else ""
    short = f"<small>{_t(cell.short)}</small>" if cell.short else ""
    return (
        f'<a class="cell {cell.look}" href="#{_id(result)}" title="{_t(cell.words)}">{sign}{short}'
        f'<span class="unseen">{_t(cell.words)}</span></a>'
    )


def _family(family: Family, experiments: Iterable[ExperimentResult]) -> str:
    sections = [_experiment(each) for each in experiments if each.family is family]
    if not sections:
        return ""
    title, told = FAMILIES[family]
    return f'<h2 id="{family}">{title}</h2>\n<p class="lead">{told}</p>\n' + "\n".join(sections)


def _experiment(result: ExperimentResult) -> str:
    if result.complaints:
        told = "".join(f"<li>{_t(each)}</li>" for each in result.complaints)
        verdict = f'<div class="alarm"><strong>Not as expected</strong><ul>{told}</ul></div>'
    else:
        verdict = ""
    why = "".join(f"<p>{_t(each)}</p>" for each in result.why.split("\n\n") if each.strip())
    parts = [
        f'<h3 id="{_id(result)}">{_t(result.question)}</h3>',
        f'<p class="dim"><code>services-lab run {_t(result.name)}</code></p>',
        why,
        verdict,
        _outcomes(result),
        *_pictures(result),
        _figures(result),
        _load(result),
        _evidence(result),
        _programs(result),
    ]
    body = "\n".join(filter(None, parts))
    return f'<section class="experiment" aria-labelledby="{_id(result)}">\n{body}\n</section>'


def _outcomes(result: ExperimentResult) -> str:
    """Return what happened in each column, in words; "" if all was only measured."""
    if _is_measured(result) and not any(each.missing or each.errors for each in result.columns):
        return ""
    rows = []
    for column in result.columns:
        cell = _cell(result, column, "")
        words = column.missing or (column.shown.words if column.shown else "could not be observed")
        unexpected = " <strong>(unexpected)</strong>" if column.unexpected else ""
        rows.append(
            f'<div><dt>{_t(column.column)}</dt><dd class="{cell.look}">'
            f'<b aria-hidden="true">{_t(_sign(column) or cell.sign)}</b> '
            f"<span>{_t(words)}{unexpected}</span></dd></div>"
        )
    return f'<dl class="outcomes">{"".join(rows)}</dl>'


def _sign(column: ColumnResult) -> str:
    """Return the sign of what happened in a column; "" if nothing was seen."""
    return column.shown.verdict.value if column.shown and not column.missing else ""


def _pictures(result: ExperimentResult) -> Iterable[str]:
    found = drawings(result)
    for each in found:
        if each.is_main:
            yield _picture(each)
    others = [_picture(each) for each in found if not each.is_main]
    if others:
        yield f"<details><summary>More pictures</summary>{''.join(others)}</details>"


def _picture(drawing: Drawing) -> str:
    return f"<figure>{both(drawing.draw)}</figure>"


def _figures(result: ExperimentResult) -> str:
    figures = [each for each in result.figures if any(c.values(each.name) for c in result.columns)]
    columns = [each for each in result.columns if each.seen]
    if not figures or _bars_tell(result, figures):
        return ""
    cells = {
        (figure.name, column.column): _figure(result, column, figure)
        for figure in figures
        for column in columns
    }
    names = {figure.name: f"{_t(figure.name)}<br><small>{_better(figure)}</small>"
             for figure in figures}  # fmt: skip
    if len(figures) <= len(columns):
        head = [names[figure.name] for figure in figures]
        rows = [
            (_t(column.column), [cells[figure.name, column.column] for figure in figures])
            for column in columns
        ]
    else:
        head = [_t(column.column) for column in columns]
        rows = [
            (names[figure.name], [cells[figure.name, column.column] for column in columns])
            for figure in figures
        ]
    head_html = "".join(f'<th scope="col">{each}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{each}</td>" for each in row)}</tr>'
        for name, row in rows
    )
    dense = " dense" if len(head) > MOST_COLUMNS else ""
    return (
        f'{_scrolled(f"figures of {result.name}")}<table class="figures{dense}">'
        f"<thead><tr><td></td>{head_html}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _bars_tell(result: ExperimentResult, figures: Sequence[Figure]) -> bool:
    """Tell whether bars show all that a table would: one figure, measured once."""
    once = all(len(each.values(figure.name)) < 2 for each in result.columns for figure in figures)
    return result.picture == "bars" and len(figures) == 1 and once


def _figure(result: ExperimentResult, column: ColumnResult, figure: Figure) -> str:
    values = spread(column.values(figure.name))
    if values is None:
        return ""
    median, _, spread_told = human_spread(values, figure.unit).partition(" (")
    told = f"<b>{_t(median)}</b>"
    ratio = ratio_to_base(result, column, figure.name)
    if ratio:
        told += f" <span>{_t(human_ratio(ratio.median))}</span>"
    return told + (f"<br><small>({_t(spread_told)}</small>" if spread_told else "")


def _better(figure: Figure) -> str:
    if figure.lower_is_better is None:
        return ""
    return "lower is better" if figure.lower_is_better else "higher is better"


def _load(result: ExperimentResult) -> str:
    by_words: Mapping[str, list[str]] = defaultdict(list)
    for column in result.columns:
        for words in dict.fromkeys(seen.generator for seen in column.seen if seen.generator):
            by_words[words].append(column.column)
    if not by_words:
        return ""
    items = "".join(
        f"<li>{_t(', '.join(names))}: {_t(words)}</li>" for words, names in by_words.items()
    )
    return f"<details><summary>Where the load came from</summary><ul>{items}</ul></details>"


def _evidence(result: ExperimentResult) -> str:
    parts = []
    for column in result.columns:
        for seen in column.seen:
            if seen.evidence:
                number = f", round {seen.round + 1}" if len(column.seen) > 1 else ""
                lines = _t("\n".join(seen.evidence))
                parts.append(f"<h4>{_t(column.column)}{number}</h4><pre>{lines}</pre>")
        parts += [
            f'<h4>{_t(column.column)}</h4><pre class="bad">{_t(each)}</pre>'
            for each in column.errors
        ]
    if not parts:
        return ""
    opened = " open" if any(each.errors for each in result.columns) else ""
    return f"<details{opened}><summary>Evidence</summary>{''.join(parts)}</details>"


def _programs(result: ExperimentResult) -> str:
    """Return the text of each program, and links to the files."""
    by_code: dict[str, list[str]] = defaultdict(list)
    for column in result.columns:
        by_code[column.code].append(column.column)
    codes = [
        f"<h4>{_t(', '.join(names))}</h4><pre>{_t(code)}</pre>"
        for code, names in by_code.items()
        if code
    ]
    files = [f"<li>the experiment: {_link(result.source)}</li>"] if result.source else []
    for column in result.columns:
        links = [_link(each) for each in column.source if each != result.source]
        if links:
            files.append(f"<li>{_t(column.column)}: {', '.join(links)}</li>")
    if not codes and not files:
        return ""
    told = "Programs" if codes else "Sources"
    return (
        f"<details><summary>{told}</summary>{''.join(codes)}"
        f'<ul class="files">{"".join(files)}</ul></details>'
    )


def _link(path: str) -> str:
    text = f"<code>{_t(path)}</code>"
    return f'<a href="#{_t(path)}">{text}</a>' if source_text(path) is not None else text


def _sources(experiments: Iterable[ExperimentResult]) -> str:
    """Return the files that are named, each folded, so that links to them work without a network.

    The name is inside of what is folded: a browser unfolds what it is sent to.
    """
    named = dict.fromkeys(
        path
        for each in experiments
        for path in (each.source, *(path for column in each.columns for path in column.source))
    )
    texts = {path: text for path in sorted(named) if (text := source_text(path)) is not None}
    if not texts:
        return ""
    folded = "".join(
        f'<details><summary><code>{_t(path)}</code></summary><pre id="{_t(path)}">{_t(text)}</pre>'
        "</details>\n"
        for path, text in texts.items()
    )
    return (
        '<section class="sources" aria-labelledby="sources">\n<h2 id="sources">Sources</h2>\n'
        '<p class="lead">As they were installed where this page was made.</p>\n'
        f"{folded}</section>"
    )


def _conditions(results: Results) -> str:
    told = results.conditions
    rows = {
        "command": f"<code>{_t(told.command)}</code>",
        "began": _t(told.began),
        "machine": _t(f"{told.processor}, {told.cores} cores, {human(told.memory, 'B')}"),
        "system": _t(told.system + (f"; perhaps a container: {told.container}"
                                    if told.container else "")),
        "Python": _t(told.python),
        "versions": _t(", ".join(f"{name} {each}" for name, each in told.versions.items())),
        "cores": "server and load each have cores of their own, for speed and claims"
        if told.pinned else "server and load share the cores",
        "other load": _t(f"load average {told.load_average:.1f} when the run began"),
        "rounds": _t("one, quick" if told.quick else str(told.rounds or "as each experiment says")),
    }  # fmt: skip
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows.items())
    return (
        '<section aria-labelledby="conditions">\n<h2 id="conditions">Conditions</h2>\n'
        '<p class="lead">Figures are medians, with the lowest and the highest in parentheses; '
        "ratios are taken within each round, in which variants are asked in turns. CPU time is the "
        "operating system's, that of ended children included.</p>\n"
        f'<dl class="conditions">{body}</dl>\n</section>'
    )


def _scrolled(label: str) -> str:
    """Return the start of a box that scrolls sideways, so that the page need not."""
    return f'<div class="scrolled" role="region" tabindex="0" aria-label="{_t(label)}">'


def _look(verdict: Verdict) -> str:
    return verdict.name.lower()


def _title(result: ExperimentResult) -> str:
    words = result.name.replace("-", " ")
    for word, spelt in SPELT.items():
        words = re.sub(rf"\b{word}\b", spelt, words)
    return words


def _id(result: ExperimentResult) -> str:
    return escape(result.name, quote=True)


def _t(text: str) -> str:
    """Return `text` as markup that shows it."""
    return escape(text, quote=True)
