"""The page's tests run without Ray, as the unit suite does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.house import House
from tests.unit.conftest import _ray_is_unusable  # noqa: F401 - a fixture


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.open()
    yield made
    made.close()
