"""Holding a journal against heads that were signed: those that it keeps, and those that somebody kept elsewhere.

Each thing that can have happened is found and named: an end that was cut off, records exchanged or hashed again under
heads that were signed before, a head signed anew with another key, and two heads over one number of records (a split
view).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, select

from actors.journal.archive_anchor import Anchor, read_anchor
from actors.journal.evidence_tables import (
    LeavesElsewhere,
    StoredHead,
    Tree,
    has_tables,
    newest_head,
    rotation_notes,
    stored_heads,
)
from actors.journal.schema import read_head, records
from actors.journal.signed_head import Head, HeadError, PublicKey, parse_head, split_notes, trusted_keys, verified_head
from actors.journal.types import JournalCorrupt, JournalUnavailable
from actors.journal.verification import check_from

_ATTEMPTED = "check the journal against its signed heads"

Leaves = Callable[[Connection], LeavesElsewhere]
"""What gives archived leaves, for the connection that reads the journal."""


class Since(NamedTuple):
    """The ``size`` of a head up to which the journal was verified before, after which record reading began (later than
    at ``size`` where records were archived since), how many records were read, and what is wrong, where something is.
    """

    size: int
    after: int
    records: int
    wrong: str | None


class Compared(NamedTuple):
    """How many heads were held against the journal and agree as far as was read, of how many of another place the
    records are in archives that are not here, and what is wrong, where something is."""

    heads: int
    archived: int
    wrong: str | None


def check_heads(
    connection: Connection,
    keys: Sequence[PublicKey] | None,
    elsewhere: Sequence[str] = (),
    *,
    leaves: Leaves | None = None,
    anew: bool = False,
) -> Compared:
    """The journal held against its signed heads; raises ``JournalUnavailable`` where an archive is needed for it.

    ``keys`` are the trusted public keys, ``None`` where nobody has any: then signatures are not judged. ``elsewhere``
    are signed notes that were kept in another place. The roots of those and of the newest head are compared with the
    tree, and with ``anew`` that tree is made again from the records instead of its kept nodes.
    """
    kept = has_tables(connection)
    with connection.begin():
        trusted = None if keys is None else trusted_keys(keys, rotation_notes(connection) if kept else [])
        cut = read_anchor(connection, _ATTEMPTED)
        end, _ = read_head(connection, _ATTEMPTED)
        newest = newest_head(connection) if kept else None
        tree = Tree(connection, kept=kept and not anew, elsewhere=None if leaves is None else leaves(connection))
        checker = _Checker(connection, trusted, cut, end, tree)
        own: Iterable[StoredHead] = stored_heads(connection) if kept else ()
        for head in own:
            wrong = checker.wrong(head.note, "the journal", with_root=head == newest)
            if wrong is not None:
                return Compared(checker.count, checker.archived, wrong)
        for note in elsewhere:
            wrong = checker.wrong(note, "another place", with_root=True)
            if wrong is not None:
                return Compared(checker.count, checker.archived, wrong)
    return Compared(checker.count, checker.archived, None)


def check_since(
    connection: Connection, note: str, keys: Sequence[PublicKey] | None, *, leaves: Leaves | None = None
) -> Since:
    """What was added since a head up to which the journal was verified before; the heads that the journal has signed
    since are held against it too. Costs what is new: the tree up to the head is made of its kept nodes. Raises
    ``JournalUnavailable`` where an archive is needed for that."""
    wrong = _against_one(connection, note, keys, leaves)
    size = parse_head(note).size
    if wrong is not None:
        return Since(size, size, 0, wrong)
    with connection.begin():
        end, _ = read_head(connection, _ATTEMPTED)
        cut = read_anchor(connection, _ATTEMPTED)
    begin = (size, parse_head(note).chain) if size >= cut.seq else (cut.seq, cut.hash)
    try:
        check_from(connection, *begin, _ATTEMPTED)
    except JournalCorrupt as error:
        return Since(size, begin[0], 0, error.found)
    return Since(size, begin[0], end - begin[0], None)


def _against_one(
    connection: Connection, note: str, keys: Sequence[PublicKey] | None, leaves: Leaves | None
) -> str | None:
    kept = has_tables(connection)
    with connection.begin():
        trusted = None if keys is None else trusted_keys(keys, rotation_notes(connection) if kept else [])
        tree = Tree(connection, kept=kept, elsewhere=None if leaves is None else leaves(connection))
        end, _ = read_head(connection, _ATTEMPTED)
        checker = _Checker(connection, trusted, read_anchor(connection, _ATTEMPTED), end, tree)
        wrong = checker.wrong(note, "another place", with_root=True)
        if wrong is None and checker.archived:
            raise JournalUnavailable(
                _ATTEMPTED,
                f"what the head over {parse_head(note).size} records covers is in an archive that is not here",
                "Put the archive beside the journal, or name it (--archive FILE)",
            )
        if wrong is not None or not kept:
            return wrong
        newest = newest_head(connection)
        # From its own size on: there may be another head over as many records.
        for head in stored_heads(connection, after_size=parse_head(note).size - 1):
            wrong = checker.wrong(head.note, "the journal", with_root=head == newest)
            if wrong is not None:
                return wrong
    return None


class _Checker:
    """Heads as they are met, smallest first, each held against the journal and against those before it."""

    def __init__(
        self, connection: Connection, trusted: Sequence[PublicKey] | None, cut: Anchor, end: int, tree: Tree
    ) -> None:
        self._connection = connection
        self._trusted = trusted
        self._cut = cut
        self._end = end
        self._tree = tree
        self._last_good = 0
        self._origin: str | None = None
        self._roots: dict[int, bytes] = {}
        self.count = 0
        self.archived = 0

    def wrong(self, note: str, where: str, *, with_root: bool) -> str | None:
        """What is wrong with the journal or with this head."""
        try:
            head = parse_head(note) if self._trusted is None else verified_head(note, self._trusted)
        except HeadError as error:
            return f"a head kept in {where} does not count: {error}"
        found = self._other_journal(head, where)
        if found is None:
            archived = self.archived
            found = self._against_the_chain(head, where, with_root=with_root)
            self.count += self.archived == archived
        return found

    def _other_journal(self, head: Head, where: str) -> str | None:
        self._origin = self._origin or head.origin
        if head.origin != self._origin:
            return f"a head kept in {where} is of another journal: {head.origin}, and not {self._origin}"
        if self._roots.setdefault(head.size, head.root) != head.root:
            return (
                f"split view: there are two signed heads over {head.size} records with different roots, one of them "
                f"kept in {where}: two versions of this journal were shown"
            )
        return None

    def _against_the_chain(self, head: Head, where: str, *, with_root: bool) -> str | None:
        signed = f"the head over {head.size} records, signed at {head.time:%Y-%m-%dT%H:%M:%SZ} and kept in {where}"
        if head.size > self._end:
            return f"the end is cut off: {signed}, covers more than the {self._end} records there are"
        if head.size < self._cut.seq:
            return self._wrong_root(head, signed) if with_root else None
        if head.size == self._cut.seq:
            chain: str | None = self._cut.hash
        else:
            chain = self._connection.execute(select(records.c.hash).where(records.c.seq == head.size)).scalar()
        if chain != head.chain:
            return (
                f"records {self._last_good + 1} to {head.size} are not those that were signed: one was exchanged, and "
                f"what follows hashed again, since {signed}"
            )
        self._last_good = max(self._last_good, head.size)
        return self._wrong_root(head, signed) if with_root else None

    def _wrong_root(self, head: Head, signed: str) -> str | None:
        try:
            found = self._tree.root(head.size)
        except JournalUnavailable:
            if head.size > self._cut.seq:
                raise
            self.archived += 1
            return None
        if found != head.root:
            return f"the Merkle tree has another root than {signed}: something up to record {head.size} was changed"
        return None


def notes_in(file: Path) -> list[str]:
    """The signed heads that a file holds, smallest first; raises :class:`HeadError`."""
    try:
        notes = split_notes(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadError(f"the heads in {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not notes:
        raise HeadError(f"{file} holds no signed head")
    return sorted(notes, key=lambda note: parse_head(note).size)
