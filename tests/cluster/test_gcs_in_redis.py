"""Ray's GCS, whose tables are in Redis, is killed and begun anew; an instrument dies while it is away."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.journal.store import Journal
from tests.cluster.next_version import ROOT
from tests.cluster.test_lost_node import GIVEN_UP_SOON, RARELY, TIMEOUT_S

pytestmark = RARELY
AWAY_S = 8


@pytest.mark.timeout(TIMEOUT_S + 20)
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")
def test_a_gcs_that_comes_back_with_its_tables_costs_nobody_a_restart(tmp_path: Path) -> None:
    seen = with_redis(tmp_path)

    assert seen["during"] == [["UP"]], "a status was answered all the time"
    everybody = len(seen["up"]) + 1  # with the supervisor
    assert seen["names"]["most"] == everybody, "nobody came twice"
    assert seen["names"]["least"] >= everybody - 1, "no name was gone but that of the one who had died"
    back = seen["back"]
    assert {row["state"] for row in back.values()} == {"UP"}
    assert {name: row["restarts"] for name, row in back.items()} == {**dict.fromkeys(back, 0), "fx/EUR_USD": 1}
    others = set(back) - {"fx/EUR_USD"}
    assert {name: seen["pids_back"][name] for name in others} == {name: seen["pids"][name] for name in others}
    assert seen["last"]["fx/GBP_JPY"]["restarts"] == 1, "whoever dies afterwards is made anew as ever"

    journal = Journal.open(f"sqlite:///{tmp_path}/journal.db", read_only=True)
    try:
        assert journal.verify().ok
        restarted = [one.event.payload["actor"] for one in journal.records(types=[EventType.ACTOR_RESTARTED])]
    finally:
        journal.close()
    assert restarted == ["fx/EUR_USD", "fx/GBP_JPY"]


def with_redis(directory: Path) -> dict[str, Any]:
    short = tempfile.mkdtemp(prefix="nodes-")  # a socket's path has 108 bytes at most
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "REDIS_PASSWORD": secrets.token_hex(16)}
    environment = {**os.environ, **GIVEN_UP_SOON, **ours, "RAY_TMPDIR": short, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.cluster.gcs_in_redis", str(directory), str(AWAY_S)]
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    finally:
        shutil.rmtree(short, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(done.stderr)
    return found
