"""What concerns every test: which of them must not run side by side when the suite is spread over processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

WITH_RAY = tuple(Path(__file__).parent / room for room in ("cluster", "faults"))

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it for its workers: tables are as wide as where nobody looks


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook, and is else asked before us
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps all tests that start Ray in one process: two clusters at once are more than two cores carry."""
    for item in items:
        if any(item.path.is_relative_to(room) for room in WITH_RAY):
            item.add_marker(pytest.mark.xdist_group("ray"))
