"""The wall clock of the house, which can be stepped while the brokers' goes right.

libfaketime 0.9.10 would be the usual way. It makes ``time.sleep`` of Python 3.11 fail where the monotonic clock is left
alone: so it is ``clock.c``, some lines that the machine's compiler makes at each campaign.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

SOURCE = Path(__file__).with_name("clock.c")
STEPS_S = (-600.0, -30.0, -3.0, 0.0, 3.0, 30.0, 600.0)
"""What a house lives with: it verifies everything anew, and goes on."""
HOURS_OFF_S = (-3600.0, 3600.0)
"""What it does not: a broker's clock an hour from ours is believed by nobody until ours is set right."""


class HouseClock:
    """Steps the clock of all processes that are started within :meth:`preloaded`. ``there`` is false without a
    compiler: then nothing can be stepped."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "clock.so"
        self._by = directory / "clock.by"
        self._by.write_bytes(struct.pack("q", 0))
        compiler = shutil.which("cc")
        self.there = compiler is not None
        self.wrong_by_s = 0.0
        if compiler is not None:
            made = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE), "-ldl"]
            subprocess.run(made, check=True)

    @contextlib.contextmanager
    def preloaded(self) -> Iterator[None]:
        """What is started now has this clock."""
        given: Any = {}
        if self.there:
            # Ray's raylet withholds the first from its workers unless the second is set.
            given = {"LD_PRELOAD": str(self._library), "RAY_LD_PRELOAD_ON_WORKERS": "1", "FAULT_CLOCK": str(self._by)}
        with mock.patch.dict(os.environ, given):
            yield

    def step_to(self, wrong_by_s: float) -> None:
        """From now on it is wrong by so much."""
        self.wrong_by_s = wrong_by_s
        with self._by.open("r+b") as by:
            by.write(struct.pack("q", round(wrong_by_s * 1e9)))
