"""Keeps the evidence of a journal: its Merkle tree up to date, its heads signed, stamped and delivered.

* No append waits for this: the tree is grown and the head signed afterwards, in short steps between which appends go
  on, and once more at the end.
* What cannot be done now is reported once and tried again: a missing key, a place or a time-stamp server that does not
  answer delay nothing else.
* A journal that contradicts its own last signed head is refused: something was changed or cut off since it was signed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, select

from actors.journal.archive_anchor import read_anchor
from actors.journal.archived_leaves import archived_leaves
from actors.journal.evidence import EvidenceSettings
from actors.journal.evidence_tables import (
    LeavesElsewhere,
    StoredHead,
    Tree,
    delivered,
    grow,
    newest_head,
    origin_of,
    put_delivered,
    put_stamp,
    rename_place,
    rotation_notes,
    signed_head,
    stored_heads,
)
from actors.journal.head_places import MOST_AT_ONCE, stored_name
from actors.journal.schema import corrupt, read_head, records
from actors.journal.signed_head import HeadError, Signer, trusted_keys, verified_head
from actors.journal.signing_keys import load_or_make, read_public
from actors.journal.types import JournalUnavailable
from actors.journal.verification import check_from

if TYPE_CHECKING:
    from actors.journal.store import Journal

STAMP_EVERY_S: Final = 3600.0
_ATTEMPTED: Final = "check the journal against its last signed head"
_CHECKED_AT_MOST: Final = 50_000
"""Records after the last head that opening reads again; a journal that was not signed for long has more."""


class HeadKeeper:
    """The evidence of one journal that this process writes. Every method waits for the disk, and none for a network."""

    def __init__(self, journal: Journal, settings: EvidenceSettings, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._settings = settings
        self._now = now
        self._signer: Signer | None = None
        self._origin: str | None = None
        self._distrusted = False
        self.signed_size = 0
        self.stamped_at: datetime | None = None
        self.error: str | None = None
        self.caution: str | None = None

    def begin(self) -> None:
        """Take the key, and check the journal against its last signed head.

        Raises ``JournalCorrupt`` where it contradicts that head; what keeps heads from being signed is in ``error``,
        and what was not checked in ``caution``.
        """
        last = self._journal.with_connection(self._last_head)
        for place in self._settings.places:
            if (name := stored_name(place)) != place:
                self._journal.with_connection(partial(rename_place, before=place, name=name))
        self._take_key()
        if last is None:
            self._journal.with_connection(self._check_unsigned)
            return
        self._journal.with_connection(lambda connection: self._check(connection, last))
        self.signed_size = last.size

    def _take_key(self) -> None:
        try:
            self._signer = load_or_make(self._settings.key, Path(self._settings.public), self._origin)
        except JournalUnavailable as error:
            self.error = str(error)

    def grow(self) -> bool:
        """Grow the tree a little; says whether there is more to do."""
        return self._journal.with_connection(lambda found: grow(found, elsewhere=self._elsewhere(found)))

    def sign(self) -> StoredHead | None:
        """Sign where the journal ends, if it has grown; :meth:`grow` comes first."""
        if self._signer is None and not self._distrusted:
            self._take_key()
        signer = self._signer
        if signer is None:
            return None
        if self._journal.with_connection(_end) <= self.signed_size:
            return None
        origin = self._origin or signer.public.name
        head = self._journal.with_connection(lambda found: signed_head(found, [signer], origin, self._now()))
        if head is not None:
            self.signed_size, self._origin, self.error = head.size, origin, None
        return head

    def newest(self) -> StoredHead | None:
        """The newest signed head."""
        return self._journal.with_connection(_newest)

    def due(self, place: str) -> list[StoredHead]:
        """The next heads that a place has not had, oldest first."""
        return self._journal.with_connection(lambda connection: _due(connection, stored_name(place)))

    def mark_delivered(self, place: str, head: StoredHead) -> None:
        """A place has received all heads up to this one."""
        name = stored_name(place)
        self._journal.with_connection(lambda connection: put_delivered(connection, name, head.size))

    def stamp_due(self) -> bool:
        """Whether the last time stamp is old enough for another."""
        if self._settings.timestamp_url is None:
            return False
        return self.stamped_at is None or (self._now() - self.stamped_at).total_seconds() >= STAMP_EVERY_S

    def stamped(self, head: StoredHead, stamp: bytes) -> None:
        """Keep a time stamp that was read back and found right."""
        self._journal.with_connection(lambda connection: put_stamp(connection, head, stamp))
        self.stamped_at = self._now()

    def _last_head(self, connection: Connection) -> StoredHead | None:
        with connection.begin():
            self._origin = origin_of(connection)
            stamped = newest_head(connection, stamped=True)
            if stamped is not None:
                self.stamped_at = datetime.fromisoformat(stamped.time)
            return newest_head(connection)

    def _check(self, connection: Connection, last: StoredHead) -> None:
        attempted = _ATTEMPTED
        try:
            keys = read_public(Path(self._settings.public))
            with connection.begin():
                head = verified_head(last.note, trusted_keys(keys, rotation_notes(connection)))
        except HeadError as error:
            self._signer, self._distrusted = None, True
            self.error = self.error or f"the journal's heads are not signed on: {error}"
            return
        with connection.begin():
            end = read_head(connection, attempted)[0]
            cut = read_anchor(connection, attempted)
            chain = connection.execute(select(records.c.hash).where(records.c.seq == head.size)).scalar()
            if end < head.size:
                raise corrupt(
                    attempted,
                    f"it ends at record {end}, and the head signed at {last.time} covers {head.size}: its end is gone",
                )
            if head.size >= cut.seq and (cut.hash if head.size == cut.seq else chain) != head.chain:
                raise corrupt(
                    attempted, f"record {head.size} is not the one that the head signed at {last.time} covers"
                )
            try:
                root = Tree(connection, kept=True, elsewhere=self._elsewhere(connection)).root(head.size)
            except JournalUnavailable as error:
                self.error = str(error)
                return
            if root != head.root:
                raise corrupt(
                    attempted, f"the root over its first {head.size} records is not the one signed at {last.time}"
                )
        begin = (head.size, head.chain) if head.size >= cut.seq else (cut.seq, cut.hash)
        self._read_on(connection, *begin, end)

    def _check_unsigned(self, connection: Connection) -> None:
        with connection.begin():
            cut, end = read_anchor(connection, _ATTEMPTED), read_head(connection, _ATTEMPTED)[0]
        self._read_on(connection, cut.seq, cut.hash, end)

    def _read_on(self, connection: Connection, seq: int, last_hash: str, end: int) -> None:
        if end - seq > _CHECKED_AT_MOST:
            self.caution = (
                f"the {end - seq:,} records after record {seq:,} are covered by no signed head and were not read again "
                "at this start, which may not wait for so many. Run `audit verify` to have them checked"
            )
            return
        check_from(connection, seq, last_hash, _ATTEMPTED)

    def _elsewhere(self, connection: Connection) -> LeavesElsewhere:
        # Archives lie beside the journal's file, and those of a server beside what else is kept of it here.
        folder = (self._journal.file or Path(self._settings.public)).parent
        return archived_leaves(connection, folder)


def _end(connection: Connection) -> int:
    with connection.begin():
        return read_head(connection, "sign the head of the journal")[0]


def _newest(connection: Connection) -> StoredHead | None:
    with connection.begin():
        return newest_head(connection)


def _due(connection: Connection, place: str) -> list[StoredHead]:
    with connection.begin():
        return list(stored_heads(connection, after_size=delivered(connection, place), limit=MOST_AT_ONCE))
