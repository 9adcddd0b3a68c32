"""What stands beside Ray in an environment, and slows it down, is named at ``start`` and by ``check``."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config import cautions
from supervisor.config.cautions import cautions_of_environment


@pytest.mark.parametrize(
    ("jsonschema", "installed", "warned"),
    [
        ("4.26.0", ["rfc3987_syntax"], True),
        ("4.25", ["rfc3987_syntax"], True),
        ("5.0.0rc1", ["rfc3987_syntax"], True),
        ("4.24.1", ["rfc3987_syntax"], False),  # left behind by a newer one: nobody imports it
        ("4.26.0", ["rfc3987_syntax", "rfc3987"], False),  # jsonschema takes the other one
        ("4.26.0", [], False),
        ("of our own", ["rfc3987_syntax"], False),
    ],
)
def test_a_parser_that_each_process_of_ray_would_build_is_named(
    jsonschema: str, installed: list[str], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cautions, "version", lambda name: jsonschema)
    monkeypatch.setattr(cautions, "find_spec", lambda name: name if name in installed else None)
    found = cautions_of_environment()
    assert bool(found) == warned
    assert all("pip install 'jsonschema<4.25'" in one for one in found)


def test_the_constraints_bring_no_such_parser() -> None:
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert "rfc3987-syntax" not in pinned
