"""The report: what a reader finds on the page, and that nothing in results becomes markup."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from services_lab.experiment import Family, Verdict
from services_lab.report import write_report
from services_lab.report_page import page
from services_lab.results import ExperimentResult, Results, Seen, read_results
from services_lab.sources import source_text

from tests.lab.fakes import CONDITIONS, Fake, column, result
from trio_services.sans_io.task_events import TaskEvent, What

EVENTS = (
    TaskEvent(0.0, What.SPAWNED, 1, "main"),
    TaskEvent(0.0, What.STARTED, 1),
    TaskEvent(0.1, What.STOPPED, 1),
    TaskEvent(0.25, What.SPAWNED, 2, "child", 1),
    TaskEvent(0.5, What.EXITED, 2, note="raised OSError"),
    TaskEvent(0.6, What.EXITED, 1, note="returned"),
)
MEASURED = Seen(
    round=0,
    outcome="WELL",
    verdict=Verdict.MEASURED,
    words="measured",
    figures={"time": 0.001},
    generator="the lab's own, 20 % busy",
)
RECORDED = replace(column("trio", 0.5).seen[0], events=EVENTS, evidence=("exit status 1",))
BEHAVIOUR = result(
    column("original", 2.0, outcome=Fake.BADLY, expected=("BADLY",)),
    column("uvloop", missing="uvloop not installed"),
    column("trio", seen=(RECORDED,), source=("trio_services/sort_server.py",), code="def f(): ..."),
    column("trio-barrier", 0.5),
    name="lost-thing",
    family=Family.BEHAVIOUR,
    why="First.\n\nSecond.",
    picture="timeline",
)
SPEED = result(
    column("original", seen=(MEASURED, replace(MEASURED, round=1, figures={"time": 0.003}))),
    column("trio", seen=(replace(MEASURED, figures={"time": 0.0005}),)),
    picture="bars",
)
RESULTS = Results(conditions=CONDITIONS, experiments=(BEHAVIOUR, SPEED))

VOID = {"meta", "link", "br", "path", "line", "rect", "circle"}


class Reader(HTMLParser):
    """Checks that elements are closed in the order of nesting; collects what is seen of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that is closed at once."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """See that it is the innermost that ends."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        if self.open and self.open[-1] not in {"style", "title", "desc"}:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        """Return all values of an attribute."""
        return [value for _, each in self.tags if (value := each.get(attribute)) is not None]


def read(results: Results) -> Reader:
    """Return what a page says; it is well-formed."""
    reader = Reader()
    reader.feed(page(results))
    reader.close()
    assert reader.open == []
    return reader


def matrix(results: Results) -> str:
    """Return the rows of the matrix."""
    html = page(results)
    return html[html.index("<tbody>") : html.index("</tbody>")]


def with_one(experiment: ExperimentResult) -> Results:
    """Return the results of one experiment."""
    return Results(conditions=CONDITIONS, experiments=(experiment,))


def test_every_cell_of_the_matrix_leads_to_its_experiment() -> None:
    """Links within the page lead somewhere, and no name is given twice."""
    reader = read(RESULTS)
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    targets = [each.removeprefix("#") for each in reader.values("href") if each.startswith("#")]
    assert set(targets) <= set(ids)
    assert targets.count("lost-thing") == 5
    assert targets.count("made-up") == 3


def test_the_page_needs_nothing_else() -> None:
    """No script, and nothing that is loaded from anywhere."""
    reader = read(RESULTS)
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in reader.tags}
    assert [each for each in reader.values("href") if not each.startswith("#")] == ["data:,"]
    assert reader.values("src") == []
    assert "@import" not in page(RESULTS)
    assert "url(" not in page(RESULTS)
    assert any(each.startswith("default-src 'none'") for each in reader.values("content"))


def test_outcomes_are_told_with_signs_and_words() -> None:
    """In the matrix and in its section: what happened, what is missing, and why."""
    html = page(RESULTS)
    assert 'class="cell bad" href="#lost-thing" title="went badly; time 2 s"' in html
    assert 'class="cell dim" href="#lost-thing" title="uvloop not installed"' in html
    text = read(RESULTS).text
    assert "✗ went badly" in text
    assert "– uvloop not installed" in text
    assert "All 2 experiments ended as expected." in text


def test_what_is_special_to_a_column_stands_in_the_column_of_its_library() -> None:
    """`trio-barrier` is Trio, with a barrier: there is no column of its own."""
    html = page(RESULTS)
    assert "<small>barrier</small>" in html
    head = re.findall(r'<th scope="col"><span>([^<]+)', html)
    assert head == ["original", "uvloop", "trio"]


def test_measurements_are_told_as_ratio_and_range() -> None:
    """The base as it is, others by their ratio, all with the lowest and the highest."""
    html = page(RESULTS)
    assert '<b aria-hidden="true">2 ms</b>' in html
    assert '<b aria-hidden="true">×0.50</b>' in html
    assert "<b>2 ms</b><br><small>(1 to 3)</small>" in html
    assert "lower is better" in html
    assert "original, trio: the lab&#x27;s own, 20 % busy" in html


def test_what_cannot_be_compared_is_shown_as_it_is() -> None:
    """Counts, and what is measured against something that is not in the matrix, have no ratio."""
    count = replace(SPEED, figures=(replace(SPEED.figures[0], unit=""),))
    assert "×" not in (row := matrix(with_one(count)))
    assert '<b aria-hidden="true">0.002</b>' in row
    threads = replace(
        SPEED, columns=(replace(SPEED.columns[0], column="threads"), SPEED.columns[1])
    )
    assert '<b aria-hidden="true">500 µs</b>' in matrix(with_one(threads))


def test_simple_things_come_first() -> None:
    """Experiments stand in the order of the differences that they show, in matrix and text."""
    late, early = (replace(BEHAVIOUR, name=f"n{n}", differences=(n,)) for n in (9, 2))
    html = page(Results(conditions=CONDITIONS, experiments=(BEHAVIOUR, late, early)))
    places = [html.index(f'id="{name}"') for name in ("n2", "n9", "lost-thing")]
    assert places == sorted(places)


def test_a_table_is_no_wider_than_it_must_be() -> None:
    """Whatever is more, columns or figures, goes down; one figure that bars show needs no table."""
    assert '<table class="figures' not in page(with_one(replace(SPEED, columns=(
        column("original", 1.0), column("trio", 2.0)))))  # fmt: skip
    several = tuple(replace(SPEED.figures[0], name=f"time {n}") for n in range(3))
    seen = replace(MEASURED, figures={each.name: 1.0 for each in several})
    wide = replace(SPEED, figures=several, columns=(column("trio", seen=(seen,)),))
    assert page(with_one(wide)).count('<th scope="row">time ') == 3


def test_a_section_has_pictures_evidence_and_programs() -> None:
    """Timelines with their lanes, evidence, the program's text, and the files it stands for."""
    reader = read(RESULTS)
    assert sum(tag == "svg" for tag, _ in reader.tags) == 4  # two widths of each
    for piece in ("First.", "Second.", "exit status 1", "def f(): ...", "child"):
        assert piece in reader.text
    source = source_text("trio_services/sort_server.py")
    assert source is not None
    assert source in reader.text


def test_the_unexpected_is_loud() -> None:
    """It is named on top and in the matrix, and told in its section."""
    complaint = "trio: 'went badly', expected WELL"
    bad = replace(
        BEHAVIOUR, columns=(column("trio", 1.0, outcome=Fake.BADLY),), complaints=(complaint,)
    )
    text = read(with_one(bad)).text
    assert "Not as expected: lost-thing." in text
    assert complaint in text
    assert "went badly (unexpected)" in text
    assert "ended as expected" not in text


def test_errors_of_the_lab_are_shown() -> None:
    """A column that could not be observed says so, with the traceback, unfolded."""
    failed = column("trio", errors=("OSError: no\nTraceback …",))
    html = page(with_one(replace(BEHAVIOUR, columns=(failed,), complaints=("trio: no",))))
    assert "could not be observed" in html
    assert "<details open><summary>Evidence" in html
    assert "Traceback …" in html


HOSTILE = "\"><script>alert(1)</script><b x='&amp;"


def test_text_of_results_stays_text() -> None:
    """Whatever a server logged, and whatever a file of results holds, is shown as it is."""
    seen = replace(RECORDED, words=HOSTILE, evidence=(HOSTILE,), generator=HOSTILE)
    hostile = replace(
        BEHAVIOUR,
        name=HOSTILE,
        question=HOSTILE,
        why=HOSTILE,
        source=HOSTILE,
        complaints=(HOSTILE,),
        columns=(
            column(
                HOSTILE,
                seen=(replace(seen, events=tuple(replace(e, name=HOSTILE) for e in EVENTS)),),
                code=HOSTILE,
                source=(HOSTILE,),
                missing=HOSTILE,
                errors=(HOSTILE,),
            ),
        ),
    )
    told = replace(CONDITIONS, command=HOSTILE, processor=HOSTILE, versions={HOSTILE: HOSTILE})
    reader = read(Results(conditions=told, experiments=(hostile,)))
    assert "script" not in {tag for tag, _ in reader.tags}
    assert not any("x" in each for tag, each in reader.tags if tag == "b")
    assert reader.text.count(HOSTILE) > 8


def test_no_results_are_a_page_as_well() -> None:
    """Ctrl-C at once leaves a page that says what it is."""
    text = read(Results(conditions=CONDITIONS, interrupted=True)).text
    assert "Nothing was measured." in text
    assert "Interrupted" in text


def test_quick_results_say_so() -> None:
    """Rough figures are not to be taken for others."""
    assert "Quick: one round each" in read(replace(RESULTS, conditions=replace(
        CONDITIONS, quick=True))).text  # fmt: skip


def test_the_command_that_repeats_it_is_there() -> None:
    """With the conditions that the figures depend on."""
    text = read(RESULTS).text
    assert "services-lab run made-up" in text
    assert "a fast one, 2 cores, 16 GiB" in text


def test_a_folder_has_the_page_the_pictures_and_the_results(tmp_path: Path) -> None:
    """Pictures are SVG files that stand alone, and the results are those that were given."""
    index = write_report(RESULTS, tmp_path / "new" / "report")
    assert index.read_text() == page(RESULTS)
    folder = index.parent
    assert read_results(folder / "results.json") == RESULTS
    pictures = sorted(folder.glob("pictures/*.svg"))
    assert [each.name for each in pictures] == ["lost-thing-1.svg", "made-up-1.svg"]
    for picture in pictures:
        assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
        assert "<style>" in picture.read_text()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "trio_services",
        "os/path.py",
        "../../etc/passwd",
        "trio_services/../../x.py",
        "trio_services/sans_io/example.zone",
        "compat/services_lab/no_such.py",
        "/trio_services/app.py",
    ],
)
def test_only_files_of_the_project_are_sources(path: str) -> None:
    """A file of results cannot make a report show another file of the machine."""
    assert source_text(path) is None


def test_sources_are_found_where_they_are_installed() -> None:
    """With and without the folder that only a checkout has."""
    for path in ("trio_services/app.py", "compat/services_lab/sources.py"):
        text = source_text(path)
        assert text is not None
        assert text.startswith('"""')
