"""The one form of every figure: what was measured, beside the floor of the same run, and what was aimed at.

A benchmark is a module of this package with ``figures(*, quick)``, which measures and yields as it goes; its own
command line prints the same. Ratios hold over machines, and figures do not: so each has a floor wherever there is one.

    python -m tests.benchmarks.form MODULE [--quick]      # its figures as JSON, one a line
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: ``value`` in ``unit``, as is the ``floor``, which ``beside`` names. ``target`` is in words. Those of
    one ``curve`` belong together, each at its ``x``."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    beside: str = ""
    target: str = ""
    curve: str = ""
    x: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many floors the value is."""
        return self.value / self.floor if self.floor else None

    def line(self) -> str:
        """For people."""
        floor = "" if self.ratio is None else f"  = {self.ratio:6.2f} x {self.beside or 'the floor'}"
        target = f"  (target: {self.target})" if self.target else ""
        return f"{self.name:<58}{shown(self.value):>10} {self.unit:<6}{floor}{target}"


def shown(value: float) -> str:
    """A number with three digits that count."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2g}"


def show(figures: Iterable[Figure]) -> None:
    """Print each as soon as it is there."""
    for figure in figures:
        print(figure.line(), flush=True)


def read(line: str) -> Figure:
    """A figure that :func:`main` wrote."""
    return Figure(**json.loads(line))


def main(module: str, *, quick: bool) -> None:
    """Write the figures of a module, one JSON document a line."""
    measured = importlib.import_module(f"tests.benchmarks.{module}")
    for figure in measured.figures(quick=quick):
        print(json.dumps(asdict(figure)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], quick="--quick" in sys.argv[2:])
