"""The documentation: it builds, its links lead somewhere, and what it asks to type is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from supervisor.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS: Any = get_command(app)


def _built(root: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(to)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")

    done = _built(ROOT, tmp_path / "site")

    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text()
    assert "<code>quantity_tolerance</code>" in commands, "the README's tables are in it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for typed in re.findall(r"python -m supervisor ([a-z][a-z-]*)(?: ([a-z]+))?", page.read_text()):
        assert typed[0] in COMMANDS.commands
        group = getattr(COMMANDS.commands[typed[0]], "commands", None)
        assert group is None or typed[1] in group


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_a_page_has_each_of_its_sections_once(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    sections = re.findall(r"^## .+", text, flags=re.MULTILINE)
    assert len(sections) == len(set(sections))
