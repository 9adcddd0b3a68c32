"""What a run of all benchmarks leaves: a table for people, plots, and the ratios that later runs are compared with.

Pure but for :func:`write` and the two ends of :class:`Kept`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.form import Figure, shown

HERE = Path(__file__).parent
TABLE, KEPT, PLOTS = HERE / "results.md", HERE / "kept.json", HERE / "plots"
NOTEWORTHY = 0.2
"""By how much a ratio is another one: what differs by less is the same on another day."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One benchmark: its figures, and the error in which it ended, if it did."""

    name: str
    figures: tuple[Figure, ...]
    error: str | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Results:
    """A run of them, and the machine it was on."""

    version: str
    quick: bool
    machine: Mapping[str, str]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """The ratios of an earlier version, of whole and of quick runs apart, by the figures' names."""

    runs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Kept:
        """What was kept; nothing where nothing was."""
        return cls(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})

    def ratios(self, *, quick: bool) -> dict[str, float]:
        """By name."""
        found = self.runs.get(_kind(quick=quick), {}).get("ratios", {})
        return dict(found) if isinstance(found, dict) else {}

    def version(self, *, quick: bool) -> str | None:
        """That of the program they were measured on."""
        found = self.runs.get(_kind(quick=quick), {}).get("version")
        return None if found is None else str(found)

    def keep(self, results: Results) -> Kept:
        """With these ratios in place of those of the same names."""
        ratios = self.ratios(quick=results.quick)
        ratios |= {one.name: round(one.ratio, 3) for one in _figures(results) if one.ratio is not None}
        run = {"version": results.version, "ratios": dict(sorted(ratios.items()))}
        return replace(self, runs={**self.runs, _kind(quick=results.quick): run})

    def write(self, path: Path) -> None:
        """Keep it there."""
        path.write_text(json.dumps(self.runs, indent=1) + "\n", encoding="utf-8")


def _kind(*, quick: bool) -> str:
    return "quick" if quick else "whole"


def _figures(results: Results) -> list[Figure]:
    return [figure for outcome in results.outcomes for figure in outcome.figures]


def change(figure: Figure, before: Mapping[str, float]) -> str:
    """How its ratio stands to the one kept: nothing where there is none, or it is about the same."""
    was, now = before.get(figure.name), figure.ratio
    if was is None or now is None or not was:
        return ""
    words = "as before" if abs(now / was - 1) <= NOTEWORTHY else "less" if now < was else "MORE"
    return f"{words} ({was:.2f} x)"


def row(figure: Figure, before: Mapping[str, float]) -> str:
    """One line of a terminal."""
    changed = change(figure, before)
    return figure.line() + (f"  [{changed}]" if changed else "")


def markdown(results: Results, before: Mapping[str, float], version: str | None) -> str:
    """The whole table."""
    size = "a quick run, of small sizes" if results.quick else "a whole run"
    words = [
        "# Figures",
        "",
        f"Version {results.version}, {size}. Only ratios hold over machines: of a figure to the floor of the same run.",
        "",
        *(f"- {name}: {value}" for name, value in results.machine.items()),
        "",
        f"*Before* is the ratio kept of version {version}." if version else "No earlier run was kept.",
    ]
    for outcome in results.outcomes:
        words += [
            "",
            f"## {outcome.name}",
            "",
            "| figure | | floor | ratio | target | before |",
            "|---|---|---|---|---|---|",
        ]
        words += [_line(figure, before) for figure in outcome.figures]
        if outcome.error is not None:
            words += ["", f"It ended in an error: {outcome.error}"]
    curves = sorted(curves_of(_figures(results)))
    if curves:
        words += ["", "## How cost grows", "", *(f"![{curve}]({PLOTS.name}/{_file(curve)})" for curve in curves)]
    return "\n".join(words) + "\n"


def _line(figure: Figure, before: Mapping[str, float]) -> str:
    floor = "" if figure.floor is None else f"{shown(figure.floor)} {figure.unit} ({figure.beside or 'floor'})"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
    cells = (figure.name, f"{shown(figure.value)} {figure.unit}", floor, ratio, figure.target, change(figure, before))
    return f"| {' | '.join(cells)} |"


def curves_of(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """The figures of each curve, in the order of ``x``."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.curve and figure.x is not None:
            found.setdefault(figure.curve, []).append(figure)
    return {curve: sorted(of, key=lambda one: one.x or 0.0) for curve, of in found.items()}


def _file(curve: str) -> str:
    return "-".join("".join(one if one.isalnum() else " " for one in curve).split()) + ".svg"


def write(results: Results, table: str) -> None:
    """The table and the plots, in place of those of before."""
    TABLE.write_text(table, encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    for curve, of in curves_of(_figures(results)).items():
        plot(curve, of, PLOTS / _file(curve))


def plot(curve: str, figures: list[Figure], path: Path) -> None:
    """One curve, with its floor; the same figures make the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = curve
    drawn, axes = pyplot.subplots(figsize=(6, 3.5))
    xs = [figure.x or 0.0 for figure in figures]
    floors = [figure.floor for figure in figures if figure.floor is not None]
    axes.plot(xs, [figure.value for figure in figures], marker="o", label="measured")
    if len(floors) == len(xs):
        axes.plot(xs, floors, linestyle="--", label=figures[0].beside)
    axes.set(title=curve, xlabel=curve.partition(":")[0], ylabel=figures[0].unit, xscale="log", yscale="log")
    axes.legend()
    drawn.tight_layout()
    drawn.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(drawn)
