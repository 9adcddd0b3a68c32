"""The unit suite runs without Ray: importing it is an error, so that nothing here can come to depend on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from loguru import logger


class _NoRay:
    """Refuses Ray before any other finder sees it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "ray" or name.startswith("ray."):
            raise ImportError("the unit suite runs without Ray")
        return None


@pytest.fixture(autouse=True, scope="package")
def _ray_is_unusable() -> Iterator[None]:
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name == "ray" or name.startswith("ray.")}
    finder = _NoRay()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.modules.update(hidden)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line logged, with its level."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO")
    yield lines
    logger.remove(sink)
