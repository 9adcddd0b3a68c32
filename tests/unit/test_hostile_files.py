"""Files in which anything may stand: what cannot be read is unreadable by name, and never an error of this program."""

from __future__ import annotations

import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.journal.lock import JournalLock
from actors.journal.signed_head import HeadError, Signer, parse_head, verified_text
from actors.journal.signing_keys import write_public
from actors.journal.store import Journal
from actors.journal.types import JournalCorrupt, JournalInUse
from supervisor.changes import applied_configuration
from supervisor.cli.audit_evidence import check_proof
from supervisor.cli.console import Failure
from supervisor.client import run_file
from supervisor.config.loader import load

DEEP = "[" * 100_000 + "]" * 100_000
BODIES = {"nested without end": DEEP, "half a character": '"\\ud800"', "no JSON": "{", "nothing": ""}
every_body = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


@every_body
def test_a_run_file_is_none(tmp_path: Path, body: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(body)
    assert run_file.read_from(file) is None


@every_body
def test_a_standing_configuration_belongs_to_no_run(tmp_path: Path, body: str) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\n"
        "accounts: [{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}]"
    )
    configuration = load(path)
    applied_configuration.path_of(configuration, "0" * 64).write_text(body)
    assert applied_configuration.files(configuration)
    assert not applied_configuration.any_of(configuration, "run")


@every_body
def test_a_proof_is_refused(tmp_path: Path, body: str) -> None:
    proof, keys = tmp_path / "proof.json", tmp_path / "journal.db.pub"
    proof.write_text(body)
    write_public(keys, [Signer("journal", Ed25519PrivateKey.generate()).public])
    if body == BODIES["half a character"]:  # a JSON text, and no proof
        assert check_proof(proof, str(keys), (), None, as_json=False) == 1
    else:
        with pytest.raises(Failure, match="cannot be read as a proof"):
            check_proof(proof, str(keys), (), None, as_json=False)


@every_body
def test_the_owner_of_a_lock_is_another_process(tmp_path: Path, body: str) -> None:
    database = tmp_path / "journal.db"
    held = JournalLock(database)
    held.acquire()
    try:
        (tmp_path / "journal.db.owner").write_text(body)
        with pytest.raises(JournalInUse, match="another process is its writer already"):
            JournalLock(database).acquire()
    finally:
        held.release()


@pytest.mark.parametrize("read", [lambda note: verified_text(note, ()), parse_head])
def test_a_head_that_is_not_text_is_refused_in_text(read: object) -> None:
    with pytest.raises(HeadError, match="it is not text"):
        read("journal\n1\n\n— \ud800 AAAAAAAAAAA=\n")  # type: ignore[operator]


@pytest.mark.parametrize(("time", "whole"), [("2026-01-05T09:00:00.000000Z", True), ("9984-01-05T09:00:00Z", False)])
def test_a_head_of_no_time_of_ours_is_none(time: str, whole: bool) -> None:
    note = f"journal\n0\n{'A' * 43}=\nchain {'0' * 64}\ntime {time}\n\n— journal AAAAAAAAAAA=\n"
    with nullcontext() if whole else pytest.raises(HeadError, match="it is no head of a journal"):
        assert parse_head(note).size == 0


@pytest.mark.parametrize("read_only", [True, False])
def test_a_journal_whose_schema_is_not_text_is_corrupt(tmp_path: Path, read_only: bool) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    Journal.open(url, exclusive=True).close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = CAST(x'43524541544520964142' AS TEXT) WHERE type = 'table'")
    with pytest.raises(JournalCorrupt, match="a name in it is not text"):
        Journal.open(url, read_only=read_only, exclusive=not read_only).close()
