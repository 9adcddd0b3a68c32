"""Changes at run time on a real Ray: from a file, as a person at a terminal makes them, and over a kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from actors.journal.store import Journal
from supervisor.changes import applied_configuration, parsing
from supervisor.client.processes import Running
from supervisor.config.models import Configuration
from tests.cluster.conftest import CONFIGURATION, actors, all_verified, until


def _command(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, input=stdin)


def _apply(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return _command("apply", str(path), *options)


def _pids(status: dict[str, Any]) -> dict[str, int]:
    return {name: row["pid"] for name, row in actors(status).items()}


def _changes(configuration: Configuration) -> list[str]:
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        assert journal.verify().ok
        payloads = [record.event.payload for record in journal.records(stream="supervisor")]
        return [str(payload["change"]) for payload in payloads if "standing" in payload]
    finally:
        journal.close()


def test_an_applied_file_and_an_added_account_stand_after_the_supervisor_was_killed(
    supervisor: Running, configuration: Configuration, tmp_path: Path
) -> None:
    """FEATURES 7, 22, PEERS 15: nobody whose settings did not change is touched, by the changes or by the kill."""
    before = _pids(until(supervisor, all_verified, "everything comes up"))
    path = tmp_path / "changed.yaml"
    path.write_text(
        CONFIGURATION.format(directory=tmp_path).replace(
            "[GBP_JPY, EUR_USD]", "[{symbol: GBP_JPY, interval_s: 2}, USD_CHF]"
        )
    )

    dry = _apply(path, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "what would change" in dry.stdout
    assert _pids(supervisor.status()) == before

    refused = _apply(path)
    held = refused.returncode == 2
    assert not held or "not known to be flat: fx/EUR_USD" in refused.stderr, refused.stderr
    done = _apply(path, "--json", "--force")
    said = json.loads(done.stdout)
    assert (done.returncode, said["waiting"]) == (0, {}), done.stderr
    assert said["made"] is held
    after = _pids(until(supervisor, all_verified, "what was added comes up"))
    assert after.keys() == before.keys() - {"fx/EUR_USD"} | {"fx/USD_CHF"}
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == {"fx/GBP_JPY"}

    added = supervisor.change(
        parsing.account_from({"name": "p", "broker": "paper", "instruments": ["EURUSD"]}), "tests"
    )
    states = supervisor.settled(added.effects.names, 60)
    assert {state for state, _ in states.values()} == {"SETTLED"}, states
    both = _pids(until(supervisor, all_verified, "the account comes up"))
    report = {"kind": "position", "instrument": "EURUSD", "leg": "net", "quantity": "0", "average_price": "0"}
    recorded = _command("record", str(path), "--account", "p", stdin=json.dumps(report))
    assert (recorded.returncode, recorded.stdout) == (0, "1 line read, 0 new\n"), recorded.stderr
    verdict = _command("reconcile", str(path), "--account", "p", "--json")  # which no file has
    assert (verdict.returncode, json.loads(verdict.stdout)["accounts"][0]["account"]) == (0, "p"), verdict.stderr
    nobody = _command("reconcile", str(path), "--account", "q")
    assert (nobody.returncode, "there is no account 'q'" in nobody.stderr) == (2, True)
    first = supervisor.pid()
    os.kill(first, signal.SIGKILL)
    again = _pids(
        until(
            supervisor,
            lambda s: all_verified(s) and _pids(s).keys() == both.keys() and all(_pids(s).values()),
            "what was added stands",
        )
    )

    assert supervisor.pid() != first
    assert again == both
    assert len(applied_configuration.files(configuration)) == 1
    assert _changes(configuration) == [f"apply {path}", "add account p"]
    nothing = _apply(path, "--dry-run", "--json")
    assert [row["name"] for row in json.loads(nothing.stdout)["difference"]] == ["p", "p/EURUSD"]


def test_apply_says_what_it_looked_for_where_no_supervisor_runs(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(CONFIGURATION.format(directory=tmp_path))
    done = _apply(path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no supervisor is running: there is no run file" in done.stderr
    assert "one that runs cannot be given another journal" in done.stderr
