"""What a run of the benchmarks leaves: its table, its plots, and how it stands to the run that was kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.form import Figure, shown
from tests.benchmarks.results import Kept, Outcome, Results, change, curves_of, markdown, plot

FIGURE = Figure("a look", 3.0, "ms", 2.0, "a bare call", "2 x")
GROWING = tuple(
    Figure(f"{n} orders", n * 2.0, "ms", n * 1.0, "the first", curve="orders: n", x=float(n)) for n in (10, 1, 100)
)


def run(*outcomes: Outcome, quick: bool = False) -> Results:
    return Results("1.2", quick, {"processor": "2 cores"}, outcomes)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.123"), (12.345, "12.3"), (123.4, "123"), (1234.5, "1,234"), (0.00123, "0.0012")],
)
def test_a_number_is_shown_by_the_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_figure_shows_its_floor_their_ratio_and_its_target() -> None:
    assert FIGURE.ratio == 1.5
    assert "1.50 x a bare call  (target: 2 x)" in FIGURE.line()
    assert Figure("alone", 1.0, "s").ratio is None


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({}, ""),
        ({"a look": 1.4}, "as before (1.40 x)"),
        ({"a look": 3.0}, "less (3.00 x)"),
        ({"a look": 1.0}, "MORE (1.00 x)"),
    ],
)
def test_a_ratio_stands_beside_the_one_kept(before: dict[str, float], words: str) -> None:
    assert change(FIGURE, before) == words


def test_what_was_kept_is_of_whole_or_of_quick_runs_and_of_the_figures_measured(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert Kept.read(path).ratios(quick=True) == {}
    Kept().keep(run(Outcome("one", (FIGURE,), None, 1.0), quick=True)).write(path)
    kept = Kept.read(path)
    assert (kept.ratios(quick=True), kept.ratios(quick=False), kept.version(quick=True)) == ({"a look": 1.5}, {}, "1.2")
    later = kept.keep(run(Outcome("two", (GROWING[0],), "it broke", 1.0), quick=True))
    assert later.ratios(quick=True) == {"a look": 1.5, "10 orders": 2.0}


def test_the_table_has_every_figure_the_machine_and_what_went_wrong() -> None:
    results = run(Outcome("one", (FIGURE, *GROWING), None, 1.0), Outcome("two", (), "it did not end within 60 s", 60.0))
    text = markdown(results, {"a look": 1.4}, "1.1")
    assert "- processor: 2 cores" in text
    assert "| a look | 3 ms | 2 ms (a bare call) | 1.50 x | 2 x | as before (1.40 x) |" in text
    assert "It ended in an error: it did not end within 60 s" in text
    assert "![orders: n](plots/orders-n.svg)" in text


def test_a_curve_is_drawn_in_the_order_of_what_grows_and_the_same_figures_are_the_same_file(tmp_path: Path) -> None:
    [(curve, of)] = curves_of((FIGURE, *GROWING)).items()
    assert [figure.x for figure in of] == [1.0, 10.0, 100.0]
    for name in ("one.svg", "two.svg"):
        plot(curve, of, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert b"<svg" in drawn


def test_a_benchmark_that_nobody_has_is_named_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmarks.main(["--quick", "speed"])
    assert ended.value.code == 2
    assert "no benchmark is called speed: there are core, growth," in capsys.readouterr().err


def test_the_machine_is_described_by_nothing_that_is_its_own() -> None:
    import getpass
    import socket

    words = json.dumps(benchmarks.machine())
    assert socket.gethostname() not in words or len(socket.gethostname()) < 4
    assert "/home" not in words
    assert f'"{getpass.getuser()}"' not in words


def test_every_module_with_figures_is_run_by_the_one_command() -> None:
    folder = Path(benchmarks.__file__).parent
    with_figures = {path.stem for path in folder.glob("*.py") if "\ndef figures(" in path.read_text(encoding="utf-8")}
    assert with_figures == set(benchmarks.BENCHMARKS)
    others = {path.stem for path in folder.glob("*.py")} - with_figures
    assert others == {"__init__", "__main__", "form", "results", "large_journal", "months"}
