"""``sink`` and ``audit export --format delta`` on the command line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from deltalake import DeltaTable
from typer.testing import CliRunner, Result

from actors.book.payloads import position_to
from actors.events import Event, EventType
from brokers.clocks import broker_time
from supervisor.cli.main import app
from tests.unit.audit_cases import Case, a_case, a_happening
from tests.unit.builders import at, dec


def sink(case: Case, uri: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["sink", str(uri), "--config", str(case.config), *map(str, arguments)])


def held(number: int, stream: str, quantity: Decimal | None = None) -> Event:
    payload = position_to(
        "net", dec(number) if quantity is None else quantity, dec("1.1"), broker_time(at(number)), None
    )
    return a_happening(EventType.POSITION_RECORDED, payload, number, stream)


def test_sink_once_writes_what_there_is_and_says_how_far_it_came(tmp_path: Path) -> None:
    """FEATURES 27"""
    case = a_case(tmp_path)
    done = sink(case, tmp_path / "t", "--once")
    assert (done.exit_code, done.stdout.count("3 position updates")) == (0, 1)
    assert sink(case, tmp_path / "t", "--once").stdout == ""
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 3


def test_sink_refuses_the_table_of_another_journal_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sink(a_case(tmp_path / "a"), tmp_path / "t", "--once")
    other = Case(tmp_path / "b")
    other.write_config()
    other.append(held(1, "acc/EURUSD"))
    refused = sink(other, tmp_path / "t", "--once")
    assert refused.exit_code == 3
    assert "name a new one" in refused.stderr


def test_an_export_holds_every_record_and_the_next_one_adds_what_came_since(tmp_path: Path) -> None:
    case = a_case(tmp_path)
    uri = tmp_path / "records"
    first = case.audit("export", uri, "--format", "delta")
    every = case.json("query", "--oldest")
    assert (first.exit_code, f"added {len(every)} records" in first.stdout) == (0, True)
    assert "added 0 records" in case.audit("export", uri, "--format", "delta").stdout
    case.append(held(901, "acc/GBPUSD"), stream="acc/GBPUSD")
    assert "added 1 records" in case.audit("export", uri, "--format", "delta").stdout
    rows = sorted(DeltaTable(str(uri)).to_pyarrow_table().to_pylist(), key=lambda row: row["seq"])
    assert [row["hash"] for row in rows] == [record["hash"] for record in case.json("query", "--oldest")]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


def test_an_export_to_delta_takes_the_whole_journal_or_nothing(tmp_path: Path) -> None:
    case = a_case(tmp_path)
    for arguments in (["--account", "acc"], ["--force"], ["--since", "1h"]):
        refused = case.audit("export", tmp_path / "t", "--format", "delta", *arguments)
        assert refused.exit_code == 2
        assert "whole journal" in refused.stderr
    assert not (tmp_path / "t").exists()


def test_an_export_to_the_table_of_another_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a_case(tmp_path / "a").audit("export", tmp_path / "t", "--format", "delta")
    other = Case(tmp_path / "b")
    other.write_config()
    other.append(held(1, "acc/EURUSD"))
    refused = other.audit("export", tmp_path / "t", "--format", "delta")
    assert refused.exit_code == 2
    assert "another journal" in refused.stderr
