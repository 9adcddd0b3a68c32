"""Every benchmark of the project, one after another, each in a process of its own.

    python -m tests.benchmarks [--quick] [--json] [--keep] [NAME ...]

Prints each figure with its floor, their ratio and, where there is one of that name, the ratio that was kept of an
earlier version; then writes ``results.md`` beside this file, with the machine's description, and plots of how cost
grows. With ``--quick`` everything is smaller, and what takes its time on Ray is left out: meant for three minutes on a
quiet machine of two cores. ``--keep`` keeps these results to compare later ones with. ``--json`` prints one document.
Only the ratios of one run are worth anything, and on a machine that does nothing else; a benchmark that ends in an
error, or takes too long, is named, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil

from tests.benchmarks.form import Figure, read
from tests.benchmarks.results import KEPT, Kept, Outcome, Results, markdown, row, write

BENCHMARKS = (
    "core", "growth", "decode", "figures", "journal", "evidence", "breaks", "slices", "export", "delta", "delta_book",
    "console", "quiet", "reconcile", "journal_actor", "handle", "streamed", "latency", "start", "cells", "cluster",
    "recovery", "watching",
)  # fmt: skip
PACKAGE = "reconciliation-supervisor"
NOT_QUICK = frozenset({"start", "cluster", "watching"})
"""They wait for intervals to pass, and for several clusters to come and go."""
QUICK_WITHIN_S, WITHIN_S = 180.0, 1800.0


def measured(name: str, *, quick: bool, say: Callable[[Figure], None]) -> Outcome:
    """One benchmark: its figures as far as it came, and what was wrong."""
    command = [sys.executable, "-m", "tests.benchmarks.form", name, *(["--quick"] if quick else [])]
    within_s = QUICK_WITHIN_S if quick else WITHIN_S
    began_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, complaints = process.communicate(timeout=within_s)
        error = None if process.returncode == 0 else (complaints.strip().splitlines() or ["no word"])[-1]
    except subprocess.TimeoutExpired:
        _end(process)
        output, _ = process.communicate()
        error = f"it did not end within {within_s:g} s"
    figures = [read(line) for line in output.splitlines() if line.startswith("{")]
    for figure in figures:
        say(figure)
    return Outcome(name, tuple(figures), error, time.monotonic() - began_s)


def _end(process: subprocess.Popen[str]) -> None:
    """It, and all that it started."""
    parts = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for part in parts:
        part.kill()


def machine() -> dict[str, str]:
    """What the figures were measured on; nothing by which the machine itself could be recognized."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    load = psutil.getloadavg()[0]
    return {
        "processor": f"{psutil.cpu_count()} cores, {model}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "load before": f"{load:.1f}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="everything smaller, within three minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--keep", action="store_true", help="compare later runs with this one")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    names = options.names or [name for name in BENCHMARKS if not (options.quick and name in NOT_QUICK)]
    kept = Kept.read(KEPT)
    before = kept.ratios(quick=options.quick)
    on = machine()
    outcomes = []
    for name in names:
        if not options.json:
            print(f"\n{name}", flush=True)
        outcome = measured(
            name, quick=options.quick, say=lambda one: None if options.json else print(row(one, before), flush=True)
        )
        if outcome.error is not None:
            print(f"{name}: {outcome.error}", file=sys.stderr, flush=True)
        outcomes.append(outcome)
    results = Results(importlib.metadata.version(PACKAGE), options.quick, on, tuple(outcomes))
    if not options.names:
        write(results, markdown(results, before, kept.version(quick=options.quick)))
    if options.keep:
        kept.keep(results).write(KEPT)
    if options.json:
        print(json.dumps(asdict(results), indent=1))
    return int(any(outcome.error is not None for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
