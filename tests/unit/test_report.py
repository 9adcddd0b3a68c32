"""The report of a time: what was proven, what differed, what was corrected by whose approval, and nothing left out."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from actors.events import Event, EventType, Record, Severity, to_iso
from actors.journal.store import Journal
from actors.journal.types import Append
from supervisor.cli import report as command
from supervisor.cli.console import Failure
from supervisor.presentation.report import Report
from supervisor.presentation.report_html import page
from tests.unit.builders import at

FX = "fx/EUR_USD"
HOUR = 3600
START, END = at(0), at(4 * HOUR)
NOT_CHECKED = {"first_seq": None, "last": None, "head": None, "verified": None, "reason": None}


def record(seq: int, kind: str, now: datetime, stream: str = FX, **payload: Any) -> Record:
    severity = Severity(payload.pop("severity", "INFO"))
    return Record(seq, stream, seq, Event(str(seq), EventType(kind), severity, now, payload), "", "")


def differs(own_id: str, opened_at: datetime, *, resolved: bool = False, **terms: Any) -> dict[str, Any]:
    usual = {"id": own_id, "type": "POSITION_MISMATCH", "key": "net", "cause": "UNEXPLAINED", "book_value": "5"}
    more = {"broker_value": "500", "opened_at": to_iso(opened_at), "resolved": resolved, "correction": None}
    return {**usual, **more, **terms}


def made(*records: Record, since: datetime = START, until: datetime = END, expect: tuple[str, ...] = ()) -> Any:
    report = Report(since, until)
    report.expect(expect)
    for one in records:
        report.take(one)
    return json.loads(json.dumps(report.document()))


def test_a_book_is_verified_for_a_while_after_each_proof_and_one_without_any_is_named() -> None:
    document = made(
        record(1, "RECONCILED", at(0)), record(2, "RECONCILED", at(HOUR)), expect=(FX, "fx/GBP_JPY"), until=at(2 * HOUR)
    )
    proven, never = document["instruments"]
    assert (proven["proofs"], proven["longest_without_proof_s"]) == (2, HOUR)
    assert proven["not_verified_s"] == 2 * (HOUR - 900)
    assert (never["instrument"], never["proofs"], never["last_proof_at"]) == ("GBP_JPY", 0, None)
    assert never["not_verified_s"] == 2 * HOUR


def test_what_was_proven_just_before_holds_into_the_time() -> None:
    document = made(record(1, "RECONCILED", at(-300)), until=at(600))
    (row,) = document["instruments"]
    assert (row["proofs"], row["not_verified_s"]) == (0, 0)


def test_what_compared_no_position_proves_no_book() -> None:
    document = made(
        record(1, "RECONCILED", at(-60), positions="UNSUPPORTED", orders="COMPLETE", fills="COMPLETE"),
        record(2, "RECONCILED", at(10), positions="UNSUPPORTED", orders="COMPLETE", fills="COMPLETE"),
        record(
            3, "RECONCILED", at(20), "pp", positions="UNSUPPORTED", instruments={"A": 3}, requested_at=to_iso(at(20))
        ),
        record(4, "RECONCILED", at(20), "cfd", positions="COMPLETE", instruments={"B": 3}, requested_at=to_iso(at(20))),
        until=at(600),
    )
    rows = {f"{row['account']}/{row['instrument']}": row for row in document["instruments"]}
    counts = {name: (row["proofs"], row["orders_only"], row["not_verified_s"]) for name, row in rows.items()}
    assert counts == {FX: (0, 1, 600), "pp/A": (0, 1, 600), "cfd/B": (1, 0, 20)}
    assert rows[FX]["last_proof_at"] is None
    shown = page({**document, "journal": NOT_CHECKED})
    assert "That proves no position" in shown
    assert "That proves no position" not in page({**made(), "journal": NOT_CHECKED})


def test_corrections_name_who_approved_and_acts_who_did_them() -> None:
    document = made(
        record(1, "RECONCILIATION_DISCREPANCY", at(10), severity="WARNING", **differs("b1", at(10))),
        record(2, "BREAK_PROPOSED", at(20), **differs("b1", at(10)), by="ann@desk", reason="MANUAL_TRADE"),
        record(3, "BREAK_APPROVED", at(30), **differs("b1", at(10)), by="ben@desk", reason="MANUAL_TRADE"),
        record(4, "DISCREPANCY_RESOLVED", at(40), **differs(
            "b1", at(10), resolved=True, correction="force_update_position", approved_by="ben@desk"
        )),
        record(5, "TRADING_HALTED", at(50), "fx", by="ann@desk", reason="news", scope="account fx"),
        record(6, "ACTOR_RESTARTED", at(60), "supervisor", actor=FX, reason="killed"),
        record(9, "ACTOR_RESTARTED", at(110), "supervisor", actor=FX, reason="node lost: b", counted=False),
        record(10, "ACTOR_RESTARTED", at(120), "supervisor", actor="fx", reason="killed"),
        record(11, "ACTOR_RESTARTED", at(130), "supervisor", actor="fx", reason="node lost: b", counted=False,
               forgives=True),
        record(7, "CONNECTION_LOST", at(70), "fx", reason="refused"),
        record(8, "CONNECTION_RESTORED", at(100), "fx"),
    )  # fmt: skip
    (correction,) = document["corrections"]
    assert (correction["id"], correction["approved_by"], correction["age_s"]) == ("b1", "ben@desk", 30)
    assert [(act["by"], act["what"]) for act in document["acts"]] == [
        ("ann@desk", "BREAK_PROPOSED"),
        ("ben@desk", "BREAK_APPROVED"),
        ("ann@desk", "TRADING_HALTED"),
    ]
    assert document["restarts"] == {FX: 1}, "a lost node is none, and takes back what it was taken for"
    assert document["connections"]["fx"] == {"outages": 1, "seconds": 30, "last_reason": "refused"}
    breaks = document["breaks"]
    assert (breaks["total"], breaks["open"], breaks["by_age"]["<1m"]) == (1, 0, 1)
    assert (breaks["by_type"], breaks["by_severity"]) == ({"POSITION_MISMATCH": 1}, {"WARNING": 1})


def test_a_break_that_stood_through_the_time_without_a_word_is_in_it() -> None:
    report = Report(at(HOUR), at(2 * HOUR))
    report.take_later(record(9, "DISCREPANCY_RESOLVED", at(3 * HOUR), **differs("before", at(0), resolved=True)))
    report.take_later(record(10, "RECONCILIATION_DISCREPANCY", at(3 * HOUR), **differs("after", at(3 * HOUR))))
    report.stood({**differs("still", at(10)), "account": "fx", "instrument": "", "severity": "WARNING"})
    document = report.document()
    assert {row["id"]: row["ended_at"] for row in document["breaks"]["rows"]} == {"before": None, "still": None}
    assert document["breaks"]["open"] == 2


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in {"src", "href", "action"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_that_loads_nothing_and_takes_nothing_from_outside_for_markup() -> None:
    evil = "<script>alert(1)</script>"
    document = made(
        record(1, "RECONCILED", at(5)),
        record(2, "RECONCILIATION_DISCREPANCY", at(10), **differs("b1", at(10), key=evil, broker_value='"><img>')),
        record(3, "BREAK_APPROVED", at(20), **differs("b1", at(10)), by=evil, reason="OTHER"),
    )
    read = _Page()
    read.feed(page({**document, "journal": NOT_CHECKED, "latency": None}))
    assert not {"script", "img", "link", "iframe"} & set(read.tags)
    assert read.links == []
    assert read.text.count(evil) >= 2
    assert "svg" in read.tags
    assert "default-src 'none'" in page({**document, "journal": NOT_CHECKED})


def written(directory: Path) -> Path:
    """A configuration whose journal has a break of yesterday, corrected."""
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "accounts: [{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD, GBP_JPY]}]\n"
    )
    then = datetime.now(UTC) - timedelta(minutes=30)
    journal = Journal.open(f"sqlite:///{directory}/journal.db")
    events = (
        Event("1", EventType.RECONCILIATION_DISCREPANCY, Severity.WARNING, then, {**_whole("b1", then)}),
        Event("2", EventType.DISCREPANCY_RESOLVED, Severity.INFO, then, {**_whole("b1", then, resolved=True)}),
    )
    journal.append([Append(FX, 0, events)])
    journal.close()
    return path


def _whole(own_id: str, then: datetime, *, resolved: bool = False) -> dict[str, Any]:
    more: dict[str, Any] = {
        "phase": "DRIFT",
        "difference": "495",
        "seen_at": [],
        "cancel_asked": False,
        "strategy": None,
    }
    correction = "force_update_position" if resolved else None
    return {**differs(own_id, then, resolved=resolved, correction=correction), **more}


def test_the_command_writes_the_page_and_prints_json_and_the_journals_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written(tmp_path), tmp_path / "r.html"
    terms: dict[str, Any] = {"until": None, "day": None, "verify": True}
    assert command.report(path, None, since="2h", out=out, as_json=True, **terms) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["instrument"] for row in document["instruments"]] == ["EUR_USD", "GBP_JPY"]
    assert document["journal"]["verified"] is True
    assert document["journal"]["head"]["seq"] == document["journal"]["last"]["seq"] == 2
    assert document["journal"]["head"]["hash"] in out.read_text()
    assert re.search(r"force_update_position", out.read_text())
    assert out.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.glob("r.html*")] == ["r.html"]
    assert command.report(path, None, since="1m", out=out, as_json=False, **terms) == 0
    assert "0 breaks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"since": None, "until": None, "day": None}, "give a start"),
        ({"since": "2h", "until": None, "day": "today"}, "use it without --since"),
        ({"since": None, "until": None, "day": "2h"}, "is not a day"),
        ({"since": None, "until": None, "day": "2999-01-01"}, "in the future"),
        ({"since": "1h", "until": "2h", "day": None}, "nothing lies between"),
        ({"since": "soon", "until": None, "day": None}, "is not a time"),
    ],
)
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, terms: dict[str, Any], says: str) -> None:
    with pytest.raises(Failure, match=says):
        command.report(written(tmp_path), None, out=None, as_json=False, verify=True, **terms)


def test_a_page_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="Choose another with --out"):
        command.report(
            written(tmp_path),
            None,
            since="2h",
            until=None,
            day=None,
            out=tmp_path / "no" / "r.html",
            as_json=False,
            verify=False,
        )
