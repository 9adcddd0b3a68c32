"""The figures that people compare us by can be measured; how large they are is for the benchmark to say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.figures import measure


async def test_sync_recovery_and_status_are_measured_over_the_wire_and_with_a_journal(tmp_path: Path) -> None:
    """FEATURES 17: position sync, start-up recovery and status query."""
    figures = await measure(tmp_path, rounds=2)
    assert all(value > 0 for value in asdict(figures).values())
