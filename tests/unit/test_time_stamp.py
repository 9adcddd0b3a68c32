"""Time stamps over signed heads, from a real server (openssl's `ts`), verified without it against its pinned root."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.test_journal_evidence import audit, run_audit
from tests.unit.time_stamp_server import make_authority, serving

pytest.importorskip("rfc3161_client", reason="the extra 'timestamp' is not installed")
if shutil.which("openssl") is None:
    pytest.skip("there is no openssl to be the time-stamp server", allow_module_level=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authority")
    make_authority(directory)
    return directory


def prove(directory: Path) -> Path:
    proof = directory / "proof.json"
    assert audit("prove", 1, "--journal", directory / "journal.db", "-o", proof).exit_code == 0
    return proof


def test_a_head_is_stamped_and_verified_without_the_server(tmp_path: Path, authority: Path) -> None:
    with serving(authority) as url:
        health = asyncio.run(run_audit(tmp_path, "1", timestamp_url=url, timestamp_roots=str(authority / "root.pem")))
    assert health["evidence_error"] is None
    roots, key = authority / "root.pem", tmp_path / "journal.db.pub"
    found = json.loads(audit("check", prove(tmp_path), "--key", key, "--roots", roots, "--json").stdout)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["stamped_at"])).total_seconds()) < 3600
    (head,) = json.loads(audit("heads", "--journal", tmp_path / "journal.db", "--json").stdout)
    assert head["stamped"] == found["stamped_at"]


def test_one_an_hour(tmp_path: Path, authority: Path) -> None:
    with serving(authority) as url:
        for name in ("1", "2"):
            asyncio.run(run_audit(tmp_path, name, timestamp_url=url, timestamp_roots=str(authority / "root.pem")))
    heads = json.loads(audit("heads", "--journal", tmp_path / "journal.db", "--json").stdout)
    assert [head["stamped"] is not None for head in heads] == [True, False]


def test_a_stamp_that_leads_to_another_root_counts_for_nothing(
    tmp_path: Path, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_authority(tmp_path_factory.mktemp("other"))
    with serving(authority) as url:
        asyncio.run(run_audit(tmp_path, "1", timestamp_url=url, timestamp_roots=str(authority / "root.pem")))
        refused = tmp_path / "refused"
        refused.mkdir()
        asyncio.run(run_audit(refused, "1", timestamp_url=url, timestamp_roots=str(other)))
    result = audit("check", prove(tmp_path), "--key", tmp_path / "journal.db.pub", "--roots", other)
    assert result.exit_code == 1
    assert "the time stamp does not hold" in result.stdout
    (head,) = json.loads(audit("heads", "--journal", refused / "journal.db", "--json").stdout)
    assert head["stamped"] is None


def test_a_server_that_does_not_answer_keeps_nothing_else_from_going_on(tmp_path: Path, authority: Path) -> None:
    with serving(authority) as gone:
        pass
    asyncio.run(run_audit(tmp_path, "1", timestamp_url=gone, timestamp_roots=str(authority / "root.pem")))
    (head,) = json.loads(audit("heads", "--journal", tmp_path / "journal.db", "--json").stdout)
    assert (head["size"], head["stamped"]) == (1, None)
    with serving(authority) as url:
        asyncio.run(run_audit(tmp_path, "2", timestamp_url=url, timestamp_roots=str(authority / "root.pem")))
    heads = json.loads(audit("heads", "--journal", tmp_path / "journal.db", "--json").stdout)
    assert heads[-1]["stamped"] is not None
