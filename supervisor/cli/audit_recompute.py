"""``audit replay --recompute``: decides again on the recorded slices with today's code, and shows where it differs.

Nothing here writes. The laws of this module: each replayed record and each pass is checked against its hash first; a
pass that cannot be decided again is counted and reported, and never taken for an equal one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any

from actors.book.book import Book
from actors.book.checkpoint import follow, replay
from actors.events import EventType, Record, to_iso
from actors.journal.kept_slices import KeptSlices
from actors.journal.parquet_archive import readable
from actors.journal.store import Journal
from actors.names import split_name
from actors.reconciliation.grounds import PASS
from actors.reconciliation.recompute import PassEntry, UnusablePass, differences_from_journal, entry_of, grounds_of
from brokers.frozen import dataclass
from supervisor.cli.audit_replay import Past
from supervisor.cli.audit_selection import Source, reading
from supervisor.cli.console import Failure, print_json
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK, EXIT_UNVERIFIED


@dataclass(frozen=True, slots=True)
class Wanted:
    """The passes to decide again: of an account, an instrument, a period; ``None`` is no condition."""

    account: str | None = None
    instrument: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, stream: str) -> bool:
        """Whether this stream is selected."""
        account, symbol = split_name(stream)
        return self.account in (None, account) and self.instrument in (None, symbol)

    def at(self, time: datetime) -> bool:
        """Whether this time is selected."""
        return (self.since is None or time >= self.since) and (self.until is None or time < self.until)


@dataclass(slots=True)
class Recomputed:
    """The result. ``otherwise`` are passes that today's code decides differently, and how; ``wrong`` is what is not as
    it was kept, as text; ``unbound`` counts passes that the journal holds under no hash."""

    passes: int = 0
    same: int = 0
    unbound: int = 0
    not_kept: int = 0
    before_the_journal: int = 0
    otherwise: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status."""
        if self.otherwise or self.wrong:
            return EXIT_BREAK_OPEN
        return EXIT_UNVERIFIED if self.not_kept or self.before_the_journal else EXIT_OK


def recompute(of: Source, wanted: Wanted, slices: Path | None, archives: Sequence[Path], *, as_json: bool) -> int:
    """Decide again on everything that was kept. Raises ``JournalError`` and :class:`Failure`."""
    file = slices or (None if of.slices is None else Path(of.slices))
    if file is None or not file.exists():
        raise Failure(
            f"no slices were kept{'' if file is None else f': there is no {file}'}. Set journal.keep_slices: true, or "
            "give the file that holds them (--slices FILE)"
        )
    found = Recomputed()
    with contextlib.ExitStack() as stack:
        journals = [stack.enter_context(reading(of))]
        journals += [stack.enter_context(reading(Source(f"sqlite:///{readable(one.absolute())}"))) for one in archives]
        kept = KeptSlices(file, read_only=True)
        stack.callback(kept.close)
        streams = [name for name in kept.streams() if wanted.takes(name)]
        if not streams:
            raise Failure(f"{file} holds no slice for this selection")
        for name in streams:
            _stream(journals, kept, name, wanted, found)
    if as_json:
        print_json({"ok": found.status == EXIT_OK, **_document(found)})
    else:
        print("\n".join(_words(found)))
    return found.status


def _stream(journals: Sequence[Journal], kept: KeptSlices, name: str, wanted: Wanted, found: Recomputed) -> None:
    account, symbol = split_name(name)
    past = Past(journals, account, symbol)
    end = max((head[0] for journal in journals if (head := journal.head()) is not None), default=0)
    records = past.between(0, end)
    decided: dict[str, list[Record]] = {}
    for record in records:
        own = record.event.payload.get(PASS)
        if isinstance(own, str):
            decided.setdefault(own, []).append(record)
    passes = list(_entries(kept, name, found))
    bound = _bound(passes, decided)
    book = _Fold(account, symbol, records)
    for one in passes:
        if one.hash not in bound:
            found.unbound += 1
        if not wanted.at(one.now):
            continue
        found.passes += 1
        _pass(book, one, decided.get(one.hash, []), kept, found)
    known = {one.hash for one in passes}
    found.not_kept += sum(own not in known and wanted.at(of[0].event.time) for own, of in decided.items())


def _pass(book: _Fold, one: PassEntry, journaled: Sequence[Record], kept: KeptSlices, found: Recomputed) -> None:
    stands = book.at(one.version)
    if stands is None:
        found.before_the_journal += 1
        return
    place = f"{stands.stream} after version {one.version}, {to_iso(one.now)}"
    versions = [record.version for record in journaled]
    if versions and versions != list(range(one.version + 1, one.version + 1 + one.decided)):
        found.wrong.append(f"{place}: the pass {one.hash} says it decided other records than those that name it")
        return
    if one.decided and not versions:
        found.same += 1  # interrupted or fenced before it was journaled: it had no effect
        return
    try:
        differs = differences_from_journal(journaled, grounds_of(one, stands, kept.part))
    except UnusablePass as error:
        found.wrong.append(f"{place}: {error}")
        return
    if differs:
        seqs = [record.seq for record in journaled]
        found.otherwise.append(
            {
                "stream": stands.stream,
                "version": one.version,
                "time": to_iso(one.now),
                "pass": one.hash,
                "seqs": seqs,
                "differences": differs,
            }
        )
    else:
        found.same += 1


class _Fold:
    """The book of a stream at increasing versions."""

    def __init__(self, account: str, symbol: str, records: Sequence[Record]) -> None:
        whole = not records or records[0].version == 1
        starts = (n for n, one in enumerate(records) if one.event.type is EventType.CHECKPOINT)
        begin = 0 if whole else next(starts, len(records))
        self._rest = iter(records[begin:])
        self._book: Book | None = replay(account, symbol, []) if whole else None
        if self._book is None and begin < len(records):
            self._book = replay(account, symbol, [next(self._rest)])

    def at(self, version: int) -> Book | None:
        """The book at a version, not below the last one requested; ``None`` where no record reaches it."""
        book = self._book
        if book is None or book.version > version:
            return None
        while book.version < version:
            record = next(self._rest, None)
            if record is None or record.version != book.version + 1:
                self._book = None
                return None
            follow(book, record)
        return book


def _entries(kept: KeptSlices, name: str, found: Recomputed) -> Iterator[PassEntry]:
    for own, entry in kept.passes(name):
        try:
            if entry is None:
                raise UnusablePass(f"pass {own} is damaged")
            one = entry_of(own, entry)
            if f"{one.account}/{one.instrument}" != name:
                raise UnusablePass(f"pass {own} is of another stream, {one.account}/{one.instrument}")
        except UnusablePass as error:
            found.wrong.append(f"{name}: {error}")
            continue
        yield one


def _bound(passes: Sequence[PassEntry], decided: Mapping[str, object]) -> set[str]:
    """The passes that a record of the journal names, and all earlier ones that they name in turn."""
    before = {one.hash: one.before for one in passes}
    bound: set[str] = set()
    for own in decided:
        at: str | None = own
        while at is not None and at not in bound:
            bound.add(at)
            at = before.get(at)
    return bound


def _document(found: Recomputed) -> dict[str, Any]:
    return {
        "passes": found.passes,
        "same": found.same,
        "otherwise": found.otherwise,
        "wrong": found.wrong,
        "not_kept": found.not_kept,
        "before_the_journal": found.before_the_journal,
        "unbound": found.unbound,
    }


def _words(found: Recomputed) -> Iterator[str]:
    yield f"{found.passes} passes decided on again, {found.same} the same"
    for one in found.otherwise:
        yield f"OTHERWISE {one['stream']} after version {one['version']}, {one['time']}"
        yield from (f"  {words}" for words in one["differences"])
    yield from (f"WRONG {words}" for words in found.wrong)
    if found.not_kept:
        yield f"{found.not_kept} passes that the journal names are not kept here"
    if found.before_the_journal:
        yield f"{found.before_the_journal} passes rest on records that are in an archive: give it with --archive FILE"
    if found.unbound:
        yield f"{found.unbound} passes wrote nothing, and no later record proves them"
