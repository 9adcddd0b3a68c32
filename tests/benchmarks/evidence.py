"""What evidence costs: appends with tree and signature beside appends without, a proof, verification beside SHA-256.

    python -m tests.benchmarks.evidence [RECORDS]

The floor of the verification is `hashlib.sha256` over the same bytes on the same cores, a record at a time: no
verification can do with less, as each record has a hash of its own. One call over a whole piece stands beside it.
Processor time, of all processes together, is what holds on a machine that does something else too. Ratios hold over
machines; seconds do not.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from actors.journal.evidence import EvidenceSettings
from actors.journal.hash_chain import canonical_bytes
from actors.journal.head_keeper import HeadKeeper
from actors.journal.parallel_verification import CHUNK
from actors.journal.proof_reading import ProofReader
from actors.journal.store import Append, Journal
from tests.benchmarks.form import Figure, show
from tests.benchmarks.journal import commits, timed

ROUNDS = 5


def appended(directory: Path, batches: list[list[Append]], *, evidence: bool) -> float:
    """Seconds for these commits, and with evidence for growing the tree and signing as the audit actor does."""
    directory.mkdir()
    journal = Journal.open(f"sqlite:///{directory}/journal.db", exclusive=True)
    settings = EvidenceSettings(str(directory / "key"), str(directory / "pub"))
    keeper = HeadKeeper(journal, settings, lambda: datetime.now(UTC))
    if evidence:
        keeper.begin()

    def write() -> None:
        for batch in batches:
            journal.append(batch)
        if evidence:
            while keeper.grow():
                pass
            keeper.sign()

    try:
        return timed(write)
    finally:
        journal.close()


def _hash_alone(file: str, after: int, last: int) -> tuple[float, float]:
    """Of what :mod:`parallel_verification` hashes of a piece, the seconds that SHA-256 takes over it, a record at a
    time and in one call."""
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT * FROM journal_records WHERE seq > ? AND seq <= ?", (after, last)).fetchall()
    connection.close()
    texts = [row[-2].encode() + canonical_bytes(*row[:-2]) for row in rows]
    whole = b"".join(texts)
    start = time.process_time()
    for text in texts:
        hashlib.sha256(text).hexdigest()
    middle = time.process_time()
    hashlib.sha256(whole).hexdigest()
    return middle - start, time.process_time() - middle


def hash_floor(file: Path, count: int) -> tuple[float, float]:
    """Processor seconds that SHA-256 alone takes over the same bytes, all cores at work: a record at a time, and in one
    call a piece."""
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pieces = [
            pool.submit(_hash_alone, str(file), begin, min(begin + CHUNK, count)) for begin in range(0, count, CHUNK)
        ]
        each, at_once = zip(*(piece.result() for piece in pieces), strict=True)
    return sum(each), sum(at_once)


def processor_s() -> float:
    """Processor seconds of this process, and of all that it started and that have ended."""
    for child in multiprocessing.active_children():
        child.join()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def figures(*, quick: bool = False, records: int = 1_000_000) -> Iterator[Figure]:
    """Verification and proof are of a journal of so many records."""
    count = 20_000 if quick else records
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for appends_a_commit, how_many in ((1, 1000), (10, 300), (100, 50)):
            batches = list(commits(appends_a_commit, how_many // 5 if quick else how_many))
            best = [float("inf")] * 2
            for attempt in range(2 if quick else ROUNDS):
                for kind in (0, 1):
                    place_ = directory / f"{appends_a_commit}-{attempt}-{kind}"
                    best[kind] = min(best[kind], appended(place_, batches, evidence=bool(kind)))
            events = appends_a_commit * 10 * len(batches)
            name = f"a record with tree and signature, {appends_a_commit * 10} a commit"
            yield Figure(name, best[1] / events * 1e6, "µs", best[0] / events * 1e6, "of one without")
        large = directory / "large"
        large.mkdir()
        journal = Journal.open(f"sqlite:///{large}/journal.db", exclusive=True)
        keeper = HeadKeeper(
            journal, EvidenceSettings(str(large / "key"), str(large / "pub")), lambda: datetime.now(UTC)
        )
        keeper.begin()
        for batch in commits(100, count // 1000):
            journal.append(batch)
        grown_s = timed(lambda: _grow(keeper))
        keeper.sign()
        yield Figure(f"the tree over {count:,} records made at once", grown_s, "s")
        journal.close()
        opened_s = timed(lambda: _open(large))
        yield Figure("opening that journal, from its last signed head", opened_s * 1000, "ms")
        reader = Journal.open(f"sqlite:///{large}/journal.db", read_only=True)
        took = []
        for seq in (1, count // 3, count // 2, count - 1, count):
            start = time.perf_counter()
            proofs = ProofReader(reader)
            proofs.proof([seq], proofs.head(None), None)
            took.append((time.perf_counter() - start) * 1000)
        yield Figure("a proof out of it, at most", max(took), "ms")
        floor_s, at_once_s = hash_floor(large / "journal.db", count)
        before_s = processor_s()
        verified_s = timed(lambda: _verify(reader))
        used_s = processor_s() - before_s
        name, cores = f"verification of {count:,} records", os.cpu_count() or 1
        yield Figure(name, verified_s, "s", floor_s / cores, "SHA-256 alone, same cores", "2 x")
        yield Figure(f"{name}, processor time", used_s, "s", floor_s, "SHA-256 alone, a call a record", "2 x")
        yield Figure(f"{name}, processor time again", used_s, "s", at_once_s, "SHA-256 alone, one call a piece")
        reader.close()


def main(count: int) -> None:
    """Measure and print."""
    show(figures(records=count))


def _grow(keeper: HeadKeeper) -> None:
    while keeper.grow():
        pass


def _open(directory: Path) -> None:
    journal = Journal.open(f"sqlite:///{directory}/journal.db", exclusive=True)
    settings = EvidenceSettings(str(directory / "key"), str(directory / "pub"))
    HeadKeeper(journal, settings, lambda: datetime.now(UTC)).begin()
    journal.close()


def _verify(journal: Journal) -> None:
    found = journal.verify(progress=lambda _read, _of: None)
    if not found.ok:
        raise SystemExit(str(found))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
