"""What `breaks show` says, and how a break is named on the command line: never another one than was meant, and never
called closed because nobody looks at it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner, Result

from actors.events import Event, EventType, Severity, to_iso
from actors.journal.store import Journal
from actors.journal.types import Append
from supervisor.cli.audit_archive import archive
from supervisor.cli.audit_selection import Source
from supervisor.cli.break_history import archived, history_of
from supervisor.cli.breaks import chosen, last_words, show
from supervisor.cli.console import Failure, load_place
from supervisor.cli.main import app
from supervisor.client.breaks import AsyncBreaks
from supervisor.client.supervisor_client import SupervisorClient
from supervisor.errors import UnknownName

FX = "fx/EUR_USD"
OPEN, TWIN, OVER = "aaaa11" + "0" * 26, "aaaa22" + "0" * 26, "bbbb11" + "0" * 26
THEN = datetime.now(UTC) - timedelta(days=2)
"""When all of it happened, but for what is written to archive it."""


def a_break(own_id: str, now: datetime = THEN, *, resolved: bool = False) -> Event:
    payload: dict[str, Any] = {
        "id": own_id, "type": "POSITION_MISMATCH", "key": own_id[:6], "phase": "DRIFT", "difference": "495",
        "cause": "UNEXPLAINED", "book_value": "5", "broker_value": "500", "opened_at": to_iso(THEN), "seen_at": [],
        "resolved": resolved, "correction": None, "cancel_asked": False, "strategy": None,
    }  # fmt: skip
    kind = EventType.DISCREPANCY_RESOLVED if resolved else EventType.RECONCILIATION_DISCREPANCY
    return Event(f"{own_id}{resolved}{now}", kind, Severity.WARNING, now, payload)


def written(directory: Path, *events: Event) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "accounts: [{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}]\n"
    )
    journal = Journal.open(f"sqlite:///{directory}/journal.db")
    journal.append([Append(FX, 0, events)])
    journal.close()
    return path


def test_a_journal_file_alone_shows_its_breaks(tmp_path: Path) -> None:
    """With no configuration there is no supervisor to ask, and none is looked for."""
    written(tmp_path, a_break(OPEN), a_break(OVER), a_break(OVER, resolved=True)).unlink()
    file = tmp_path / "journal.db"

    def breaks(*words: object) -> Result:
        return CliRunner().invoke(app, ["breaks", *map(str, words), "--journal", str(file), "--json"])

    listed = breaks("list")
    assert (listed.exit_code, [row["id"] for row in json.loads(listed.stdout)["breaks"]]) == (1, [OPEN])
    assert [json.loads(breaks("show", one[:8]).stdout)["history"][0]["seq"] for one in (OPEN, OVER)] == [1, 2]
    assert breaks("list", "--account", "nobody").exit_code == 2
    assert breaks("list", "--config", tmp_path / "accounts.yaml").exit_code == 2


@pytest.mark.parametrize("break_id", ["", "aaa", "aaaa"])
def test_an_id_that_may_name_several_names_none(tmp_path: Path, break_id: str) -> None:
    path = written(tmp_path, a_break(OPEN), a_break(TWIN))
    says = "Give at least 4 letters" if len(break_id) < 4 else f"2 open breaks .* \\({OPEN}, {TWIN}\\)|Give more of it"
    with pytest.raises(Failure, match=says):
        show(break_id, path)


def test_open_and_closed_ones_are_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, a_break(OPEN), a_break(OVER), a_break(OVER, THEN + timedelta(hours=1), resolved=True))
    assert show("aaaa", path) == 0
    assert "state: OPEN" in capsys.readouterr().out
    assert show("bbbb", path) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("bbbb11000000 fx/EUR_USD POSITION_MISMATCH bbbb11: closed ")
    assert show("aaaa", path, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["break"]["id"] == OPEN
    with pytest.raises(Failure, match=r"the journal has no break 'cccc'$"):
        show("cccc", path)


def test_what_nobody_looks_at_any_more_is_not_called_closed(tmp_path: Path) -> None:
    path = written(tmp_path, a_break(OPEN))
    words = last_words(history_of(load_place(path), OPEN))
    assert words.endswith("it was open when it was last looked at, and nobody looks at fx/EUR_USD any more")
    assert chosen([], OPEN) is None


@pytest.mark.parametrize("own_id", [OPEN, OVER, "cccc" * 8])
def test_what_was_archived_is_said_to_be_in_the_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own_id: str
) -> None:
    path = written(tmp_path, a_break(OPEN), a_break(OVER), a_break(OVER, THEN + timedelta(hours=1), resolved=True))
    place = load_place(path)
    assert (
        archive(Source(place.journal_url), datetime.now(UTC) - timedelta(days=1), tmp_path / "old.db", as_json=True)
        == 0
    )
    capsys.readouterr()
    where = rf"records 1 to 3 were archived.*--discrepancy-id {own_id}"
    if own_id == OPEN:
        assert show(own_id[:6], path) == 0
        said = capsys.readouterr()
        assert "state: OPEN" in said.out
        assert "records 1 to 3 were archived" in said.err
        return
    with pytest.raises(Failure, match=where):
        show(own_id, path)
    assert archived(place, own_id, ()) is not None


@pytest.mark.parametrize(
    ("break_id", "says"),
    [("", "too short"), ("aaa", "too short"), ("aaaa", "2 open breaks"), ("cccc", "no open breaks")],
)
async def test_the_handle_does_nothing_to_a_break_that_is_not_named_without_doubt(
    monkeypatch: pytest.MonkeyPatch, break_id: str, says: str
) -> None:
    ids = (OPEN, TWIN) if break_id == "aaaa" else (OPEN,)

    async def rows(client: SupervisorClient, timeout_s: float) -> list[dict[str, Any]]:
        return [{"id": one, "book_value": "5", "broker_value": None} for one in ids]

    def nowhere() -> NoReturn:
        raise AssertionError("the supervisor was asked for more than its breaks")

    monkeypatch.setattr(SupervisorClient, "breaks", rows)
    breaks = AsyncBreaks(nowhere)
    with pytest.raises(UnknownName, match=says):
        await breaks.approve(break_id, reason="OTHER")
    if break_id == "aaaa":
        with pytest.raises(UnknownName, match=says):
            await breaks.show(break_id)
