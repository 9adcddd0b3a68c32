"""``audit export --format delta``: a column for each fact of a record."""

from __future__ import annotations

import contextlib
from pathlib import Path

from deltalake import DeltaTable

from actors.book.payloads import position_to
from actors.delta import journal_table
from actors.events import EventType
from actors.journal.store import Journal
from brokers.clocks import broker_time
from supervisor.presentation.event_facts import FACTS
from tests.unit.audit_cases import a_case, a_happening
from tests.unit.builders import at, dec


def test_a_table_that_was_begun_without_columns_of_facts_gets_them(tmp_path: Path) -> None:
    case = a_case(tmp_path)
    uri = tmp_path / "records"
    with contextlib.closing(Journal.open(case.url, read_only=True)) as journal:
        former = list(journal.records())
    journal_table.append(journal_table.journal_table(str(uri)), [(record, {}) for record in former], 0)
    payload = position_to("net", dec(901), dec("1.1"), broker_time(at(901)), None)
    case.append(a_happening(EventType.POSITION_RECORDED, payload, 901, "acc/GBPUSD"), stream="acc/GBPUSD")
    assert "added 1 records" in case.audit("export", uri, "--format", "delta").stdout
    *old, new = sorted(DeltaTable(str(uri)).to_pyarrow_table().to_pylist(), key=lambda row: row["seq"])
    assert {name: new[name] for name in FACTS if new[name] is not None} == {
        "account": "acc",
        "instrument": "GBPUSD",
        "leg": "net",
        "quantity": "901",
        "price": "1.1",
    }
    assert [row["seq"] for row in old] == [record.seq for record in former]
    assert {row[name] for row in old for name in FACTS} == {None}
    assert "added 0 records" in case.audit("export", uri, "--format", "delta").stdout
