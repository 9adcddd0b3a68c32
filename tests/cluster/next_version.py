"""A copy of the packages as an installation, and a later version of it: its messages and settings have more fields."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from brokers.versions import VERSION

ROOT = Path(__file__).parents[2]
NEXT = "0.2.0"


def installed(code: Path) -> None:
    """This version, in a folder of its own."""
    for package in ("brokers", "actors", "supervisor"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))


def changed(path: Path, *changes: tuple[str, str]) -> None:
    """Replace text in a file, all of which must be there."""
    text = path.read_text()
    for before, after in changes:
        assert before in text, f"{path} has no {before}"
        text = text.replace(before, after)
    path.write_text(text)


def install_the_next(code: Path) -> None:
    """A version whose actors say more to each other, and are started with more."""
    changed(code / "brokers/versions.py", (f'"{VERSION}"', f'"{NEXT}"'))
    changed(
        code / "actors/messages.py",
        (
            "    program: Program | None = None\n",
            "    program: Program | None = None\n    further: str = 'of the next'\n",
        ),
        (
            "    owners: Mapping[str, str] = field(default_factory=dict)\n",
            "    owners: Mapping[str, str] = field(default_factory=dict)\n    further: tuple[int, ...] = (1, 2)\n",
        ),
    )
    settings = code / "actors/instrument/settings.py"
    fingerprint = next(line for line in settings.read_text().splitlines() if line.startswith("    fingerprint:"))
    changed(settings, (f"{fingerprint}\n", f"{fingerprint}\n    further: int = 7\n"))
    for cache in code.rglob("__pycache__"):
        shutil.rmtree(cache)  # so that no time of a file decides what is imported


def command(code: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of that installation."""
    environment = os.environ | {"PYTHONPATH": str(code)}
    words = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(words, env=environment, cwd=code, capture_output=True, text=True, timeout=400, check=False)
