"""What `start` shows of the journal: what happened since it began, without reading what was before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.events import Event, EventType, Record, Severity
from actors.journal.store import Append, Journal
from supervisor.cli.session_child import Happenings
from supervisor.config.loader import load
from tests.unit.journal_cases import events

SCALE = 1_200
"""More than one page of records."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.yaml"
    account = "{name: fx, broker: paper, instruments: [A]}"
    path.write_text(f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\naccounts: [{account}]\n")
    return path


def restarted(number: int) -> Event:
    now = datetime.now(UTC) + timedelta(seconds=1)
    return Event(str(number), EventType.ACTOR_RESTARTED, Severity.WARNING, now, {"actor": "fx", "reason": str(number)})


def test_only_what_is_new_is_shown_and_what_was_before_is_not_searched_for_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    read = Journal.records

    def records(self: Journal, **of: Any) -> Iterator[Record]:
        asked.append(of)
        return read(self, **of)

    journal = Journal.open(f"sqlite:///{config.parent}/journal.db", exclusive=True)
    old = [replace(one, event_id=str(number)) for number in range(SCALE) for one in events("old")]
    journal.append([Append("fx/A", 0, tuple(old))])
    monkeypatch.setattr(Journal, "records", records)
    shown = Happenings(load(config))
    assert shown.latest() == ()
    journal.append([Append("supervisor", 0, (restarted(1), restarted(2)))])
    assert [one.text for one in shown.latest()] == ["1, restarted", "2, restarted"]
    assert [one.text for one in shown.latest()] == ["1, restarted", "2, restarted"]
    assert shown.count == 2
    assert all(one["after_seq"] >= SCALE for one in asked if one.get("order") != "newest")
    shown.close()
    later = Happenings(load(config))
    assert later.latest()[-1].text == "2, restarted", "records of before it read for the first time are not lost"
    later.close()
    journal.close()


def test_of_a_journal_that_begins_with_it_everything_is_shown(config: Path) -> None:
    shown = Happenings(load(config))
    assert shown.latest() == ()
    journal = Journal.open(f"sqlite:///{config.parent}/journal.db", exclusive=True)
    journal.append([Append("supervisor", 0, (restarted(1),))])
    assert [one.text for one in shown.latest()] == ["1, restarted"]
    shown.close()
    journal.close()
