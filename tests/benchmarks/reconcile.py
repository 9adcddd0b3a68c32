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
from pathlib import Path

TARGET_S = 3.0


def _run(*command: str) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def main() -> None:
    """Measure and print."""
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
        print(f"python that does nothing   {_run('-c', 'pass'):5.2f} s")
        print(f"reconcile, cold books      {_run(*command):5.2f} s (target {TARGET_S})")
        print(f"reconcile, in step         {_run(*command):5.2f} s (target {TARGET_S})")


if __name__ == "__main__":
    main()
