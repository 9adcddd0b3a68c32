"""What "durable" means: an append is answered after the disk has it, and a sync that fails is never believed."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from actors.journal.store import Journal
from actors.journal.types import Append, Verification
from tests.unit.journal_cases import child_environment, events, ids, ids_of_names, url_of, verified

WRITER = """
    import sys
    from journal_cases import events
    from actors.journal.store import Journal
    from actors.journal.types import Append, Appended, JournalUnavailable
    journal = Journal.open(sys.argv[1], exclusive=True)
    version = 0
    while version < 12:
        try:
            (answer,) = journal.append([Append("fx/A", version, events(str(version)))])
        except JournalUnavailable as error:
            print("failed", version, error, flush=True)
            continue
        assert isinstance(answer, Appended), answer
        version = answer.version
        print("answered", version, flush=True)
    journal.close()
"""


def traced(directory: Path, *more: str) -> tuple[str, list[str]]:
    """What a writer of twelve records says, and the calls it makes of the operating system."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    calls = directory / "calls.txt"
    command = [strace, "-f", "-s", "12", "-o", str(calls), "-e", "trace=fsync,fdatasync,write,openat,close", *more]
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(WRITER), url_of(directory)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("this machine lets no process trace another")
    assert done.returncode == 0, done.stderr
    return done.stdout, calls.read_text().splitlines()


def test_the_writer_syncs_the_log_with_every_commit(tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []
    journal = Journal.open(url_of(tmp_path), exclusive=True, on_connect=connections.append)
    journal.append([Append("fx/A", 0, events("1"))])
    (connection,) = connections
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()


def test_no_append_is_answered_before_its_commit_is_synced(tmp_path: Path) -> None:
    """PEERS 15."""
    said, calls = traced(tmp_path)
    assert said.splitlines() == [f"answered {version}" for version in range(1, 13)]
    synced = False
    answers = 0
    for call in calls:
        if re.search(r"fdatasync\(\d+\) += 0$", call):
            synced = True
        elif 'write(1, "answered' in call:
            assert synced, calls
            synced = False
            answers += 1
    assert answers == 12


@pytest.mark.parametrize("failing", ["9..9", "11..13"], ids=["one sync", "three syncs"])
def test_after_a_sync_that_failed_the_log_is_settled_before_anything_is_answered(tmp_path: Path, failing: str) -> None:
    """PEERS 15: the operating system reports a failed sync once, and forgets what it could not write."""
    said, _ = traced(tmp_path, "-e", f"inject=fdatasync:error=EIO:when={failing}")
    lines = said.splitlines()
    assert [line for line in lines if line.startswith("answered")] == [
        f"answered {version}" for version in range(1, 13)
    ]
    assert any("disk I/O error" in line for line in lines)
    assert verified(tmp_path) == Verification(True, 12)
    reader = Journal.open(url_of(tmp_path), read_only=True)
    assert ids(reader.records()) == ids_of_names(*map(str, range(12)))
    reader.close()
