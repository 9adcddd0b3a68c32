"""The journal's disk: slow, full, and without what was not synced once its machine has lost power.

The journal is the real one, on SQLite. A crash is made by copying its files as they would be found afterwards: whole
where the process alone died, and with a commit that was under way torn at any byte of the write-ahead log where the
machine did.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from actors.events import Record
from actors.journal.store import Journal, Outcome
from actors.journal.types import Append, JournalUnavailable
from tests.simulation.faults import Faults

T = TypeVar("T")
NAME = "journal.db"
NOT_KEPT = ("-shm", ".lock")
"""What lies in memory, and what vanishes with its process."""


class FaultyJournal(Journal):
    """The journal, on a disk that may refuse a commit, or take it and say that it did not."""

    disk: Disk | None = None

    def append(self, batch: Sequence[Append]) -> list[Outcome]:
        faults = self.disk.faults if self.disk is not None else None
        if faults is not None and faults.strikes("disk full", 0.01):
            raise JournalUnavailable("append to the journal", "the disk is full", "Make room")
        outcomes = super().append(batch)
        if faults is not None and faults.strikes("commit told as failed", 0.005):
            raise JournalUnavailable("append to the journal", "the disk did not answer", "See to the disk")
        return outcomes


class Incarnation:
    """The threads of one audit actor: they end with it, wherever they are."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: list[Callable[[], object]] = []
        self._dead = False
        self._one_at_a_time = asyncio.Lock()

    async def run(self, work: Callable[[], T], /) -> T:
        """Work that blocks, in its turn and in the time the disk takes for it."""
        self._waiting.append(work)
        async with self._one_at_a_time:
            return await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        faults = self._disk.faults
        await asyncio.sleep(faults.random.random() * (4.0 if faults.strikes("disk slow", 0.02) else 0.004))
        if self._dead:
            await asyncio.sleep(1e9)
        self._waiting.remove(work)
        done = work()
        await asyncio.sleep(0)
        if self._dead:
            await asyncio.sleep(1e9)
        return done

    def open_journal(self, url: str, *, exclusive: bool = False, read_only: bool = False) -> Journal:
        return self._disk.open_journal(url, exclusive=exclusive, read_only=read_only)

    def die(self) -> list[Callable[[], object]]:
        """Gives what had been asked of the disk and was not done."""
        self._dead = True
        return self._waiting


class Disk:
    """One directory after the other: each crash leaves what was in the last one, as far as it was kept."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        self.faults = faults
        self._directory = directory
        self._number = 0
        self._here.mkdir(parents=True)
        self._open: list[Journal] = []
        self._incarnation: Incarnation | None = None

    @property
    def _here(self) -> Path:
        return self._directory / str(self._number)

    @property
    def url(self) -> str:
        return f"sqlite:///{self._here / NAME}"

    def incarnation(self) -> Incarnation:
        """The threads of the next audit actor."""
        self._incarnation = Incarnation(self)
        return self._incarnation

    def open_journal(self, url: str, *, exclusive: bool = False, read_only: bool = False) -> Journal:
        del url  # the disk knows where it is now
        made = FaultyJournal.open(self.url, exclusive=exclusive, read_only=read_only)
        made.disk = self  # type: ignore[attr-defined] # it is one of ours
        self._open.append(made)
        return made

    def crash(self) -> None:
        """The audit actor's process ends, or its whole machine does."""
        unfinished = self._incarnation.die() if self._incarnation is not None else []
        before = self._files()
        if unfinished and self.faults.strikes("commit torn", 0.5):
            for work in unfinished:
                try:
                    work()
                except Exception:  # noqa: BLE001, S112 - nobody waits for the result any more
                    continue
            before = self._torn(before, self._files())
        elif unfinished and self.faults.strikes("commit done and not told", 0.5):
            for work in unfinished:
                try:
                    work()
                except Exception:  # noqa: BLE001, S112 - as above
                    continue
            before = self._files()
        self._number += 1
        self._here.mkdir()
        for name, content in before.items():
            (self._here / name).write_bytes(content)
            (self._here / name).chmod(0o600)

    def records(self) -> list[Record]:
        """Everything in the journal."""
        journal = Journal.open(self.url, read_only=True)
        try:
            return list(journal.records())
        finally:
            journal.close()

    def close(self) -> None:
        """The run is over."""
        for journal in self._open:
            journal.close()
        shutil.rmtree(self._directory)

    def _files(self) -> dict[str, bytes]:
        kept = (path for path in sorted(self._here.iterdir()) if not path.name.endswith(NOT_KEPT))
        return {path.name: path.read_bytes() for path in kept if path.is_file()}

    def _torn(self, before: dict[str, bytes], after: dict[str, bytes]) -> dict[str, bytes]:
        """The log as far as it had got: what was synced before is there, and some bytes of what was not."""
        log = NAME + "-wal"
        old, new = before.get(log, b""), after.get(log, b"")
        if after.get(NAME) != before.get(NAME) or not new.startswith(old):
            return before
        return {**before, log: new[: self.faults.random.randint(len(old), len(new))]}
