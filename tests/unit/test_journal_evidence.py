"""Evidence that an outsider can check: signed heads, proofs that stand alone, and each tampering found and named."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from typer.testing import CliRunner, Result

from actors.events import Event
from actors.journal import head_keeper
from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.journal.hash_chain import canonical_bytes, chained
from actors.journal.head_checks import notes_in
from actors.journal.signed_head import HeadError, PublicKey, parse_head, split_notes
from actors.journal.store import Journal
from actors.journal.types import Append, Appended, JournalCorrupt
from supervisor.cli.main import app
from tests.unit.fakes import in_this_thread
from tests.unit.journal_cases import ROOT, an_event, change, events, url_of

CHECKER = ROOT / "evidence" / "check_proof.py"
CONFIG = "journal: {{url: 'sqlite:///{0}/journal.db'}}\naccounts: [{{name: p, broker: paper, instruments: [X]}}]\n"


def settings(directory: Path, key: str | None = None, **more: Any) -> EvidenceSettings:
    return EvidenceSettings(key or str(directory / "journal.db.key"), str(directory / "journal.db.pub"), **more)


async def run_audit(directory: Path, *names: str, stream: str = "fx/A", **more: Any) -> dict[str, Any]:
    """One life of the audit actor: these events are appended and the head is signed at its end; its last health."""
    audit = Audit(url_of(directory), None, settings(directory, **more), run_blocking=in_this_thread)
    await audit.open()
    if names:
        version = (await audit.load(stream)).version
        assert isinstance(await audit.append(stream, version, [an_event(name) for name in names]), Appended)
    health = await audit.health()
    await audit.close()
    return health


async def run_events(directory: Path, stream: str, happened: list[Event]) -> None:
    """One life of the audit actor, in which these events are appended."""
    audit = Audit(url_of(directory), None, settings(directory), run_blocking=in_this_thread)
    await audit.open()
    version = (await audit.load(stream)).version
    assert isinstance(await audit.append(stream, version, happened), Appended)
    await audit.close()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A journal of 700 records with two signed heads, over 300 and 700, the second also copied elsewhere."""
    asyncio.run(run_audit(tmp_path, *(f"one {number}" for number in range(300))))
    asyncio.run(run_audit(tmp_path, *(f"two {number}" for number in range(400))))
    (tmp_path / "accounts.yaml").write_text(CONFIG.format(tmp_path))
    return tmp_path


def audit(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def verify(directory: Path, *more: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(audit("verify", "--journal", directory / "journal.db", "--json", *more).stdout)
    return found


def notes(directory: Path) -> list[str]:
    heads = json.loads(audit("heads", "--journal", directory / "journal.db", "-n", 99, "--json").stdout)
    return [head["note"] for head in heads]


def alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The script that needs nothing of this program, isolated from it."""
    return subprocess.run(
        [sys.executable, "-I", str(CHECKER), *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/"
    )


def rehash(directory: Path, seq: int, payload: str) -> None:
    """What the owner of the file can do: change a record, hash everything after it again, and mend head and mark."""
    with contextlib.closing(sqlite3.connect(directory / "journal.db")) as connection, connection:
        rows = connection.execute("SELECT * FROM journal_records WHERE seq >= ? ORDER BY seq", (seq,)).fetchall()
        previous = rows[0][8]
        for row in rows:
            content = [*row[:7], payload if row[0] == seq else row[7]]
            own = chained(previous, canonical_bytes(*content))
            connection.execute(
                "UPDATE journal_records SET payload = ?, prev_hash = ?, hash = ? WHERE seq = ?",
                (content[7], previous, own, row[0]),
            )
            previous = own
        connection.execute("UPDATE journal_head SET hash = ?", (previous,))
    (directory / "journal.db.mark").unlink()


class TestSignedHeads:
    def test_a_head_is_signed_at_the_end_in_the_checkpoint_form(self, kept: Path) -> None:
        (key,) = [PublicKey.parse(line) for line in (kept / "journal.db.pub").read_text().splitlines()]
        first, second = map(parse_head, notes(kept))
        assert (first.size, second.size) == (300, 700)
        assert first.origin == second.origin == key.name
        lines = notes(kept)[1].split("\n")
        assert lines[1] == "700"
        assert lines[5] == ""
        assert lines[6].startswith(f"— {key.name} ")

    def test_the_key_is_made_once_and_for_its_owner_alone(self, kept: Path) -> None:
        assert stat.S_IMODE((kept / "journal.db.key").stat().st_mode) == 0o600
        before = (kept / "journal.db.key").read_bytes()
        asyncio.run(run_audit(kept, "more"))
        assert (kept / "journal.db.key").read_bytes() == before

    def test_nothing_is_signed_again_where_nothing_was_written(self, kept: Path) -> None:
        asyncio.run(run_audit(kept))
        assert len(notes(kept)) == 2

    def test_a_key_that_is_gone_is_not_quietly_replaced(self, kept: Path) -> None:
        (kept / "journal.db.key").unlink()
        health = asyncio.run(run_audit(kept, "more"))
        assert "is gone" in health["evidence_error"]
        assert not (kept / "journal.db.key").exists()
        assert len(notes(kept)) == 2

    async def test_a_key_that_is_put_back_signs_at_once(self, kept: Path) -> None:
        (kept / "journal.db.key").rename(kept / "away")
        audit = Audit(url_of(kept), None, settings(kept), run_blocking=in_this_thread)
        await audit.open()
        assert "is gone" in str((await audit.health())["evidence_error"])
        (kept / "away").rename(kept / "journal.db.key")
        await audit.append("fx/A", 700, events("more"))
        await audit.close()
        assert (await audit.health())["evidence_error"] is None
        assert parse_head(notes(kept)[-1]).size == 701

    def test_a_key_that_nobody_has_the_public_part_of_signs_nothing(self, kept: Path, tmp_path_factory: Any) -> None:
        other = tmp_path_factory.mktemp("other")
        asyncio.run(run_audit(other, "1"))
        shutil.copy(other / "journal.db.key", kept / "journal.db.key")
        health = asyncio.run(run_audit(kept, "more"))
        assert "nobody would trust its heads" in health["evidence_error"]
        assert len(notes(kept)) == 2
        assert verify(kept)["ok"]

    def test_a_key_is_made_in_a_folder_that_is_not_there_yet(self, tmp_path: Path) -> None:
        key = tmp_path / "keys" / "of" / "journal.key"
        health = asyncio.run(run_audit(tmp_path, "1", key=str(key)))
        assert health["evidence_error"] is None
        assert (stat.S_IMODE(key.stat().st_mode), stat.S_IMODE(key.parent.stat().st_mode)) == (0o600, 0o700)

    def test_a_key_that_others_may_read_signs_nothing(self, kept: Path) -> None:
        (kept / "journal.db.key").chmod(0o640)
        health = asyncio.run(run_audit(kept, "more"))
        assert "others may read" in health["evidence_error"]

    def test_a_new_key_is_signed_by_the_old_one_and_trusted_through_it(self, kept: Path) -> None:
        old = (kept / "journal.db.pub").read_text()
        (kept / "old.pub").write_text(old)
        result = audit("key", "-c", kept / "accounts.yaml", "--new")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(old)
        assert len(result.stdout.splitlines()) == 2
        asyncio.run(run_audit(kept, "after"))
        assert verify(kept, "--key", kept / "old.pub")["ok"]
        audit("prove", 701, "--journal", kept / "journal.db", "-o", kept / "proof.json")
        assert audit("check", kept / "proof.json", "--key", kept / "old.pub").exit_code == 0
        assert alone(kept / "proof.json", kept / "old.pub").returncode == 0

    def test_every_place_gets_every_head_and_one_that_was_away_is_caught_up(self, tmp_path: Path) -> None:
        near, far = tmp_path / "near.txt", tmp_path / "away" / "far.txt"
        places: Any = {"places": (str(near), str(far))}
        asyncio.run(run_audit(tmp_path, "1", **places))
        asyncio.run(run_audit(tmp_path, "2", **places))
        far.parent.mkdir()
        asyncio.run(run_audit(tmp_path, "3", **places))
        for place in (near, far):
            assert [parse_head(note).size for note in split_notes(place.read_text())] == [1, 2, 3]


class TestProofs:
    def test_one_record_is_proven_to_who_has_the_public_key_alone(self, kept: Path) -> None:
        proof = kept / "proof.json"
        assert audit("prove", 137, "--journal", kept / "journal.db", "-o", proof).exit_code == 0
        assert proof.stat().st_size < 4096
        assert proof.stat().st_mode & 0o777 == 0o600
        result = audit("check", proof, "--key", kept / "journal.db.pub", "--json")
        assert result.exit_code == 0, result.output
        (record,) = json.loads(result.stdout)["records"]
        assert (record["seq"], record["payload"]["fill_id"]) == (137, "one 136")
        outside = alone(proof, kept / "journal.db.pub")
        assert outside.returncode == 0, outside.stderr
        assert "is record 137 of 700" in outside.stdout

    @pytest.mark.parametrize("to", [300, 700])
    def test_the_first_and_the_last_under_each_head(self, kept: Path, to: int) -> None:
        proof = kept / "proof.json"
        assert (
            audit("prove", 1, 256, 257, 300, "--to", to, "--journal", kept / "journal.db", "-o", proof).exit_code == 0
        )
        assert audit("check", proof, "--key", kept / "journal.db.pub").exit_code == 0
        assert alone(proof, kept / "journal.db.pub").returncode == 0

    def test_nothing_was_cut_out_since_yesterdays_head_from_another_machine(self, kept: Path) -> None:
        yesterday, proof = kept / "yesterday.txt", kept / "proof.json"
        yesterday.write_text(notes(kept)[0])
        asyncio.run(run_audit(kept, "three"))
        made = audit("prove", 701, "--since", yesterday, "--journal", kept / "journal.db", "-o", proof)
        assert made.exit_code == 0, made.output
        result = audit("check", proof, "--key", kept / "journal.db.pub", "--heads", yesterday, "--json")
        assert json.loads(result.stdout)["unchanged_since"]["size"] == 300
        outside = alone(proof, kept / "journal.db.pub", yesterday)
        assert outside.returncode == 0, outside.stderr
        assert "your head over 300 records agrees" in outside.stdout

    @pytest.mark.parametrize(
        "change_it",
        [
            lambda proof: proof["records"][0].update(record=proof["records"][0]["record"].replace("191.20", "191.21")),
            lambda proof: proof["records"][0].update(path=proof["records"][0]["path"][1:]),
            lambda proof: proof["records"][0].update(record=proof["records"][0]["record"][:-1]),
            lambda proof: proof["records"][0].update(record='{"seq":"x"}'),
            lambda proof: proof.update(head=proof["head"].replace("\n700\n", "\n701\n")),
            lambda proof: proof.update(head=proof["head"][:-8] + "AAAAAA=\n"),
            lambda proof: proof.update(consistency=proof["consistency"][::-1]),
            lambda proof: proof.update(older=proof["head"].split("\n\n")[0] + "\n\n— x AAAAAAAAAAA=\n"),
        ],
        ids=["content", "path", "half a record", "no place", "size", "signature", "consistency", "older"],
    )
    def test_a_proof_that_was_touched_does_not_hold(self, kept: Path, change_it: Any) -> None:
        file = kept / "proof.json"
        audit("prove", 137, "--since", 300, "--journal", kept / "journal.db", "-o", file)
        assert alone(file, kept / "journal.db.pub").returncode == 0
        proof = json.loads(file.read_text())
        change_it(proof)
        file.write_text(json.dumps(proof))
        result = audit("check", file, "--key", kept / "journal.db.pub")
        assert (result.exit_code, result.stdout[:10]) == (1, "NOT proven")
        outside = alone(file, kept / "journal.db.pub")
        assert outside.returncode == 1
        assert "NOT proven" in outside.stderr

    @pytest.mark.parametrize("signature", ["éAAAAAAA=", "A", "", "!"])
    def test_a_head_whose_signature_is_none_is_refused(self, kept: Path, signature: str, tmp_path: Path) -> None:
        (note, *_) = notes(kept)
        file = tmp_path / "heads"
        file.write_text(note[: note.rindex(" ") + 1] + signature + "\n")
        with pytest.raises(HeadError, match="cannot be read"):
            notes_in(file)

    def test_what_is_not_signed_yet_is_said(self, kept: Path) -> None:
        journal = Journal.open(url_of(kept), exclusive=True)
        journal.append([Append("fx/B", 0, events("new"))])
        journal.close()
        result = audit("prove", 701, "--journal", kept / "journal.db")
        assert result.exit_code == 3
        assert "the newest covers 700" in result.stderr

    def test_a_copy_that_nobody_may_write_is_proven_from_too(self, kept: Path, tmp_path_factory: Any) -> None:
        copy = tmp_path_factory.mktemp("copy") / "journal.db"
        shutil.copy(kept / "journal.db", copy)
        copy.chmod(0o400)
        result = audit("prove", 600, "--journal", copy)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["records"]

    def test_one_in_a_folder_that_its_reader_may_not_write_is_verified_by_him(self, kept: Path) -> None:
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / "journal.db"
            for name in ("journal.db", "journal.db.pub"):
                shutil.copy(kept / name, Path(place) / name)
                (Path(place) / name).chmod(0o444)
            Path(place).chmod(0o555)
            me = os.geteuid()
            if not me:
                audit("verify", "--journal", kept / "journal.db")  # imports what it needs while it may
                os.seteuid(65534)
            try:
                result = audit("verify", "--journal", copy)
            finally:
                os.seteuid(me)
                Path(place).chmod(0o755)
            assert result.exit_code == 0, result.output
            assert "agrees with 2 signed heads\n" in result.stdout
            assert sorted(one.name for one in Path(place).iterdir()) == ["journal.db", "journal.db.pub"]


class TestWhatAStartReads:
    @pytest.mark.parametrize("signed", [True, False])
    def test_what_is_too_much_to_read_is_said_with_its_number_and_how_to_have_it_checked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, signed: bool
    ) -> None:
        monkeypatch.setattr(head_keeper, "_CHECKED_AT_MOST", 10)
        begin = 7 if signed else 0
        if signed:
            asyncio.run(run_audit(tmp_path, *(f"one {number}" for number in range(begin))))
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx/A", begin, events(*map(str, range(11))))])
        journal.close()
        warned: list[str] = []
        sink = logger.add(lambda line: warned.append(str(line)), level="WARNING")
        health = asyncio.run(run_audit(tmp_path))
        logger.remove(sink)
        assert f"the 11 records after record {begin} are covered by no signed head" in health["evidence_caution"]
        assert "Run `audit verify`" in "".join(warned)
        assert asyncio.run(run_audit(tmp_path))["evidence_caution"] is None

    def test_a_journal_without_a_head_is_read_from_its_beginning_before_it_is_signed(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx/A", 0, events(*map(str, range(300))))])
        journal.close()
        change(tmp_path, "UPDATE journal_records SET payload = '{}' WHERE seq = 7")
        with pytest.raises(JournalCorrupt, match="record 7 was altered"):
            asyncio.run(run_audit(tmp_path))


class TestEachTamperingIsFoundAndNamed:
    def test_an_untouched_journal_is_in_accord_with_its_heads(self, kept: Path) -> None:
        found = verify(kept, "--tree")
        assert (found["ok"], found["signed_heads"], found["signatures"]) == (True, 2, True)

    def test_a_cut_end(self, kept: Path) -> None:
        change(kept, "DELETE FROM journal_records WHERE seq > 650")
        change(kept, "UPDATE journal_head SET seq = 650, hash = (SELECT hash FROM journal_records WHERE seq = 650)")
        (kept / "journal.db.mark").unlink()
        found = verify(kept)
        assert not found["ok"]
        assert "the end is cut off: the head over 700 records" in found["reason"]
        with pytest.raises(JournalCorrupt, match="covers 700"):
            asyncio.run(run_audit(kept))

    def test_an_end_cut_off_with_its_heads_against_a_head_kept_elsewhere(self, kept: Path) -> None:
        elsewhere = kept / "elsewhere.txt"
        elsewhere.write_text(notes(kept)[1])
        change(kept, "DELETE FROM journal_records WHERE seq > 300")
        change(kept, "UPDATE journal_head SET seq = 300, hash = (SELECT hash FROM journal_records WHERE seq = 300)")
        change(kept, "DELETE FROM journal_signed_heads WHERE size > 300")
        change(kept, "DELETE FROM journal_tree WHERE place > 0")
        (kept / "journal.db.mark").unlink()
        assert verify(kept)["ok"]
        found = verify(kept, "--heads", elsewhere)
        assert "the end is cut off: the head over 700 records" in found["reason"]
        assert "kept in another place" in found["reason"]

    def test_what_came_since_a_head_is_verified_alone(self, kept: Path) -> None:
        before = kept / "before.txt"
        before.write_text(notes(kept)[0])
        found = verify(kept, "--since", before)
        assert (found["ok"], found["since"], found["records"], found["signatures"]) == (True, 300, 400, True)
        change(kept, "UPDATE journal_records SET payload = '{}' WHERE seq = 450")
        assert "record 450 was altered" in verify(kept, "--since", before)["reason"]
        rehash(kept, 200, '{"fill_id":"another"}')
        assert "not those that were signed" in verify(kept, "--since", before)["reason"]

    def test_a_tail_hashed_again_since_an_older_head_contradicts_those_signed_since(self, kept: Path) -> None:
        before = kept / "before.txt"
        before.write_text(notes(kept)[0])
        rehash(kept, 450, '{"fill_id":"another"}')
        found = verify(kept, "--since", before)
        assert not found["ok"]
        assert "records 301 to 700 are not those that were signed" in found["reason"]

    def test_a_rehashed_tail(self, kept: Path) -> None:
        rehash(kept, 450, '{"fill_id":"another"}')
        found = verify(kept)
        assert not found["ok"]
        assert "records 301 to 700 are not those that were signed" in found["reason"]
        with pytest.raises(JournalCorrupt, match="record 700 is not the one"):
            asyncio.run(run_audit(kept))

    def test_an_exchanged_middle(self, kept: Path) -> None:
        change(kept, "UPDATE journal_records SET payload = '{}' WHERE seq = 200")
        assert "record 200 was altered" in verify(kept)["reason"]

    def test_a_node_of_the_tree_that_was_exchanged(self, kept: Path) -> None:
        change(kept, "UPDATE journal_tree SET hash = zeroblob(32) WHERE place = 0")
        assert "another root" in verify(kept)["reason"]
        assert verify(kept, "--tree")["ok"]  # the records are what was signed

    def test_a_head_signed_anew_with_another_key(self, kept: Path, tmp_path_factory: Any) -> None:
        (kept / "trusted.pub").write_text((kept / "journal.db.pub").read_text())
        rehash(kept, 450, '{"fill_id":"another"}')
        change(kept, "DELETE FROM journal_signed_heads WHERE size = 700")
        change(kept, "DELETE FROM journal_tree")
        (kept / "journal.db.key").unlink()
        (kept / "journal.db.pub").unlink()
        change(kept, "DELETE FROM journal_signed_heads")
        asyncio.run(run_audit(kept, "and so on"))
        assert verify(kept)["ok"]  # by the keys that its owner put beside it
        found = verify(kept, "--key", kept / "trusted.pub")
        assert not found["ok"]
        assert "none of the keys that are trusted" in found["reason"]

    def test_a_split_view(self, kept: Path) -> None:
        other = kept / "other"
        other.mkdir()
        for name in ("journal.db", "journal.db.key", "journal.db.pub"):
            shutil.copy(kept / name, other / name)
        asyncio.run(run_audit(kept, "what one was shown"))
        asyncio.run(run_audit(other, "what the other was shown"))
        shown = kept / "shown.txt"
        shown.write_text(notes(other)[-1])
        found = verify(kept, "--heads", shown)
        assert "split view: there are two signed heads over 701 records" in found["reason"]
        audit("prove", 5, "--journal", kept / "journal.db", "-o", kept / "proof.json")
        assert (
            "split view"
            in audit("check", kept / "proof.json", "--key", kept / "journal.db.pub", "--heads", shown).stdout
        )
        assert "split view" in alone(kept / "proof.json", kept / "journal.db.pub", shown).stderr

    def test_a_head_that_the_proof_says_nothing_of_is_not_called_compared(self, kept: Path) -> None:
        yours, forged = kept / "yours.txt", kept / "forged.txt"
        yours.write_text(notes(kept)[0])
        forged.write_text(notes(kept)[1].replace("chain ", "chain 0"))
        key = kept / "journal.db.pub"
        audit("prove", 5, "--journal", kept / "journal.db", "-o", kept / "proof.json")
        result = audit("check", kept / "proof.json", "--key", key, "--heads", yours)
        assert result.exit_code == 3
        assert "--since one of them" in result.stderr
        outside = alone(kept / "proof.json", key, yours)
        assert (outside.returncode, "none of your heads is compared" in outside.stderr) == (1, True)
        result = audit("check", kept / "proof.json", "--key", key, "--heads", forged)
        assert (result.exit_code, "its text was altered" in result.stdout) == (1, True)
        assert "a signature does not fit" in alone(kept / "proof.json", key, forged).stderr
        audit("prove", 5, "--since", 300, "--journal", kept / "journal.db", "-o", kept / "proof.json")
        result = audit("check", kept / "proof.json", "--key", key, "--heads", yours)
        assert (result.exit_code, "agrees with your head" in result.stdout) == (0, True)

    def test_a_head_from_another_journal(self, kept: Path, tmp_path_factory: Any) -> None:
        other = tmp_path_factory.mktemp("other")
        asyncio.run(run_audit(other, "1"))
        foreign = kept / "foreign.txt"
        foreign.write_text(notes(other)[0])
        found = verify(kept, "--heads", foreign)
        assert not found["ok"]


class TestJournalsOfEarlierVersions:
    def test_one_without_a_tree_gets_it_and_is_signed(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx/A", 0, events(*map(str, range(1000))))])
        journal.close()
        for table in ("tree", "signed_heads", "key_rotations", "head_deliveries"):
            change(tmp_path, f"DROP TABLE journal_{table}")
        assert verify(tmp_path)["ok"]
        asyncio.run(run_audit(tmp_path))
        assert [parse_head(note).size for note in notes(tmp_path)] == [1000]
        assert verify(tmp_path, "--tree")["ok"]

    def test_the_time_is_when_it_was_signed(self, kept: Path) -> None:
        assert abs((datetime.now(UTC) - parse_head(notes(kept)[1]).time).total_seconds()) < 3600
