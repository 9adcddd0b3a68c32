"""The high-water mark: what a journal's file has held, kept in a small file beside it.

A database whose end is gone looks whole when whole commits are missing, and an empty file looks like a journal that
was never begun. So each commit that is durable leaves its ``seq`` and ``hash`` in the mark, and a journal that holds
less than its mark is not taken up again without a word.

* The mark never says more than what is durable: it is written after the commit, and may say less after a crash.
* It is evidence, not state: a mark that is missing, cannot be written or cannot be read costs no work, as long as there
  is a journal beside it. Who accepts a loss, or puts an older copy in place on purpose, removes the mark.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FORM: Final = re.compile(r"(\d{1,19}) ([0-9a-f]{64})\s*\Z")
_LENGTH: Final = 96


@dataclass(frozen=True, slots=True)
class Seen:
    """A record that was durable: its ``seq`` and ``hash``."""

    seq: int
    hash: str


class Mark:
    """The mark of the journal file ``database``. Used by one thread at a time."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".mark")
        self._descriptor: int | None = None

    @property
    def remedy(self) -> str:
        """What a person can do about a journal that holds less than its mark."""
        return (
            "Put the whole journal back (with its -wal file where it has one), or restore a copy. Only to go on "
            f"without what is missing, remove {self.path}"
        )

    def exists(self) -> bool:
        """Whether records were durable once, whatever can be read of them."""
        return self.path.is_file()

    def read(self) -> Seen | None:
        """What was durable, as far as is known."""
        try:
            found = _FORM.match(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return None if found is None else Seen(int(found[1]), found[2])

    def write(self, seq: int, last_hash: str, *, sync: bool = False) -> None:
        """Say that this record is durable now; with ``sync`` also after a power failure."""
        # One short line that is overwritten in place: cheap enough for every commit, and never half written for the
        # successor of a killed process.
        line = f"{seq} {last_hash}".ljust(_LENGTH - 1) + "\n"
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                os.ftruncate(self._descriptor, _LENGTH)
            os.pwrite(self._descriptor, line.encode(), 0)
            if sync:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the file back. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
