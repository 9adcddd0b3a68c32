"""Where a journal was cut: what archived records left behind, so that the chain goes on from there.

An anchor names the last archived record by its ``seq`` and ``hash``, the name of the archive's file, and the version
every stream had there. Its own digest shows a later change of any of it. An archive that continues an earlier one has
an anchor too, and so each names the one before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Final

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select

from actors.journal.hash_chain import GENESIS
from actors.journal.schema import anchor, archived_versions, corrupt, schema
from brokers.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of what was archived; of nothing, by default. ``versions`` are those of the streams that were cut."""

    seq: int = 0
    hash: str = GENESIS
    file: str | None = None
    versions: Mapping[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """A hash over all it says."""
        said = [self.seq, self.hash, self.file, dict(self.versions)]
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


NO_CUT = Anchor()


def read_anchor(connection: Connection, attempted: str) -> Anchor:
    """Where the journal begins, within the present transaction; raises :class:`JournalCorrupt` for an anchor that is
    not as it was written."""
    if not _has_anchor(connection):
        return NO_CUT
    row = connection.execute(select(anchor.c.seq, anchor.c.hash, anchor.c.file, anchor.c.digest)).one_or_none()
    versions = {row.stream: row.version for row in connection.execute(select(archived_versions))}
    if row is None:
        if versions:
            raise corrupt(attempted, "it was cut, and the anchor that says where is gone")
        return NO_CUT
    found = Anchor(row.seq, row.hash, row.file, versions)
    if found.digest() != row.digest:
        raise corrupt(attempted, f"its anchor (records up to {row.seq} are in {row.file}) was altered")
    return found


def write_anchor(connection: Connection, new: Anchor) -> None:
    """Make it the journal's anchor, within the present transaction."""
    connection.execute(delete(anchor))
    connection.execute(delete(archived_versions))
    connection.execute(insert(anchor).values(id=1, seq=new.seq, hash=new.hash, file=new.file, digest=new.digest()))
    if new.versions:
        rows = [{"stream": stream, "version": version} for stream, version in sorted(new.versions.items())]
        connection.execute(insert(archived_versions), rows)


# Made once: putting a statement together takes longer than what it asks for, and each stream asks these first.
_LAST_ARCHIVED: Final = select(archived_versions.c.version).where(archived_versions.c.stream == bindparam("of"))
_SCHEMA: Final = select(func.max(schema.c.version))


def archived_version(connection: Connection, stream: str) -> int:
    """The version of the stream's last archived record; 0 where none is archived."""
    if not _has_anchor(connection):
        return 0
    return connection.execute(_LAST_ARCHIVED, {"of": stream}).scalar() or 0


def _has_anchor(connection: Connection) -> bool:
    # A reader may have a journal before it that no writer of this version has opened yet.
    return (connection.execute(_SCHEMA).scalar() or 0) >= 2
