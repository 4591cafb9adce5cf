"""What people see of a run."""

import io
from dataclasses import replace

from rich.console import Console
from services_lab.experiment import Family, Figure
from services_lab.progress import Estimate
from services_lab.registry import load_all
from services_lab.results import ExperimentResult
from services_lab.runner import Plan
from services_lab.terminal import Screen, draw, draw_list

from tests.lab.fakes import Fake, column, experiment, result
from tests.lab.test_runner import well

FIGURES = tuple(Figure(name=name, unit="s") for name in ("p50", "p99", "p99.9", "worst"))


def drawn(found: ExperimentResult, width: int = 80) -> str:
    """Return the table as it is in a terminal of `width` columns, without colour."""
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(found, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(text: str) -> dict[str, str]:
    """Return the lines of a table by their first word."""
    return {line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line.split()}


def test_figures_have_a_range_and_a_ratio_to_the_original() -> None:
    """A row has the median, the range over the rounds, and the ratio by round."""
    text = drawn(result(column("original", 4e-5, 4e-5, 5e-5), column("trio", 1e-5, 1e-5, 1e-5)))
    assert rows(text)["original"] == "original ✓ went well 40.0 µs (40.0 to 50.0)"
    assert rows(text)["trio"] == "trio ✓ went well 10.0 µs ×0.25"
    assert "  as expected" in text


def test_outcomes_are_words_with_a_sign() -> None:
    """Nothing is told by colour alone."""
    text = drawn(
        result(
            column("original", 1.0),
            column("asyncio", 1.0, outcome=Fake.BADLY, expected=("BADLY",)),
            column("uvloop", missing="uvloop not installed"),
            family=Family.BEHAVIOUR,
            figures=(),
        )
    )
    assert rows(text)["original"] == "original ✓ went well"
    assert rows(text)["asyncio"] == "asyncio ✗ went badly"
    assert rows(text)["uvloop"] == "uvloop – uvloop not installed"


def test_what_is_not_as_expected_is_loud() -> None:
    """The row says so, and the verdict says why."""
    text = drawn(
        result(
            column("trio", 1.0, outcome=Fake.BADLY),
            complaints=("trio: 'went badly', expected WELL",),
        )
    )
    assert "✗ went badly (NOT as expected)" in rows(text)["trio"]
    assert "NOT as expected: trio: 'went badly', expected WELL" in text


def test_errors_of_the_experiment_are_shown() -> None:
    """Somebody who writes an experiment sees the traceback."""
    text = drawn(result(column("trio", errors=("OSError: gone\nTraceback: …",))))
    assert "! not observed" in rows(text.partition("trio: OSError")[0])["trio"]
    assert "Traceback: …" in text


def test_figures_that_do_not_fit_get_a_table_of_their_own() -> None:
    """At 80 columns no cell is cut, however many figures there are; the main one is in front."""
    seen = column("trio", 1.0).seen[0]
    names = ("p50", "p99", "p99.9", "worst", "time")
    full = column(
        "trio",
        seen=tuple(
            replace(seen, figures=dict.fromkeys(names, 0.123 + each / 1000), round=each)
            for each in range(3)
        ),
    )
    text = drawn(result(full, figures=(*FIGURES, *result().figures)))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("124 ms (123 to 125)") == 5
    assert text.index("time") < text.index("p50")


def test_the_list_fits_80_columns() -> None:
    """Every experiment is named, with its question, and nothing is cut."""
    console = Console(file=io.StringIO(), width=80)
    experiments = load_all()
    console.print(draw_list(experiments))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    together = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    for each in experiments:
        assert each.name in text
        assert each.question.split()[-1] in together


def test_time_left_comes_from_what_was_seen() -> None:
    """Each observation is expected to take as long as its like; one's own kind counts most."""
    short, long = experiment(well, rounds=2), experiment(well, name="other", family=Family.SPEED)
    estimate = Estimate(Plan(experiments=(short, long)))
    assert estimate.total == 6
    estimate.observed(short, 10.0)
    estimate.observed(long, 100.0)
    assert estimate.seconds_left() == 3 * 10.0 + 100.0
    estimate.skipped(short)
    assert (estimate.done, estimate.total) == (2, 3)
    assert estimate.seconds_left() == 100.0


def test_a_terminal_has_a_line_that_moves() -> None:
    """It names what is observed, how far the run is, and what is left of it."""
    made_up = experiment(well)
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    screen = Screen(Plan(experiments=(made_up,)), console)
    with screen.shown():
        screen.observing(made_up, made_up.subjects[0], 0)
        screen.observed(made_up, made_up.subjects[0], None, 2.0)
        screen.refresh()
    assert "made-up: original, round 1" in file.getvalue()
    assert "1/2" in file.getvalue()
    assert "2 s left" in file.getvalue()


def test_elsewhere_nothing_moves() -> None:
    """In a pipe or a log there are only the tables."""
    made_up = experiment(well)
    file = io.StringIO()
    screen = Screen(Plan(experiments=(made_up,)), Console(file=file, width=100))
    with screen.shown():
        screen.observing(made_up, made_up.subjects[0], 0)
        screen.finished(made_up, result(column("original", 1.0)))
    assert file.getvalue().startswith("made-up")
    assert "\x1b" not in file.getvalue()
