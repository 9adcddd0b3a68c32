"""``audit query``, ``tail``, ``verify`` and ``head``: every condition, every form, and nothing else on stdout."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.events import EventType, Severity, to_iso
from actors.journal.hash_chain import chained
from actors.journal.store import Journal
from supervisor.cli.audit_query import COLUMNS
from supervisor.cli.main import app
from tests.unit.audit_cases import STREAM, Case, a_case, a_happening
from tests.unit.builders import at
from tests.unit.journal_cases import change


@pytest.fixture(name="case")
def _case(tmp_path: Path) -> Case:
    return a_case(tmp_path)


def seqs(case: Case, *arguments: object) -> list[int]:
    return [record["seq"] for record in case.json("query", *arguments)]


# Conditions


def test_without_a_condition_every_record_is_there_newest_first_or_oldest_first(case: Case) -> None:
    """FEATURES 14"""
    every = seqs(case)
    assert every == list(range(len(every), 0, -1))
    assert seqs(case, "--newest") == every
    assert seqs(case, "--oldest") == every[::-1]
    assert seqs(case, "--oldest", "--limit", 2) == [1, 2]


def test_each_condition_selects_and_together_they_select_what_meets_all(case: Case) -> None:
    every = case.json("query", "--oldest")

    def where(*arguments: object) -> list[str]:
        return [record["type"] for record in case.json("query", "--oldest", *arguments)]

    def types(stream: str) -> list[str]:
        return [record["type"] for record in every if record["stream"] == stream]

    assert where("--account", "acc", "--instrument", "EURUSD") == types(STREAM)
    assert where("--account", "supervisor") == ["OPERATOR_ACTION"]
    assert where("--type", "order_recorded", "--type", "FILL_RECORDED") == ["ORDER_RECORDED", "FILL_RECORDED"]
    assert where("--severity", "warning", "--account", "acc", "--until", to_iso(at(301))) == ["CONNECTION_LOST"]
    assert where("--severity", "critical") == []
    assert "FILL_RECORDED" in where("--fill-id", "f1")
    assert set(where("--order-id", "B1")) >= {"ORDER_UPDATED", "FILL_RECORDED", "ORDER_FILLED"}
    assert "ORDER_RECORDED" in where("--order-id", "c1")
    assert where("--since", to_iso(at(300)), "--until", to_iso(at(310))) == ["CONNECTION_LOST"]
    assert where("--order-id", "B", "--type", "ORDER_UPDATED") == [], "an id is the whole of it"
    (found, *_) = [record for record in every if record["type"] == "RECONCILIATION_DISCREPANCY"]
    assert where("--discrepancy-id", found["payload"]["id"])[0] == "RECONCILIATION_DISCREPANCY"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--type", "NOPE"], ["--type", "'NOPE'", "ORDER_FILLED", "CHECKPOINT"]),
        (["--type", "naked_position"], ["naked_position", "RECONCILIATION_DISCREPANCY"]),
        (["--severity", "BAD"], ["--severity", "'BAD'", "INFO, WARNING, CRITICAL"]),
        (["--account", "nobody"], ["'nobody'", "acc"]),
        (["--account", "acc", "--instrument", "NONE"], ["'NONE'", "acc/EURUSD", "acc/GBPUSD"]),
        (["--instrument", "NONE"], ["'NONE'", "acc/EURUSD"]),
        (["--since", "soon"], ["--since", "'soon'", "2026-01-31T14:32:05Z", "2h"]),
        (["--since", "1h", "--until", "2h"], ["--since 1h", "--until 2h"]),
        (["--newest", "--oldest"], ["--newest", "--oldest"]),
        (["--json", "--csv"], ["--json and --csv"]),
        (["--follow", "--json"], ["--follow", "--jsonl"]),
        (["--follow", "--until", "now"], ["--until"]),
        (["--follow", "--oldest"], ["--oldest"]),
        (["--journal", "x.db"], ["--journal", "--config"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_means_nothing_is_refused_with_what_does(case: Case, arguments: list[str], expected: list[str]) -> None:
    result = case.audit("query", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    for word in expected:
        assert word in result.stderr


def test_an_instrument_that_only_the_journal_knows_is_known_and_one_only_configured_is_empty(case: Case) -> None:
    case.append(a_happening(EventType.ACTOR_STARTED, {"actor": "old/X"}, 900, "old/X"), stream="old/X")
    assert len(seqs(case, "--account", "old", "--instrument", "X")) == 1
    assert seqs(case, "--instrument", "GBPUSD") == []


# Forms


def test_csv_and_json_lines_hold_what_the_array_holds(case: Case) -> None:
    array = case.json("query")
    lines = case.audit("query", "--jsonl").stdout.splitlines()
    rows = list(csv.DictReader(io.StringIO(case.audit("query", "--csv").stdout)))
    assert [json.loads(line) for line in lines] == array
    assert list(rows[0]) == list(COLUMNS)
    assert [{**row, "payload": json.loads(row["payload"])} for row in rows] == [
        {**record, "seq": str(record["seq"]), "version": str(record["version"])} for record in array
    ]


def test_what_is_printed_proves_itself(case: Case) -> None:
    """The chain can be computed again from the output alone."""
    found = case.json("query", "--oldest")
    for record in found:
        content = {key: record[key] for key in COLUMNS if key not in {"prev_hash", "hash"}}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert chained(record["prev_hash"], text.encode()) == record["hash"]
    assert all(before["hash"] == after["prev_hash"] for before, after in pairwise(found))


def test_the_table_shows_who_and_what_and_that_there_are_more(case: Case) -> None:
    result = case.audit("query", "--account", "acc")
    for word in ("strategy alpha", "reconciliation", "system", "WARNING", "connection lost: time-out"):
        assert word in result.stdout
    assert "2024-01-02 09:05:00.000" in result.stdout
    assert result.stderr == ""
    few = case.audit("query", "--limit", 1)
    assert "the newest 1" in few.stderr
    assert "OPERATOR_ACTION" in few.stdout
    none = case.audit("query", "--severity", "critical")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "no record matches\n")
    assert case.json("query", "--severity", "critical") == []


def test_every_type_of_event_has_words(case: Case) -> None:
    for number, kind in enumerate(EventType):
        case.append(a_happening(kind, {"actor": "x/Y", "reason": "why"}, 1_000 + number, "x"), stream="x")
    result = case.audit("query", "--account", "x", "--limit", 100)
    assert result.exit_code == 0
    assert all(kind.value in result.stdout for kind in EventType)


def test_tail_is_the_short_form(case: Case) -> None:
    every = case.json("query", "--oldest")
    assert case.json("tail", "-n", 3) == every[-3:]
    assert case.json("tail", "-n", 0) == []
    lines = case.audit("tail", "-n", 2, "--jsonl").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [one["seq"] for one in every[-2:]]
    header, *rows = case.audit("tail", "-n", 2, "--csv").stdout.splitlines()
    assert header.startswith("seq,")
    assert len(rows) == 2
    assert "WARNING connection lost: time-out" in case.audit("tail").stdout


# Following


@contextmanager
def following(case: Case, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = case.process(*map(str, arguments))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_following_prints_each_new_record_once_and_ends_with_ctrl_c(case: Case) -> None:
    with following(case, "query", "--follow", "--jsonl", "--account", "acc", "--limit", 1) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        case.append(a_happening(EventType.ACTOR_STARTED, {"actor": "audit"}, 901, "supervisor"), stream="supervisor")
        for number in range(3):
            lost = a_happening(EventType.CONNECTION_LOST, {}, 902 + number, severity=Severity.WARNING)
            case.append(lost, stream="acc")
        new = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=20)
    assert (first["type"], first["stream"]) == ("CONNECTION_RESTORED", "acc")
    assert [(one["type"], one["time"]) for one in new] == [
        ("CONNECTION_LOST", to_iso(at(902 + number))) for number in range(3)
    ]
    assert (rest, said, process.returncode) == ("", "", 0)


def test_a_reader_that_goes_ends_it_quietly(case: Case) -> None:
    """As ``| head -1`` does."""
    long = {"reason": "x" * 4_000}
    many = [a_happening(EventType.CONNECTION_LOST, long, 1_000 + number) for number in range(200)]
    case.append(*many, stream="acc")
    with following(case, "query", "--csv") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 128 + signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""


# Proof


def test_a_head_noted_before_proves_that_nothing_is_gone_since(case: Case) -> None:
    noted = case.json("head")
    assert noted.keys() == {"seq", "hash", "time"}
    words = case.audit("head").stdout.split()
    assert words == [str(noted["seq"]), noted["hash"], noted["time"]]
    case.append(a_happening(EventType.CONNECTION_LOST, {}, 902), stream="acc")

    assert case.audit("verify", "--head", noted["hash"].upper()).exit_code == 0
    document = json.loads(case.audit("verify", "--head", "0" * 63 + "1", "--json").stdout)
    assert document["ok"] is False
    assert "cut off" in document["reason"]
    assert case.audit("verify", "--head", "0" * 63 + "1").exit_code == 1
    refused = case.audit("verify", "--head", "12")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "64 hexadecimal digits" in refused.stderr


def test_the_head_of_an_empty_journal_is_none(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.write_config()
    Journal.open(case.url, exclusive=True).close()
    assert case.json("head") == {"seq": 0, "hash": None, "time": None}
    assert case.audit("head").stdout == "the journal is empty\n"
    assert case.json("query") == []


def test_an_altered_journal_is_found_by_its_first_bad_record(case: Case) -> None:
    change(case.directory, "UPDATE journal_records SET payload = '{}' WHERE seq = 5")
    result = case.audit("verify", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (document["ok"], document["first_bad_seq"], document["records"]) == (False, 5, 4)


def test_a_copy_elsewhere_is_read_by_its_file_without_a_configuration(case: Case, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes((case.directory / "journal.db").read_bytes())
    for command in ("verify", "head", "query", "tail"):
        found = CliRunner().invoke(app, ["audit", command, "--journal", str(copy), "--json"])
        assert found.exit_code == 0
        assert json.loads(found.stdout) == case.json(command)


@pytest.mark.parametrize(
    "command",
    [("query",), ("tail",), ("verify",), ("head",), ("replay", "--account", "acc", "--instrument", "X")],
    ids=lambda command: command[0],
)
def test_a_journal_that_is_not_there_did_not_answer_and_is_not_made(tmp_path: Path, command: tuple[str, ...]) -> None:
    gone = tmp_path / "gone.db"
    result = CliRunner().invoke(app, ["audit", *command, "--journal", str(gone), "--json"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert "there is no such file" in result.stderr
    assert os.listdir(tmp_path) == []
