"""The short form of the campaign: a fresh seed, which a failure prints with the command that plays it again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.campaign import run

SECONDS = float(os.environ.get("FAULT_CAMPAIGN_S", "20"))


@pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="a long campaign: set RUN_SLOW to run it")
@pytest.mark.timeout(SECONDS + 300)
def test_whatever_is_killed_cut_or_lied_about_nothing_is_lost_and_nothing_stays_wrong(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    outcome = run(SECONDS, seed, tmp_path)
    again = f"python -m tests.faults.campaign --minutes {SECONDS / 60:.2g} --seed {seed}"
    assert not outcome.failures, f"{outcome}\n{again}"
