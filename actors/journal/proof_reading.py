"""Making proofs out of a journal, beside its writer or on a copy, with the archives that hold what is older."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from actors.journal.archived_leaves import archived_leaves
from actors.journal.evidence_tables import StoredHead, Tree, has_tables, head_covering, newest_head, rotation_notes
from actors.journal.hash_chain import canonical_bytes, chained
from actors.journal.parquet_archive import readable
from actors.journal.proofs import ProvenRecord, proof
from actors.journal.schema import corrupt, records
from actors.journal.signed_head import parse_head
from actors.journal.store import Journal
from actors.journal.types import JournalUnavailable

T = TypeVar("T")

_ATTEMPTED = "prove records of the journal"


class ProofReader:
    """An open journal and its archives, out of which proofs are made; ``folder`` is where they lie (beside its file)
    unless they are named."""

    def __init__(self, journal: Journal, archives: Sequence[Path] = (), folder: Path | None = None) -> None:
        self._journal = journal
        self._archives = list(archives)
        self._folder = folder or (None if journal.file is None else journal.file.parent)

    def head(self, wanted: str | int | None, *, covering: int = 0) -> StoredHead:
        """A signed head: over exactly that many records, or the one that a note is; for ``None`` the newest that covers
        record ``covering``. Raises :class:`JournalUnavailable` where there is none."""
        if isinstance(wanted, str):
            head = parse_head(wanted)
            return StoredHead(head.size, "", wanted)
        found = self._journal.with_connection(lambda connection: _head(connection, wanted))
        if found is None or found.size < covering:
            newest = "none is signed yet" if found is None else f"the newest covers {found.size}"
            which = f"over {wanted} records" if wanted is not None else f"that covers record {covering}"
            raise JournalUnavailable(
                _ATTEMPTED,
                f"there is no signed head {which}; {newest}",
                "The running supervisor signs one a minute and at its end; `audit heads` lists them",
            )
        return found

    def proof(self, seqs: Sequence[int], newer: StoredHead, older: StoredHead | None) -> dict[str, Any]:
        """The document that proves these records, and what is between two heads; see :func:`proofs.proof`."""
        proven = [self._record(seq) for seq in seqs]
        return self._journal.with_connection(lambda connection: self._document(connection, proven, newer, older))

    def _document(
        self, connection: Connection, proven: Sequence[ProvenRecord], newer: StoredHead, older: StoredHead | None
    ) -> dict[str, Any]:
        kept = has_tables(connection)
        elsewhere = archived_leaves(connection, self._folder, self._archives)
        with connection.begin():
            tree = Tree(connection, kept=kept, elsewhere=elsewhere)
            for head in (older, newer):
                if head is not None and tree.root(head.size) != parse_head(head.note).root:
                    raise corrupt(
                        _ATTEMPTED, f"the tree over {head.size} records has another root than that signed head"
                    )
            rotations = rotation_notes(connection) if kept else []
            return proof(proven, newer, older, rotations, tree.perfect)

    def _record(self, seq: int) -> ProvenRecord:
        found = self._journal.with_connection(lambda connection: _read(connection, seq))
        for archive in self._archives:
            if found is None:
                other = Journal.open(f"sqlite:///{readable(archive.absolute())}", read_only=True)
                try:
                    found = other.with_connection(lambda connection: _read(connection, seq))
                finally:
                    other.close()
        if found is None:
            raise JournalUnavailable(
                _ATTEMPTED, f"there is no record {seq} here", "Where it was archived, name its archive (--archive FILE)"
            )
        return found


def _head(connection: Connection, size: int | None) -> StoredHead | None:
    if not has_tables(connection):
        return None
    with connection.begin():
        return newest_head(connection) if size is None else head_covering(connection, size, exactly=True)


def _read(connection: Connection, seq: int) -> ProvenRecord | None:
    with connection.begin():
        row = connection.execute(select(records).where(records.c.seq == seq)).one_or_none()
    if row is None:
        return None
    *content, previous, own = tuple(row)
    canonical = canonical_bytes(*content)
    if chained(previous, canonical) != own:
        raise corrupt(_ATTEMPTED, f"record {seq} was altered: its content does not have its hash")
    return ProvenRecord(seq, canonical.decode(), previous)
