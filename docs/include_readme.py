"""Puts sections of the README into a page where it says ``{{ README: First heading, Second heading }}``, so that they
are written once. A link to a file of the repository, or to another
section of the README, becomes plain words, as the page does not hold it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_README = Path(__file__).parent.parent / "README.md"
_WANTED = re.compile(r"^\{\{ README: (.+) \}\}$", re.MULTILINE)
_TO_A_FILE = re.compile(r"\[([^\]]+)\]\((?!https?://)[^)]+\)")


def section(text: str, heading: str) -> str:
    """A section of the second level, with its heading. Raises ``ValueError`` where there is none."""
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"README.md has no section {heading!r}")
    return found[0].rstrip()


def included(markdown: str, readme: str) -> str:
    """A page with what it asks for in the place where it does."""

    def of(wanted: re.Match[str]) -> str:
        return "\n\n".join(section(readme, one.strip()) for one in wanted[1].split(","))

    return _WANTED.sub(lambda wanted: _TO_A_FILE.sub(r"\1", of(wanted)), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """As mkdocs calls it for each page."""
    return included(markdown, _README.read_text(encoding="utf-8"))
