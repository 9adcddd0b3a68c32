"""Chance, and what it did: every decision of a run comes from its seed."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from random import Random

WEIGHTS = (0.0, 0.5, 1.0, 1.0, 2.0, 4.0)
"""Each seed has some kinds of fault not at all and others often: what one kind hides is found where it is missing."""


class Faults:
    """Says what goes wrong, as long as it is ``active``, counts it by kind, and keeps what happened in lines."""

    def __init__(self, seed: int, now_s: Callable[[], float], show: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 - the same run for the same seed
        self.active = True
        self.counts: Counter[str] = Counter()
        self.digest = 0
        self.last_refused_s = -1e9
        self._now_s = now_s
        self._show = show
        self._weights: dict[str, float] = {}

    def strikes(self, kind: str, chance: float) -> bool:
        """Whether it happens now; a chance of 0.1 is one in ten where this seed has this kind as usual."""
        weight = self._weights.get(kind)
        if weight is None:
            of_kind = Random(f"{self.seed} {kind}")  # noqa: S311 - as above
            weight = self._weights[kind] = of_kind.choice(WEIGHTS)
        if not self.active or not weight:
            return False
        if self.random.random() >= chance * weight:
            return False
        self.counts[kind] += 1
        self.note(f"fault: {kind}")
        return True

    def never(self, *kinds: str) -> None:
        """These do not happen in this run."""
        self._weights.update(dict.fromkeys(kinds, 0.0))

    def note(self, line: str) -> None:
        """Something happened."""
        text = f"{self._now_s():10.4f}  {line}"
        self.digest = zlib.crc32(text.encode(), self.digest)
        self.print_line(text)

    def print_line(self, line: str) -> None:
        """Show a line to whoever looks on."""
        if self._show is not None:
            self._show(line)
