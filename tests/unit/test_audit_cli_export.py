"""``audit export`` and ``audit archive``: whole files or none, exact, and never over another."""

from __future__ import annotations

import csv
import json
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.book.checkpoint import checkpoint_event, replay
from actors.events import EventType, Json, to_iso
from actors.journal.store import Journal
from actors.journal.types import JournalUnavailable
from brokers.kit.whole_file import new_file
from supervisor.cli import audit_export
from supervisor.cli.audit_query import COLUMNS
from supervisor.cli.main import app
from supervisor.presentation.event_facts import FACTS
from tests.unit.audit_cases import Case, a_case, a_happening, day
from tests.unit.builders import at, records

FORMATS = ("jsonl", "csv", "parquet")


@pytest.fixture(name="case")
def _case(tmp_path: Path) -> Case:
    return a_case(tmp_path)


@pytest.fixture(name="target")
def _target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "records"


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read_csv(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [
        {**row, "seq": int(row["seq"]), "version": int(row["version"]), "payload": json.loads(row["payload"])}
        for row in rows
    ]


def read_parquet(file: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    def plain(value: object) -> object:
        return to_iso(value) if isinstance(value, datetime) else value

    rows = parquet.read_table(file).to_pylist()
    return [
        {name: plain(value) for name, value in {**row, "payload": json.loads(row["payload"])}.items()} for row in rows
    ]


def _journal_s(read: Callable[[Path], list[dict[str, Any]]]) -> Callable[[Path], list[dict[str, Any]]]:
    """Without the columns that say again what the payload says."""
    return lambda file: [{name: row[name] for name in COLUMNS} for row in read(file)]


READ: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "jsonl": _journal_s(read_jsonl),
    "csv": _journal_s(read_csv),
    "parquet": _journal_s(read_parquet),
}


@pytest.fixture(name="small_pages", autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages in a small journal."""
    monkeypatch.setattr(audit_export, "PAGE", 5)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_holds_every_record_exactly(case: Case, target: Path, form: str) -> None:
    case.append(a_happening(EventType.CONNECTION_LOST, {"reason": 'ü "quoted",\nlines'}, 950), stream="acc")

    result = case.audit("export", "--format", form, target)

    every = case.json("query", "--oldest")
    assert result.exit_code == 0
    assert READ[form](target) == every
    assert result.stdout == f"exported {len(every)} records to {target}, records 1 to {len(every)}\n"
    assert [file.name for file in target.parent.iterdir()] == ["records"]
    assert target.stat().st_mode & 0o077 == 0, "as private as the journal"


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_selected_is_exported_and_nothing_else(case: Case, target: Path, form: str) -> None:
    chosen = ("--account", "acc", "--since", to_iso(at(100)), "--until", to_iso(at(310)), "--severity", "warning")
    case.audit("export", "--format", form, target, *chosen)
    assert READ[form](target) == case.json("query", "--oldest", *chosen)
    assert READ[form](target)


@pytest.mark.parametrize("form", FORMATS)
def test_no_record_is_a_whole_file_too(case: Case, target: Path, form: str) -> None:
    result = case.audit("export", "--format", form, target, "--since", "1s")
    assert result.exit_code == 0
    assert result.stdout == f"exported 0 records to {target}\n"
    assert READ[form](target) == []


def test_the_columns_are_those_of_the_journal_and_the_facts_after_them(case: Case, target: Path) -> None:
    case.audit("export", "--format", "csv", target)
    assert target.read_text().splitlines()[0] == ",".join((*COLUMNS, *FACTS))


@pytest.mark.parametrize(("form", "nothing"), [("csv", ""), ("parquet", None), ("jsonl", None)])
def test_the_facts_of_a_record_have_columns_of_their_own(case: Case, target: Path, form: str, nothing: object) -> None:
    found: dict[str, Json] = {
        "id": "d1",
        "type": "POSITION_MISMATCH",
        "key": "net",
        "book_value": "80",
        "broker_value": "100",
    }
    done: dict[str, Json] = {"resolved": True, "correction": "force_update_position", "cause": "UNEXPLAINED"}
    case.append(a_happening(EventType.RECONCILIATION_DISCREPANCY, found | done, 950), stream="acc/EURUSD")
    case.append(a_happening(EventType.OPERATOR_ACTION, {"action": "stop", "by": "a@b"}, 960), stream="supervisor")
    case.audit("export", "--format", form, target)

    rows = {"csv": read_csv, "parquet": read_parquet, "jsonl": read_jsonl}[form](target)
    assert set(rows[0]) == {*COLUMNS, *FACTS}

    def facts_of(kind: EventType) -> dict[str, Any]:
        last = [row for row in rows if row["type"] == kind][-1]
        return {name: last[name] for name in FACTS if last[name] != nothing}

    filled = facts_of(EventType.ORDER_FILLED)
    assert (filled["account"], filled["instrument"], filled["side"]) == ("acc", "EURUSD", "BUY")
    assert {"fill_id", "quantity", "price"} <= filled.keys()
    assert facts_of(EventType.RECONCILIATION_DISCREPANCY) == {
        "account": "acc",
        "instrument": "EURUSD",
        "discrepancy_id": "d1",
        "discrepancy_type": "POSITION_MISMATCH",
        **{name: found[name] for name in ("key", "book_value", "broker_value")},
        **done,
        "resolved": "true",
    }
    assert facts_of(EventType.OPERATOR_ACTION) == {"by": "a@b"}


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(case: Case, target: Path) -> None:
    target.write_text("precious")

    refused = case.audit("export", "--format", "jsonl", target)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--force" in refused.stderr
    assert target.read_text() == "precious"
    assert case.audit("export", "--format", "jsonl", target, "--force").exit_code == 0
    assert READ["jsonl"](target) == case.json("query", "--oldest")


def test_a_file_that_came_to_be_meanwhile_is_kept(case: Case, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(out: Any, pages: Iterator[Any]) -> None:
        target.write_text("somebody else's")

    monkeypatch.setattr(audit_export, "_write_json_lines", write)
    refused = case.audit("export", "--format", "jsonl", target)
    assert refused.exit_code == 2
    assert "meanwhile" in refused.stderr
    assert target.read_text() == "somebody else's"
    assert [file.name for file in target.parent.iterdir()] == ["records"]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (JournalUnavailable("read records", "the disk is gone", "Bring it back"), 3, "the disk is gone"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("too much"), 70, "MemoryError"),
    ],
    ids=["disk full", "journal away", "Ctrl-C", "an internal error"],
)
@pytest.mark.parametrize("force", [False, True], ids=["new", "forced"])
def test_whatever_fails_leaves_no_half_file(
    case: Case,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    words: str,
    force: bool,
) -> None:
    def write(out: Any, pages: Iterator[Any]) -> None:
        out.write(repr(next(pages)).encode())
        raise error

    monkeypatch.setattr(audit_export, "_write_json_lines", write)
    if force:
        target.write_text("precious")

    result = case.audit("export", "--format", "jsonl", target, *(["--force"] if force else []))

    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr
    assert [(file.name, file.read_text()) for file in target.parent.iterdir()] == (
        [("records", "precious")] if force else []
    )


def test_ctrl_c_ends_a_running_export_with_nothing_left(case: Case, target: Path) -> None:
    case.append(
        *(a_happening(EventType.CONNECTION_LOST, {"reason": "x" * 2_000}, 1_000 + n) for n in range(20_000)),
        stream="acc",
    )
    process = case.process("export", "--format", "csv", target)
    while process.poll() is None and not list(target.parent.iterdir()):
        pass  # another process's file; there is no event for it
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert (process.returncode, out, said) == (130, "", "interrupted\n")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "words"),
    [("missing/records", "No such file or directory"), ("../accounts.yaml/records", "Not a directory")],
)
def test_a_place_that_cannot_be_written_is_named(case: Case, target: Path, where: str, words: str) -> None:
    result = case.audit("export", "--format", "csv", target.parent / where)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_an_unknown_format_and_a_missing_extra_are_named(
    case: Case, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = case.audit("export", "--format", "xlsx", target)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "parquet, csv, jsonl" in wrong.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    missing = case.audit("export", "--format", "parquet", target)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "pip install -e '.[parquet]'" in missing.stderr
    assert list(target.parent.iterdir()) == []


def test_what_is_appended_meanwhile_is_not_part_of_it(
    case: Case, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = case.json("query", "--oldest")

    def begun(file: Path, *, replace: bool) -> Any:
        case.append(a_happening(EventType.CONNECTION_LOST, {}, 960), stream="acc")
        return new_file(file, replace=replace)

    monkeypatch.setattr(audit_export, "new_file", begun)
    case.audit("export", "--format", "jsonl", target)
    assert len(case.json("query", "--oldest")) == len(before) + 1
    assert READ["jsonl"](target) == before


# Archive


def add_checkpoint(case: Case) -> None:
    book = replay("acc", "EURUSD", records(day()))
    book.version += 1  # the checkpoint in the middle
    case.append(checkpoint_event(book, at(700)))


def test_old_records_go_into_a_journal_that_verifies_and_so_does_the_rest(case: Case, target: Path) -> None:
    add_checkpoint(case)
    every = case.json("query", "--oldest")
    now = case.json("replay", "--account", "acc", "--instrument", "EURUSD")

    done = case.json("archive", "--before", to_iso(at(450)), target)

    assert done["records"] > 0
    old = json.loads(CliRunner().invoke(app, ["audit", "query", "--journal", str(target), "--oldest", "--json"]).stdout)
    assert old + case.json("query", "--oldest") == every
    assert (old[-1]["seq"], old[-1]["hash"]) == (done["last_seq"], done["last_hash"])
    assert case.json("verify")["archived_seq"] == done["last_seq"]
    assert CliRunner().invoke(app, ["audit", "verify", "--journal", str(target)]).exit_code == 0
    assert f"the {done['last_seq']} before are in" in case.audit("verify").stdout
    notice = f"records 1 to {done['last_seq']} were archived and are not shown"
    assert notice in case.audit("query").stderr, "half an answer says that it is"
    assert notice in case.audit("export", "--format", "csv", target.parent / "rest.csv").stderr
    assert notice not in case.audit("query", "--since", to_iso(at(690))).stderr
    assert notice not in case.audit("query", "--limit", 1, "--jsonl").stderr
    after = case.json("replay", "--account", "acc", "--instrument", "EURUSD")
    assert (after["book"], after["hash"]) == (now["book"], now["hash"])


def test_quiet_instruments_hold_nothing_back_and_their_books_are_the_same(case: Case, target: Path) -> None:
    """PEERS 15"""
    of = ("--account", "acc", "--instrument", "EURUSD")
    before, book = case.json("query"), case.json("replay", *of)["book"]

    done = case.json("archive", "--before", "1s", target)

    assert (done["records"], done["held_by"]) == (len(before), None)
    assert [record["type"] for record in case.json("query")] == ["CHECKPOINT"]
    assert case.json("replay", *of)["book"] == book
    assert case.json("verify")["ok"] is True


def test_where_nothing_is_older_nothing_is_made(case: Case, target: Path) -> None:
    before = case.json("query")
    result = case.audit("archive", "--before", to_iso(at(0)), target)
    assert (result.exit_code, result.stdout) == (0, "nothing was archived: there are no older records\n")
    assert not target.exists()
    assert case.json("query") == before


def test_a_halt_in_force_stays_in_the_journal(case: Case, target: Path) -> None:
    """A halt is folded from its record: were that moved, trading would be allowed again without a word."""
    case.append(a_happening(EventType.TRADING_HALTED, {"reason": "news"}, 5), stream="acc")
    case.append(a_happening(EventType.TRADING_HALTED, {}, 320, "supervisor"), stream="supervisor")
    case.append(a_happening(EventType.TRADING_RESUMED, {}, 330, "supervisor"), stream="supervisor")

    result = case.audit("archive", "--before", "1s", target)

    assert result.exit_code == 0
    assert "trading is halted for account acc: what is from 2024-01-02T09:00:05.000000Z on stays" in result.stderr
    halted, *_ = case.json("query", "--type", "TRADING_HALTED", "--oldest")
    assert halted["stream"] == "acc"


def test_an_archive_is_not_made_beside_a_writer_nor_over_a_file(case: Case, target: Path) -> None:
    writer = Journal.open(case.url, exclusive=True)
    try:
        beside = case.audit("archive", "--before", "1d", target)
    finally:
        writer.close()
    assert (beside.exit_code, beside.stdout) == (2, "")
    assert "python -m supervisor stop" in beside.stderr
    assert not target.exists()
    target.write_text("precious")
    over = case.audit("archive", "--before", "1d", target)
    assert over.exit_code == 2
    assert target.read_text() == "precious"
    future = case.audit("archive", "--before", "2999-01-01", target)
    assert future.exit_code == 2
    assert "in the future" in future.stderr
