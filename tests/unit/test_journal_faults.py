"""The journal under bad luck: full disks, files moved away, killed writers, two writers."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.journal.store import Journal
from actors.journal.types import (
    Append,
    Appended,
    JournalCorrupt,
    JournalInUse,
    JournalUnavailable,
    Verification,
)
from tests.unit.journal_cases import (
    an_event,
    child_environment,
    events,
    ids,
    ids_of_names,
    url_of,
    verified,
    write_five,
)


class Disk:
    """A disk whose room for the journal a test decides."""

    def __init__(self) -> None:
        self.pages = 1_000_000

    def __call__(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count={self.pages}")


class TestADiskThatIsFull:
    def test_nothing_is_lost_and_work_goes_on_when_there_is_space(self, tmp_path: Path) -> None:
        disk = Disk()
        journal = Journal.open(url_of(tmp_path), exclusive=True, on_connect=disk)
        journal.append([Append("fx/A", 0, events("1"))])
        journal.close()
        disk.pages = 8
        journal = Journal.open(url_of(tmp_path), exclusive=True, on_connect=disk)
        large = Append("fx/A", 1, tuple(an_event(str(number)) for number in range(2, 500)))
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match="full") as raised:
                journal.append([Append("fx/B", 0, events("b")), large])
            assert "space" in raised.value.remedy
        assert ids(journal.load("fx/A").records) == ids_of_names("1")
        assert journal.append([Append("fx/C", 0, events("small"))]) == [Appended(1, 2)]
        disk.pages = 1_000_000
        with pytest.raises(JournalUnavailable):
            journal.append([large])
        assert journal.append([Append("fx/B", 0, events("b")), large]) == [Appended(1, 3), Appended(499, 501)]
        assert journal.verify() == Verification(True, 501)
        journal.close()

    def test_a_write_that_the_operating_system_refuses_is_survived(self, tmp_path: Path) -> None:
        """The limit on the size of a file stands in for the full disk: it hits the log in the middle of a commit."""
        script = """
            import resource, sys
            from journal_cases import events
            from actors.journal.store import Journal
            from actors.journal.types import Append, Appended, JournalUnavailable
            journal = Journal.open(sys.argv[1], exclusive=True)
            acknowledged = 0
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
            try:
                while True:
                    batch = [Append("fx/A", acknowledged, events(*map(str, range(acknowledged, acknowledged + 50))))]
                    journal.append(batch)
                    acknowledged += 50
            except JournalUnavailable as error:
                print(error, file=sys.stderr)
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            answers = journal.append(batch)
            assert answers == [Appended(acknowledged + 50, acknowledged + 50)], answers
            assert journal.verify().ok
            print(acknowledged + 50)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), url_of(tmp_path)],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "could not append 50 events" in done.stderr
        assert verified(tmp_path) == Verification(True, int(done.stdout))
        assert int(done.stdout) > 50

    def test_a_file_that_cannot_be_written_is_reported_and_keeps_what_it_has(self, tmp_path: Path) -> None:
        write_five(tmp_path)
        read_only = True

        def connect(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA query_only={int(read_only)}")

        journal = Journal.open(url_of(tmp_path), exclusive=True, on_connect=connect)
        with pytest.raises(JournalUnavailable, match="readonly") as raised:
            journal.append([Append("fx/A", 3, events("6"))])
        assert "writable" in raised.value.remedy
        with pytest.raises(JournalUnavailable, match="readonly"):
            journal.probe()
        assert journal.load("fx/A").version == 3
        read_only = False
        with pytest.raises(JournalUnavailable):
            journal.append([Append("fx/A", 3, events("6"))])
        journal.probe()
        assert journal.append([Append("fx/A", 3, events("6"))]) == [Appended(4, 6)]
        journal.close()

    def test_a_file_moved_away_takes_no_acknowledged_event_with_it(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx/A", 0, events("1"))])
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            (tmp_path / name).rename(tmp_path / f"away-{name}")
        for _ in range(2):
            with pytest.raises(JournalUnavailable):
                journal.append([Append("fx/A", 1, events("2"))])
        assert not (tmp_path / "journal.db").exists()
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            if (tmp_path / f"away-{name}").exists():
                (tmp_path / f"away-{name}").rename(tmp_path / name)
        assert journal.append([Append("fx/A", 1, events("2"))]) == [Appended(2, 2)]
        journal.close()

    def test_a_file_replaced_by_an_older_copy_of_itself_is_refused(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx/A", 0, events("1"))])
        with sqlite3.connect(tmp_path / "journal.db") as source, sqlite3.connect(tmp_path / "older.db") as copy:
            source.backup(copy)
        source.close()
        copy.close()
        journal.append([Append("fx/A", 1, events("2"))])
        for name in ("journal.db-wal", "journal.db-shm"):
            (tmp_path / name).unlink()
        (tmp_path / "older.db").replace(tmp_path / "journal.db")
        with pytest.raises(JournalUnavailable, match="replaced"):
            journal.append([Append("fx/A", 2, events("3"))])
        with pytest.raises(JournalCorrupt, match="record 2, which was durable"):
            journal.append([Append("fx/A", 2, events("3"))])
        journal.close()


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process of its own, whose output can be read line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.strip()


def finish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


HOLDER = """
    import sys
    from journal_cases import events
    from actors.journal.store import Journal
    from actors.journal.types import Append
    journal = Journal.open(sys.argv[1], exclusive=True)
    journal.append([Append("fx/A", 0, events("1", "2"))])
    print("ready", flush=True)
    sys.stdin.read()
"""


class TestSeveralProcesses:
    def test_a_second_writer_is_refused_while_the_first_lives_and_let_in_when_it_was_killed(
        self, tmp_path: Path
    ) -> None:
        """FEATURES 7."""
        holder = start(HOLDER, url_of(tmp_path))
        try:
            assert next(lines_of(holder)) == "ready"
            with pytest.raises(JournalInUse, match=f"process {holder.pid} is its writer") as raised:
                Journal.open(url_of(tmp_path), exclusive=True)
            assert str(tmp_path / "journal.db") in str(raised.value)
            reader = Journal.open(url_of(tmp_path), read_only=True)
            assert reader.load("fx/A").version == 2
            reader.close()
        finally:
            finish(holder)
        reader = Journal.open(url_of(tmp_path), read_only=True)
        assert reader.verify() == Verification(True, 2)
        reader.close()
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        assert journal.append([Append("fx/A", 2, events("3"))]) == [Appended(3, 3)]
        journal.close()

    def test_a_reader_keeps_up_with_a_writer_that_never_waits_for_it(self, tmp_path: Path) -> None:
        script = """
            import sys
            from journal_cases import events
            from actors.journal.store import Journal
            from actors.journal.types import Append
            journal = Journal.open(sys.argv[1], exclusive=True)
            for version in range(300):
                journal.append([Append("fx/A", version, events(str(version)))])
                if version == 0:
                    print("ready", flush=True)
            print("done", flush=True)
        """
        writer = start(script, url_of(tmp_path))
        try:
            said = lines_of(writer)
            assert next(said) == "ready"
            reader = Journal.open(url_of(tmp_path), read_only=True)
            seen: list[int] = []
            while len(seen) < 300:
                seen += [record.seq for record in reader.records(after_seq=seen[-1] if seen else 0)]
                assert reader.verify().ok
            assert seen == list(range(1, 301))
            reader.close()
            assert next(said) == "done"
        finally:
            finish(writer)

    def test_of_two_processes_with_one_version_exactly_one_wins(self, tmp_path: Path) -> None:
        """PEERS 15."""
        script = """
            import sys
            from journal_cases import events
            from actors.journal.store import Journal
            from actors.journal.types import Append, Appended
            url, name = sys.argv[1:]
            journal = Journal.open(url)
            print("ready", flush=True)
            sys.stdin.readline()
            version = 0
            while version < 40:
                (answer,) = journal.append([Append("fx/A", version, events(f"{name}-{version}"))])
                if isinstance(answer, Appended):
                    print(f"{name}-{version}", flush=True)
                    version += 1
                else:
                    version = answer.actual_version
        """
        Journal.open(url_of(tmp_path)).close()
        writers = [start(script, url_of(tmp_path), name) for name in ("one", "two")]
        try:
            said = [lines_of(writer) for writer in writers]
            assert [next(lines) for lines in said] == ["ready", "ready"]
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
            won = [name for lines in said for name in lines]
        finally:
            for writer in writers:
                finish(writer)
        won.sort(key=lambda name: int(name.split("-")[1]))
        reader = Journal.open(url_of(tmp_path), read_only=True)
        assert ids(reader.load("fx/A").records) == ids_of_names(*won)
        assert reader.verify() == Verification(True, len(won))
        reader.close()
        assert len(won) >= 40


VICTIM = """
    import sys
    from journal_cases import events
    from actors.journal.store import Journal
    from actors.journal.types import Append, Appended
    journal = Journal.open(sys.argv[1], exclusive=True)
    streams = ["fx/A", "fx/B", "cfd/A"]
    versions = {stream: journal.load(stream).version for stream in streams}
    while True:
        names = {s: [f"{s}-{versions[s] + place}" for place in range(1, 4)] for s in streams}
        batch = [Append(s, versions[s], events(*names[s])) for s in streams]
        for s, answer in zip(streams, journal.append(batch)):
            assert isinstance(answer, Appended), answer
            versions[s] = answer.version
        print(" ".join(name for s in streams for name in names[s]), flush=True)
"""


def kill_writers(directory: Path, rounds: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """Kill a writer again and again, and look at the journal each time. Gives the ids that were acknowledged and those
    that are written."""
    acknowledged: list[str] = []
    for _ in range(rounds):
        victim = start(VICTIM, url_of(directory))
        try:
            said = lines_of(victim)
            for _ in range(rng.randint(1, 20)):
                acknowledged += next(said).split()
            moment = time.perf_counter() + rng.uniform(0, 0.002)
            while time.perf_counter() < moment:
                pass
        finally:
            victim.kill()
        acknowledged += [name for line in said for name in line.split()]
        finish(victim)
        journal = Journal.open(url_of(directory), read_only=True)
        written = ids(journal.records())
        assert len(set(written)) == len(written)
        assert set(ids_of_names(*acknowledged)) <= set(written)
        assert journal.verify() == Verification(True, len(written))
        journal.close()
    return ids_of_names(*acknowledged), written


class TestAWriterThatIsKilled:
    def test_every_acknowledged_event_is_there_and_none_twice(self, tmp_path: Path) -> None:
        """FEATURES 7, PEERS 15."""
        acknowledged, written = kill_writers(tmp_path, 5, random.Random(7))  # noqa: S311 - moments, not secrets
        assert len(acknowledged) >= 5  # of each writer one at least
        assert set(acknowledged) <= set(written)
        assert len(written) == len(set(written))

    @pytest.mark.slow
    @pytest.mark.timeout(1200)
    @pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="a long campaign: set RUN_SLOW to run it")
    def test_two_hundred_times(self, tmp_path: Path) -> None:
        acknowledged, written = kill_writers(tmp_path, 200, random.Random(200))  # noqa: S311 - as above
        assert len(acknowledged) >= 200
        assert set(acknowledged) <= set(written)
        assert len(written) == len(set(written))
