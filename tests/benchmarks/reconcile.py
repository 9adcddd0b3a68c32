"""The whole ``reconcile`` command on two accounts with ten instruments, imports included.

    python -m tests.benchmarks.reconcile

Prints the wall time of the first run (cold books), of the second (in step), and of a Python that does nothing. Target:
3 s on two cores.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.form import Figure, show

TARGET_S = 3.0


def _run(*command: str) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """Two runs of the command."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "accounts.yaml"
        pairs = ["EUR_USD", "GBP_JPY", "USD_CHF", "AUD_USD", "NZD_USD"]
        path.write_text(
            f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
            "accounts:\n"
            f"  - {{name: fx, broker: oanda, simulator: true, instruments: [{', '.join(pairs)}]}}\n"
            f"  - {{name: cfd, broker: mt5, simulator: true, instruments: [{', '.join(pairs)}]}}\n"
        )
        command = ("-m", "supervisor", "reconcile", str(path), "--json")
        nothing_s = _run("-c", "pass")
        for words in ("cold books", "in step"):
            took_s = _run(*command)
            yield Figure(f"reconcile, {words}", took_s, "s", nothing_s, "a Python that does nothing", f"{TARGET_S} s")


def main() -> None:
    """Measure and print."""
    show(figures())


if __name__ == "__main__":
    main()
