"""What concerns every test: which of them must not run side by side when the suite is spread over processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parent / "cluster"

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it for its workers: tables are as wide as where nobody looks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps all tests that start Ray in one process: two clusters at once are more than two cores carry."""
    for item in items:
        if item.path.is_relative_to(CLUSTER):
            item.add_marker(pytest.mark.xdist_group("ray"))
