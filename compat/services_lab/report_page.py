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

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from services_lab.experiment import Family, Figure
from services_lab.pictures.drawings import Drawing, drawings
from services_lab.pictures.style import STYLE, both
from services_lab.report_markup import anchor, better, markup, scrolled
from services_lab.report_matrix import HEADINGS, cell, is_measured, matrix
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
    Family.BEHAVIOUR: "What happens when something goes wrong.",
    Family.SPEED: "What a request costs, with the same work done.",
    Family.CLAIM: "What books and blogs repeat, measured.",
}

MOST_COLUMNS = 6
"""Columns of a table whose cells have their ratios beside the values; below, where there are more.
"""

LAST = 1000
"""Where experiments stand that no difference in docs is about: after the others."""


def page(results: Results) -> str:
    """Return the report of `results` as an HTML document."""
    style = STYLE + Path(__file__).with_name("report.css").read_text()
    experiments = sorted(results.experiments, key=_order)
    unexpected = [each for each in experiments if each.complaints]
    parts = [
        _head(results, unexpected),
        matrix(experiments),
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
        links = ", ".join(
            f'<a href="#{anchor(each)}">{markup(each.name)}</a>' for each in unexpected
        )
        notes.append(f"<strong>Not as expected:</strong> {links}.")
    elif results.experiments:
        notes.append(f"All {len(results.experiments)} experiments ended as expected.")
    return (
        "<header>\n<h1>What a nursery changes</h1>\n"
        '<p class="lead">The same services on asyncio, uvloop, AnyIO and Trio, asked the same '
        "questions on one machine, in one run.</p>\n"
        f'<p class="dim">{markup(line)}</p>\n<p>{" ".join(notes)}</p>\n</header>'
    )


def _family(family: Family, experiments: Iterable[ExperimentResult]) -> str:
    sections = [_experiment(each) for each in experiments if each.family is family]
    if not sections:
        return ""
    head = f'<h2 id="{family}">{HEADINGS[family]}</h2>\n<p class="lead">{FAMILIES[family]}</p>\n'
    return head + "\n".join(sections)


def _experiment(result: ExperimentResult) -> str:
    if result.complaints:
        told = "".join(f"<li>{markup(each)}</li>" for each in result.complaints)
        verdict = f'<div class="alarm"><strong>Not as expected</strong><ul>{told}</ul></div>'
    else:
        verdict = ""
    why = "".join(f"<p>{markup(each)}</p>" for each in result.why.split("\n\n") if each.strip())
    parts = [
        f'<h3 id="{anchor(result)}">{markup(result.question)}</h3>',
        f'<p class="dim"><code>services-lab run {markup(result.name)}</code></p>',
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
    return f'<section class="experiment" aria-labelledby="{anchor(result)}">\n{body}\n</section>'


def _outcomes(result: ExperimentResult) -> str:
    """Return what happened in each column, in words; "" if all was only measured."""
    if is_measured(result) and not any(each.missing or each.errors for each in result.columns):
        return ""
    rows = []
    for column in result.columns:
        shown = cell(result, column)
        words = column.missing or (column.shown.words if column.shown else "could not be observed")
        unexpected = " <strong>(unexpected)</strong>" if column.unexpected else ""
        rows.append(
            f'<div><dt>{markup(column.column)}</dt><dd class="{shown.look}">'
            f'<b aria-hidden="true">{markup(_sign(column) or shown.sign)}</b> '
            f"<span>{markup(words)}{unexpected}</span></dd></div>"
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
    names = {figure.name: f"{markup(figure.name)}<br><small>{better(figure)}</small>"
             for figure in figures}  # fmt: skip
    if len(figures) <= len(columns):
        head = [names[figure.name] for figure in figures]
        rows = [
            (markup(column.column), [cells[figure.name, column.column] for figure in figures])
            for column in columns
        ]
    else:
        head = [markup(column.column) for column in columns]
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
        f'{scrolled(f"figures of {result.name}")}<table class="figures{dense}">'
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
    told = f"<b>{markup(median)}</b>"
    ratio = ratio_to_base(result, column, figure.name)
    if ratio:
        told += f" <span>{markup(human_ratio(ratio.median))}</span>"
    return told + (f"<br><small>({markup(spread_told)}</small>" if spread_told else "")


def _load(result: ExperimentResult) -> str:
    by_words: Mapping[str, list[str]] = defaultdict(list)
    for column in result.columns:
        for words in dict.fromkeys(seen.generator for seen in column.seen if seen.generator):
            by_words[words].append(column.column)
    if not by_words:
        return ""
    items = "".join(
        f"<li>{markup(', '.join(names))}: {markup(words)}</li>" for words, names in by_words.items()
    )
    return f"<details><summary>Where the load came from</summary><ul>{items}</ul></details>"


def _evidence(result: ExperimentResult) -> str:
    parts = []
    for column in result.columns:
        for seen in column.seen:
            if seen.evidence:
                number = f", round {seen.round + 1}" if len(column.seen) > 1 else ""
                lines = markup("\n".join(seen.evidence))
                parts.append(f"<h4>{markup(column.column)}{number}</h4><pre>{lines}</pre>")
        parts += [
            f'<h4>{markup(column.column)}</h4><pre class="bad">{markup(each)}</pre>'
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
        f"<h4>{markup(', '.join(names))}</h4><pre>{markup(code)}</pre>"
        for code, names in by_code.items()
        if code
    ]
    files = [f"<li>the experiment: {_link(result.source)}</li>"] if result.source else []
    for column in result.columns:
        links = [_link(each) for each in column.source if each != result.source]
        if links:
            files.append(f"<li>{markup(column.column)}: {', '.join(links)}</li>")
    if not codes and not files:
        return ""
    told = "Programs" if codes else "Sources"
    return (
        f"<details><summary>{told}</summary>{''.join(codes)}"
        f'<ul class="files">{"".join(files)}</ul></details>'
    )


def _link(path: str) -> str:
    text = f"<code>{markup(path)}</code>"
    return f'<a href="#{markup(path)}">{text}</a>' if source_text(path) is not None else text


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
        f"<details><summary><code>{markup(path)}</code></summary>"
        f'<pre id="{markup(path)}">{markup(text)}</pre></details>\n'
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
        "command": f"<code>{markup(told.command)}</code>",
        "began": markup(told.began),
        "machine": markup(f"{told.processor}, {told.cores} cores, {human(told.memory, 'B')}"),
        "system": markup(told.system + (f"; perhaps a container: {told.container}"
                                    if told.container else "")),
        "Python": markup(told.python),
        "versions": markup(", ".join(f"{name} {each}" for name, each in told.versions.items())),
        "cores": "server and load each have cores of their own, for speed and claims"
        if told.pinned else "server and load share the cores",
        "other load": markup(f"load average {told.load_average:.1f} when the run began"),
        "rounds": "one, quick" if told.quick else str(told.rounds or "as each experiment says"),
    }  # fmt: skip
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows.items())
    return (
        '<section aria-labelledby="conditions">\n<h2 id="conditions">Conditions</h2>\n'
        '<p class="lead">Figures are medians, with the lowest and the highest in parentheses; '
        "ratios are taken within each round, in which variants are asked in turns. CPU time is the "
        "operating system's, that of ended children included.</p>\n"
        f'<dl class="conditions">{body}</dl>\n</section>'
    )
