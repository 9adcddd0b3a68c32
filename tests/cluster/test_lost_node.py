"""A machine of a real cluster is lost: a random one of two, killed, or silent while its actors live on. And the code of
several machines is upgraded, actor by actor."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.journal.store import Journal
from tests.cluster.next_version import NEXT, ROOT, installed

GIVEN_UP_SOON = {
    "RAY_agent_register_timeout_ms": "150000",  # a raylet ends itself where its agents take longer
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}
TIMEOUT_S = 220  # a busy machine takes a minute to bring up three raylets
SEED = 1 if os.environ.get("CI") else secrets.randbelow(1_000)


RARELY = [pytest.mark.slow, pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="set RUN_SLOW to run it")]


@pytest.mark.timeout(TIMEOUT_S + 20)
@pytest.mark.parametrize("how", ["silent", pytest.param("killed", marks=RARELY)])
def test_a_lost_machines_actors_go_to_another_of_their_labels_or_wait_for_one(tmp_path: Path, how: str) -> None:
    seen = several_machines(tmp_path, how, GIVEN_UP_SOON)

    up, without, back = seen["up"], seen["without"], seen["back"]
    assert all(is_placed(row) for row in up.values()), up
    assert up["fx/GBP_JPY"]["node"] == up["fx"]["node"], "an instrument is where its account is"
    assert {up[name]["node"] for name in ("cfd", "cfd/EURUSD")} == {up["cfd"]["node"]}

    for name, row in up.items():
        if row["node"] != seen["lost"]:
            assert without[name] == row, "nobody else is touched"
        elif seen["which"] == "gateway" and name.startswith("cfd"):
            assert without[name]["state"] == "PENDING"
            assert without[name]["reason"].startswith("no node has gateway=mt5: the cluster's nodes have ")
        else:
            assert without[name]["state"] == "UP"
            assert is_placed(without[name])
    assert {row["state"] for row in back.values()} == {"UP"}
    assert all(is_placed(row) for row in back.values()), back
    waited = {name for name, row in without.items() if row["state"] == "PENDING"}
    assert {back[name]["node"] for name in waited} <= {seen["new"]}
    assert {row["restarts"] for row in back.values()} == {0}, "a lost node is no crash"

    if how == "silent":
        is_moved(seen)

    with_it = {name for name, row in up.items() if row["node"] == seen["lost"]}
    journal = Journal.open(f"sqlite:///{tmp_path}/journal.db", read_only=True)
    try:
        assert journal.verify().ok
        records = list(journal.records())
    finally:
        journal.close()
    restarts = [dict(one.event.payload) for one in records if one.event.type is EventType.ACTOR_RESTARTED]
    assert {one["actor"] for one in restarts if str(one["reason"]).startswith("node lost: ")} == with_it
    of_streams = groupby(sorted((one.stream, one.version) for one in records), lambda one: one[0])
    for stream, versions in of_streams:
        numbers = [version for _, version in versions]
        assert numbers == list(range(1, len(numbers) + 1)), f"two wrote to {stream}"
    pending = {one.event.payload["actor"] for one in records if one.event.type is EventType.ACTOR_PENDING}
    assert pending == waited - {"cfd/EURUSD"}, "its account says so for it"


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="set RUN_SLOW to run it")
@pytest.mark.timeout(2 * TIMEOUT_S + 20)
def test_code_is_upgraded_on_every_machine_and_nobody_moves(tmp_path: Path) -> None:
    code = tmp_path / "code"
    installed(code)

    seen = several_machines(tmp_path, "upgraded", {}, code, 2 * TIMEOUT_S)

    assert seen["status"] == 0
    assert seen["programs"] == dict.fromkeys({*seen["up"], "supervisor"}, NEXT)
    assert seen["upgraded"] == seen["up"], "each runs where it ran, and nothing of it counts as a restart"
    assert len({row["node"] for row in seen["up"].values()}) > 1


def is_moved(seen: dict[str, Any]) -> None:
    """At last the machine of an account is drained; where others on it could go nowhere else, that is refused."""
    back, fx = seen["back"], seen["back"]["fx"]["node"]
    if fx == back["cfd"]["node"]:
        assert "cfd could go nowhere else" in seen["refused"]
        return
    assert seen["moves"] == sorted(name for name, row in back.items() if row["node"] == fx)
    for name, row in seen["moved"].items():
        assert row["node"] != fx, "nobody is there any more"
        assert is_placed(row)
        assert row["restarts"] == 0
        assert row == back[name] or name in seen["moves"], "nobody else is touched"


def is_placed(row: dict[str, Any]) -> bool:
    return set(row["place"].items()) <= set(row["labels"].items())


def several_machines(
    directory: Path, how: str, settings: dict[str, str], code: Path = ROOT, within_s: float = TIMEOUT_S
) -> dict[str, Any]:
    short = tempfile.mkdtemp(prefix="nodes-")  # a socket's path has 108 bytes at most
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {
        **os.environ,
        **GIVEN_UP_SOON,
        **token,
        "RAY_TMPDIR": short,
        "PYTHONPATH": f"{code}{os.pathsep}{ROOT}",
    }
    command = [sys.executable, "-m", "tests.cluster.several_machines", str(directory), str(SEED), how]
    try:
        done = subprocess.run(
            command, env=environment, cwd=code, capture_output=True, text=True, timeout=within_s, check=False
        )
    finally:
        shutil.rmtree(short, ignore_errors=True)
    assert done.returncode == 0, f"seed {SEED}: {done.stderr[-5000:]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(done.stderr)
    return found
