"""Who did it, how it came in, and what ran: what the journal keeps of every act of an operator and of every start."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from actors.book.break_work import WORK_EVENTS
from actors.book.history import who
from actors.events import Event, EventType, Record, Severity
from actors.journal.store import Journal
from actors.journal.types import Append
from brokers.versions import program_version
from supervisor.changes.asking import Asked, asked, said_of, user_name
from supervisor.changes.shown_configuration import shown
from supervisor.config.loader import load
from supervisor.supervision.provenance import installed_packages, provenance
from tests.unit.apply_cases import a_hall
from tests.unit.audit_cases import a_case
from tests.unit.builders import at
from tests.unit.journal_cases import ROOT, events
from tests.unit.virtual_time import virtual_time

ME = pwd.getpwuid(os.getuid()).pw_name
SOMEONE = Asked("jane@desk", "command line", "9.9.9")


def actions(url: str) -> list[Record]:
    journal = Journal.open(url, read_only=True)
    try:
        return list(journal.records(types=[EventType.OPERATOR_ACTION]))
    finally:
        journal.close()


def test_who_asks_is_the_operating_system_s_user_and_not_what_the_environment_says() -> None:
    code = "from supervisor.changes.asking import asked; print(asked())"
    environment = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "the-boss")
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(f"{ME}@")
    assert user_name() == ME


def test_a_program_that_asks_came_by_the_handle_and_says_its_version() -> None:
    assert (asked().via, asked().program) == ("handle", program_version())
    assert said_of(SOMEONE) == {"by": "jane@desk", "via": "command line", "program": "9.9.9"}
    assert said_of("jane") == {"by": "jane", "program": program_version()}
    assert said_of(None) == {"program": program_version()}


@virtual_time
async def test_every_act_at_run_time_says_who_how_and_by_which_version(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.up()
        supervisor = hall.supervisor
        await supervisor.pause(None, None, SOMEONE)
        await supervisor.resume(None, None, SOMEONE)
        await supervisor.halt(None, None, "a drill", SOMEONE)
        await supervisor.resume_trading(None, None, SOMEONE)
        await supervisor.restart("fx", SOMEONE)
        await supervisor.stop(SOMEONE)
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    kinds = [EventType.OPERATOR_ACTION, EventType.TRADING_HALTED, EventType.TRADING_RESUMED]
    found = [record.event.payload for record in journal.records(types=kinds)]
    journal.close()
    assert len(found) == 6
    assert all(said_of(SOMEONE).items() <= payload.items() for payload in found)


def test_a_new_key_is_an_act_in_the_journal_too(tmp_path: Path) -> None:
    case = a_case(tmp_path)
    assert case.audit("key", "--new").exit_code == 0
    (key,) = [one.event.payload for one in actions(case.url) if one.event.payload["action"] == "new key"]
    assert said_of(asked()).items() <= key.items()
    assert str(key["key"]) in (tmp_path / "journal.db.pub").read_text()
    assert json.loads(case.audit("verify", "--json").stdout)["ok"]


CONFIG = {
    "journal": {
        "url": "sqlite:///j.db",
        "heads": ["https://me:hidden-1@heads.example/x?token=hidden-2", "smtp://u:hidden-3@h/?from=a@b&to=c@d"],
    },
    "defaults": {"price_tolerance": 0.001, "settle_ms": 100},
    "accounts": [
        {"name": "fx", "broker": "oanda", "account_id": "101-001-1-001", "token": "hidden-4", "instruments": "all"},
        {"name": "eq", "broker": "kite", "api_key": "hidden-5", "access_token": "${KITE_TOKEN}", "instruments": ["A"]},
    ],
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KITE_TOKEN", "hidden-6")
    made = tmp_path / "accounts.yaml"
    made.write_text(json.dumps(CONFIG))
    made.chmod(0o600)
    return made


def test_the_configuration_in_force_is_kept_with_every_key_and_no_secret(file: Path) -> None:
    found: Any = shown(load(file))
    text = json.dumps(found)
    assert "hidden" not in text
    assert found["defaults"] == {"price_tolerance": "0.001", "settle_ms": "100.0"}
    fx, eq = found["accounts"]
    assert fx["token"] == {"secret": "file"}
    assert fx["instruments"] == "all"
    assert eq["access_token"] == {"secret": "environment", "name": "KITE_TOKEN"}
    assert found["journal"]["heads"] == [
        "https://heads.example/x", "smtp://h/?from=a@b&to=c@d"
    ]  # fmt: skip


def test_what_runs_can_be_written_as_an_event(file: Path, tmp_path: Path) -> None:
    (first,) = events("1")
    journal = Journal.open(f"sqlite:///{tmp_path}/o.db", exclusive=True)
    payload = {"runs": provenance(load(file))}
    (done,) = journal.append([Append("supervisor", 0, (replace(first, payload=payload),))])
    journal.close()
    assert not isinstance(done, Exception)


def test_every_package_is_named_with_its_version_whatever_its_description_says(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, description in (("Plain.Words", "Says nothing."), ("Quoting", "Name: Another\nVersion: 9\n\nName: more")):
        folder = tmp_path / f"{name}-1.2.dist-info"
        folder.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\nLicense: x\n        Name: y"
        (folder / "METADATA").write_text(f"{head}\n\n{description}\n")
    (tmp_path / "Empty-1.dist-info").mkdir()
    (tmp_path / "Unfinished-1.dist-info").mkdir()
    (tmp_path / "Unfinished-1.dist-info" / "METADATA").write_text("Name: Unfinished\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed_packages.cache_clear()
    found: Any = provenance(load(file))["packages"]
    installed_packages.cache_clear()
    assert (found["Plain.Words"], found["Quoting"]) == ("1.2", "1.2")
    assert found["Unfinished"] == ""
    assert found["pydantic"] == version("pydantic")


@pytest.mark.parametrize("kind", sorted(WORK_EVENTS))
def test_who_worked_on_a_break_is_a_person_and_not_the_system(kind: EventType) -> None:
    event = Event("1", kind, Severity.INFO, at(0), {"id": "b", "by": "ann@desk", "reason": "TEST"})
    assert who(event) == "operator (ann@desk)"
