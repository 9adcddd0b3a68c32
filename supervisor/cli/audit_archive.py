"""``audit archive``: moves old records into a journal of their own, with the chain intact across the cut.

The laws of this module: an instrument needs its records from its last checkpoint on, so a new checkpoint is written
first where the last one would keep too much (else one quiet instrument would hold back the records of all others); a
halt of trading in force is rebuilt from the record that made it, so no record from the oldest such halt on is moved.
"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from actors.book.checkpoint import checkpoint_event, replay
from actors.book.trading_permission import HALT_TYPES, folded, scope_words
from actors.events import to_iso
from actors.journal.archive import Seal
from actors.journal.evidence_tables import origin_of, signed_head
from actors.journal.signing_keys import load_or_make
from actors.journal.store import Append, Journal
from actors.journal.types import JournalInUse, JournalUnavailable
from actors.names import split_name
from supervisor.cli.audit_selection import Source
from supervisor.cli.console import Failure, print_json, say
from supervisor.presentation.json_contract import EXIT_OK


def archive(of: Source, before: datetime, file: Path, *, as_json: bool) -> int:
    """Move the oldest records into ``file``. Raises ``JournalError``, and :class:`Failure` where the journal is in
    use or the file exists."""
    if file.exists():
        raise Failure(f"{file} exists already, and an archive is never replaced. Choose another file")
    try:
        journal = Journal.open(of.url, exclusive=True, beside=of.beside)
    except JournalInUse as error:
        raise Failure(str(error)) from None
    with contextlib.closing(journal):
        before = _before_halts(journal, before)
        _write_checkpoints(journal, before)
        done = journal.archive(before, file.absolute(), seal=_seal(of))
    if as_json:
        print_json(dataclasses.asdict(done))
    elif done.records:
        print(f"archived {done.records} records to {file}, {done.first_seq} to {done.last_seq} {done.last_hash}")
    else:
        held = "there are no older records" if done.held_by is None else f"{done.held_by} needs record {done.first_seq}"
        print(f"nothing was archived: {held}")
    return EXIT_OK


def _seal(of: Source) -> Seal | None:
    """The function that signs the cut, with the key of the heads; ``None`` where there is no such key yet."""
    private, public = of.private, of.public
    if private is None or public is None or not Path(public).exists():
        return None

    def seal(connection: Connection, size: int) -> None:
        with connection.begin():
            origin = origin_of(connection)
        try:
            signer = load_or_make(private, Path(public), origin)
        except JournalUnavailable as error:
            say(f"the archive gets no signed head of its own: {error}")
            return
        signed_head(connection, [signer], origin or signer.public.name, datetime.now(UTC), size)

    return seal


def _before_halts(journal: Journal, before: datetime) -> datetime:
    in_force = folded(journal.records(types=HALT_TYPES))
    oldest = min(in_force.values(), key=lambda halt: halt.since, default=None)
    if oldest is None or oldest.since >= before:
        return before
    say(f"trading is halted for {scope_words(oldest.scope)}: what is from {to_iso(oldest.since)} on stays")
    return oldest.since


def _write_checkpoints(journal: Journal, before: datetime) -> None:
    """Write a checkpoint for each instrument that would otherwise need a record to be archived."""
    now = datetime.now(UTC)
    batch = []
    for name in journal.streams():
        account, symbol = split_name(name)
        tail = journal.load(name)
        if symbol and tail.records and tail.records[0].event.time < before:
            book = replay(account, symbol, tail.records)
            batch.append(Append(name, tail.version, (checkpoint_event(book, now),)))
    for outcome in journal.append(batch):
        if isinstance(outcome, Exception):
            raise outcome
