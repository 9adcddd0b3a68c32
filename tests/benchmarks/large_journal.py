"""A journal of many records, made quickly: what a store of years looks like, without the years.

    python -m tests.benchmarks.large_journal DIRECTORY [RECORDS]

The records are those of :mod:`tests.benchmarks.journal`, chained as the journal does it and put into its table in large
transactions that no disk is waited for; tree and head are then made as the audit actor makes them.
"""

from __future__ import annotations

import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

from actors.journal.evidence import EvidenceSettings
from actors.journal.hash_chain import GENESIS, rows_of
from actors.journal.head_keeper import HeadKeeper
from actors.journal.store import Journal
from tests.benchmarks.journal import STREAMS, an_event

_AT_ONCE = 100_000
_OF_A_STREAM = 10


def keeper_of(journal: Journal, directory: Path) -> HeadKeeper:
    """What grows the tree of a journal of this directory, and signs its heads."""
    settings = EvidenceSettings(str(directory / "journal.db.key"), str(directory / "journal.db.pub"))
    keeper = HeadKeeper(journal, settings, lambda: datetime.now(UTC))
    keeper.begin()
    return keeper


def make(directory: Path, count: int) -> None:
    """A closed journal of ``count`` records in ``directory``, with its tree and one signed head."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "journal.db"
    Journal.open(f"sqlite:///{file}", exclusive=True).close()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-400000")
    seq, last_hash, turn = 0, GENESIS, 0
    versions = dict.fromkeys(STREAMS, 0)
    while seq < count:
        connection.execute("BEGIN")
        end = min(seq + _AT_ONCE, count)
        while seq < end:
            stream = STREAMS[turn % len(STREAMS)]
            turn += 1
            version = versions[stream]
            many = min(_OF_A_STREAM, end - seq)
            events = [an_event(stream, version + place) for place in range(1, many + 1)]
            rows = rows_of(seq, last_hash, stream, version, events)
            connection.executemany("INSERT INTO journal_records VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            seq, last_hash = rows[-1][0], rows[-1][-1]
            versions[stream] += many
        connection.execute("UPDATE journal_head SET seq = ?, hash = ?", (seq, last_hash))
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    file.with_name(file.name + ".mark").unlink(missing_ok=True)
    journal = Journal.open(f"sqlite:///{file}", exclusive=True)
    keeper = keeper_of(journal, directory)
    while keeper.grow():
        pass
    keeper.sign()
    journal.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000_000)
