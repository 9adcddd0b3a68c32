"""The command line against simulated brokers: every exit status, the JSON to the letter, and nothing else on stdout."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from actors.journal.store import Journal
from brokers.model import LONG, Side
from brokers.registry import KINDS
from brokers.simulators.base import Fault
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from supervisor.cli.main import app
from supervisor.config.loader import load

ACCOUNT_ID, TOKEN = "101-001-1-001", "a-token-nobody-may-see"
SETTINGS = "{confirm_gap_ms: 20, settle_ms: 0, timeout_ms: 500}"

RECONCILE_KEYS = {"status", "started_at", "duration_ms", "accounts"}
ACCOUNT_KEYS = {"account", "broker", "connection", "error", "broker_calls", "discrepancies", "instruments"}
INSTRUMENT_KEYS = {"instrument", "status", "error", "passes", "book", "broker", "discrepancies"}
DISCREPANCY_KEYS = {
    "id",
    "type",
    "severity",
    "phase",
    "cause",
    "key",
    "book_value",
    "broker_value",
    "resolved",
    "correction",
}
RECORD_KEYS = {
    "seq",
    "stream",
    "version",
    "event_id",
    "time",
    "type",
    "severity",
    "payload",
    "prev_hash",
    "hash",
}


class House:
    """A configuration with an OANDA and an MT5 account, each at a simulator of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.oanda = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=("GBP_JPY", "EUR_USD"), hedging=True)
        self.mt5 = Mt5Simulator(instruments=("EURUSD",))
        self.rest_url = self.oanda.start()
        self.endpoint = self.mt5.start()
        self.journal = directory / "journal.db"
        self.path = self.write()

    def write(self, name: str = "accounts.yaml", **changes: str) -> Path:
        given = {"correct": "auto", "journal": f"sqlite:///{self.journal}", "rest_url": self.rest_url} | changes
        path = self.directory / name
        path.write_text(
            f"journal: {{url: '{given['journal']}'}}\n"
            f"defaults: {SETTINGS[:-1]}, correct: {given['correct']}}}\n"
            "accounts:\n"
            f"  - {{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: '${{OANDA_TOKEN}}',"
            f" rest_url: '{given['rest_url']}', instruments: [GBP_JPY, EUR_USD]}}\n"
            f"  - {{name: cfd, broker: mt5, endpoint: '{self.endpoint}', instruments: [EURUSD]}}\n"
            f"  - {{name: old, broker: paper, enabled: false, instruments: [EURUSD]}}\n"
        )
        return path

    def close(self) -> None:
        self.oanda.close()
        self.mt5.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("OANDA_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    made = House(tmp_path)
    yield made
    made.close()


def run(*arguments: object, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert TOKEN not in result.output
    assert "Traceback" not in result.output
    return result


def reconciled(house: House, *more: object) -> tuple[int, dict[str, Any]]:
    result = run("reconcile", house.path, "--json", *more)
    document: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, document


def instruments(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{a['account']}/{i['instrument']}": i for a in document["accounts"] for i in a["instruments"]}


def records(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("audit", "tail", "-c", house.path, "-n", 1000, "--json").stdout)
    return found


# -- reconcile -------------------------------------------------------------------------------------------------------


def test_zombies_ghosts_and_drift_are_put_right_and_a_second_verdict_finds_nothing(house: House) -> None:
    """FEATURES 1, 10, 29: two brokers, positions that only the broker has, then ones that only the book has."""
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    house.mt5.trade("EURUSD", Side.BUY, Decimal("0.1"))

    code, first = reconciled(house)
    house.oanda.set_position("GBP_JPY", LONG, Decimal(100), Decimal("191.2"))
    house.mt5.close_by_hand("EURUSD")
    second_code, second = reconciled(house)
    third_code, third = reconciled(house)

    assert (code, second_code, third_code) == (0, 0, 0)
    assert first["status"] == "SUCCESS"
    assert instruments(first)["fx/GBP_JPY"]["discrepancies"][0]["type"] == "MISSING_LOCALLY"
    (drift,) = instruments(second)["fx/GBP_JPY"]["discrepancies"]
    assert (drift["type"], drift["book_value"], drift["broker_value"], drift["correction"]) == (
        "POSITION_MISMATCH",
        "80",
        "100",
        "force_update_position",
    )
    assert instruments(second)["cfd/EURUSD"]["book"]["legs"] == []
    assert all(row["discrepancies"] == [] for row in instruments(third).values())
    assert instruments(third)["fx/GBP_JPY"]["book"]["legs"] == [
        {"leg": "long", "quantity": "100", "average_price": "191.2"}
    ]


def test_the_document_has_exactly_the_keys_of_the_contract(house: House) -> None:
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    house.oanda.place_limit("GBP_JPY", Side.BUY, Decimal(10), Decimal(100), "c1")

    _, document = reconciled(house)

    assert document.keys() == RECONCILE_KEYS
    assert [account.keys() for account in document["accounts"]] == [ACCOUNT_KEYS] * 2
    row = instruments(document)["fx/GBP_JPY"]
    assert row.keys() == INSTRUMENT_KEYS
    assert {"positions", "orders", "fills"} == row["broker"].keys()
    assert {frozenset(one) for one in row["discrepancies"]} == {frozenset(DISCREPANCY_KEYS)}
    (order,) = row["book"]["open_orders"]
    assert order.keys() == {
        "broker_order_id",
        "client_order_id",
        "side",
        "quantity",
        "filled_quantity",
        "status",
    }
    assert document["started_at"].endswith("Z")


def test_a_dry_run_reports_every_difference_as_an_open_break_and_leaves_the_journal_alone(house: House) -> None:
    """FEATURES 11: nothing is changed, not even a record is added."""
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))

    code, document = reconciled(house, "--dry-run")

    assert code == 1
    (found,) = instruments(document)["fx/GBP_JPY"]["discrepancies"]
    assert found["resolved"] is False
    assert records(house) == []


def test_alerts_alone_leave_the_break_open(house: House) -> None:
    """PEERS 10."""
    house.path = house.write(correct="alert")
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))

    assert reconciled(house)[0] == 1
    code, document = reconciled(house)

    assert code == 1
    assert instruments(document)["fx/GBP_JPY"]["book"]["legs"] == []


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ((), {"fx/GBP_JPY", "fx/EUR_USD", "cfd/EURUSD"}),
        (("--account", "cfd"), {"cfd/EURUSD"}),
        (("--account", "fx", "--instrument", "EUR_USD"), {"fx/EUR_USD"}),
        (("--instrument", "EURUSD"), {"cfd/EURUSD"}),
    ],
    ids=["everything", "an account", "an instrument of an account", "an instrument that one account has"],
)
def test_a_selection_gives_a_verdict_on_what_it_names_alone(
    house: House, selection: tuple[str, ...], expected: set[str]
) -> None:
    assert instruments(reconciled(house, *selection)[1]).keys() == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--account", "nope"), "There are: fx, cfd, old"),
        (("--account", "old"), "account old is disabled"),
        (("--instrument", "nope"), "There are: fx/GBP_JPY, fx/EUR_USD, cfd/EURUSD"),
        (("--account", "cfd", "--instrument", "GBP_JPY"), "account cfd has no instrument 'GBP_JPY'"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_a_selection_of_what_there_is_not_is_a_usage_error_with_the_known_names(
    house: House, arguments: tuple[str, ...], told: str
) -> None:
    result = run("reconcile", house.path, *arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert told in result.stderr


def test_one_account_down_is_unverified_and_the_other_has_its_verdict(house: House) -> None:
    """FEATURES 12, PEERS 8: 3, with the document still printed."""
    house.mt5.close()

    code, document = reconciled(house)

    found = instruments(document)
    assert code == 3
    assert document["status"] == "DEGRADED"
    assert (found["fx/GBP_JPY"]["status"], found["cfd/EURUSD"]["status"]) == ("SUCCESS", "DEGRADED")
    assert document["accounts"][1]["connection"] == "UNREACHABLE"


def test_an_unreadable_row_is_an_open_break(house: House) -> None:
    """FEATURES 21: 1, and the other rows go on."""
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    house.oanda.set_position("EUR_USD", LONG, Decimal(5), Decimal("1.1"))
    house.oanda.faults.add(Fault.MALFORMED_ROW, times=20, match="AccountDetails")

    code, document = reconciled(house, "--account", "fx")

    assert code == 1
    assert document["status"] == "PARTIAL"


def test_a_wrong_token_says_so_and_shows_no_token(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OANDA_TOKEN", "another-token-nobody-may-see")

    result = run("reconcile", house.path, "--account", "fx", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 3
    assert document["accounts"][0]["connection"] == "REFUSED"
    assert "another-token" not in result.output
    assert len(house.oanda.requests) <= 2


def test_a_journal_that_cannot_be_written_is_unverified_with_the_document_still_printed(house: House) -> None:
    house.path = house.write(journal=f"sqlite:///{house.path}/journal.db")
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))

    code, document = reconciled(house)

    assert code == 3
    assert {row["status"] for row in instruments(document).values()} == {"DEGRADED"}
    assert "journal" in instruments(document)["fx/GBP_JPY"]["error"]


def test_a_journal_held_by_somebody_who_does_not_answer_is_unverified(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.cli.reconcile.IN_USE_PATIENCE_S", 0.1)
    holder = Journal.open(f"sqlite:///{house.journal}", exclusive=True)
    try:
        code, document = reconciled(house)
    finally:
        holder.close()

    assert code == 3
    assert "is its writer already" in instruments(document)["cfd/EURUSD"]["error"]


def test_without_json_people_read_both_sides_values_and_one_line_an_account(house: House) -> None:
    """FEATURES 28."""
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))

    result = run("reconcile", house.path)

    assert result.exit_code == 0
    assert "long 80 @ 191.2" in result.stdout
    assert "force_add_position" in result.stdout
    assert "fx: 2 in step of 2, discrepancies: 1 (0 critical)" in result.stdout
    assert "cfd: 1 in step of 1, discrepancies: 0 (0 critical)" in result.stdout


@pytest.mark.parametrize("verbose", [(), ("--verbose",)], ids=["quiet", "verbose"])
def test_reconcile_imports_no_ray_and_prints_one_document_and_nothing_else(
    house: House, verbose: tuple[str, ...]
) -> None:
    house.mt5.close()  # there are retries to be logged
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write('ray' if 'ray' in sys.modules else 'no Ray here'))\n"
        f"sys.argv = ['supervisor', *{list(verbose)!r}, 'reconcile', {str(house.path)!r}, '--json']\n"
        "from supervisor.cli.main import main\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert json.loads(done.stdout).keys() == RECONCILE_KEYS
    assert done.stderr.endswith("no Ray here")
    assert TOKEN not in done.stderr


def test_an_interrupt_leaves_status_130_and_a_journal_that_verifies(house: House) -> None:
    house.oanda.faults.add(Fault.TIMEOUT, times=50)
    path = house.write("slow.yaml")
    path.write_text(path.read_text().replace("timeout_ms: 500", "timeout_ms: 60000"))
    arguments = [sys.executable, "-m", "supervisor", "reconcile", str(path), "--json"]

    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not house.oanda.requests and process.poll() is None:
            time.sleep(0.01)  # until it waits for its broker, which has no event for it
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert run("audit", "verify", "-c", house.path).exit_code == 0


# -- record ----------------------------------------------------------------------------------------------------------

PLACED = (
    '{"kind":"order","instrument":"GBP_JPY","client_order_id":"c1","broker_order_id":null,"side":"BUY",'
    '"quantity":"100","order_type":"LIMIT","limit_price":"100","status":"PENDING_SUBMIT",'
    '"submitted_at":"2026-01-31T12:00:00Z","strategy":"trend"}\n'
)


def test_an_order_whose_confirmation_was_lost_is_found_and_settled(house: House) -> None:
    """FEATURES 23: recorded as sent, confirmed to nobody, filled at the broker."""
    order_id = house.oanda.place_limit("GBP_JPY", Side.BUY, Decimal(100), Decimal(100), "c1")

    assert run("record", house.path, "--account", "fx", stdin=PLACED).stdout == "1 line read, 1 new\n"
    _, found = reconciled(house)
    house.oanda.fill_order(order_id)
    code, settled = reconciled(house)

    (open_order,) = instruments(found)["fx/GBP_JPY"]["book"]["open_orders"]
    assert (open_order["broker_order_id"], open_order["status"]) == (order_id, "OPEN")
    row = instruments(settled)["fx/GBP_JPY"]
    assert (code, row["book"]["open_orders"]) == (0, [])
    assert [(leg["leg"], leg["quantity"]) for leg in row["book"]["legs"]] == [("long", "100")]


def test_recording_the_same_file_twice_is_harmless(house: House) -> None:
    file = house.directory / "orders.jsonl"
    file.write_text(PLACED)

    assert run("record", house.path, "--account", "fx", file).stdout == "1 line read, 1 new\n"
    before = records(house)
    assert run("record", house.path, "--account", "fx", file).stdout == "1 line read, 0 new\n"
    assert run("record", house.path, "--account", "fx", "-", stdin=PLACED).exit_code == 0
    assert records(house) == before


def test_a_bad_line_is_named_and_nothing_of_the_file_is_recorded(house: House) -> None:
    result = run("record", house.path, "--account", "fx", stdin=PLACED + '{"kind":"fill"}\n')

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "standard input: line 2: fill_id: found nothing, expected the broker's id of the fill" in result.stderr
    assert not house.journal.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--account", "nope"), 2, "There are: fx, cfd, old"),
        (("--account", "fx", "/no/such/file"), 2, "/no/such/file cannot be read: No such file"),
        ((), 2, "--account"),
    ],
)
def test_record_says_what_is_wrong_with_its_arguments(
    house: House, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = run("record", house.path, *arguments, stdin=PLACED)

    assert result.exit_code == code
    assert told in result.stderr


def test_record_into_a_journal_that_is_away_says_so(house: House) -> None:
    house.path = house.write(journal=f"sqlite:///{house.path}/journal.db")

    result = run("record", house.path, "--account", "fx", stdin=PLACED)

    assert result.exit_code == 3
    assert result.stdout == ""
    assert "it is not known whether anything was recorded: the journal is not available" in result.stderr
    assert "Record the file again: what is in counts once" in result.stderr


# -- check, and bad configurations -----------------------------------------------------------------------------------

COMMANDS = [
    ("reconcile", "CONFIG"),
    ("record", "CONFIG", "--account", "fx"),
    ("start", "CONFIG"),
    ("check", "CONFIG"),
    ("audit", "tail", "-c", "CONFIG"),
    ("audit", "verify", "-c", "CONFIG"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_a_wrong_configuration_names_every_problem_and_nothing_is_started(
    house: House, command: tuple[str, ...]
) -> None:
    path = house.directory / "wrong.yaml"
    path.write_text("journal: {url: 'mysql://x'}\naccounts:\n  - {name: fx, broker: oanda, intrval_s: 5}\n")

    result = run(*(path if part == "CONFIG" else part for part in command))

    assert result.exit_code == 2
    assert result.stdout == ""
    for told in ("journal.url", "intrval_s", "account_id", "token", "instruments"):
        assert told in result.stderr
    assert f"{path}:3" in result.stderr


@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: " ".join(command[:2]))
def test_a_secret_that_is_not_in_the_environment_is_a_configuration_error(
    house: House, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OANDA_TOKEN")

    result = run(*(house.path if part == "CONFIG" else part for part in command))

    assert result.exit_code == 2
    assert "OANDA_TOKEN" in result.stderr


@pytest.mark.parametrize("command", COMMANDS[4:], ids=lambda command: " ".join(command[:2]))
def test_who_audits_needs_no_secret(house: House, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("reconcile", house.path).exit_code == 0
    monkeypatch.delenv("OANDA_TOKEN")

    result = run(*(house.path if part == "CONFIG" else part for part in command))

    assert result.exit_code == 0, result.output


BRAKE = [
    ("status", "-c", "CONFIG"),
    ("stop", "-c", "CONFIG"),
    ("pause", "-c", "CONFIG"),
    ("resume", "fx", "-c", "CONFIG"),
    ("halt", "fx/EUR_USD", "-c", "CONFIG"),
    ("restart", "fx", "-c", "CONFIG"),
]


@pytest.mark.parametrize("command", BRAKE, ids=lambda command: command[0])
@pytest.mark.parametrize("accounts", ["[{name: fx, broker: oanda, token: '${NOT_SET}'}]", "[{intrval_s: 5}]"])
def test_the_emergency_brake_needs_no_secret_and_no_account_that_can_be_read(
    house: House, command: tuple[str, ...], accounts: str
) -> None:
    path = house.directory / "brake.yaml"
    path.write_text(f"accounts: {accounts}\n")

    result = run(*(path if part == "CONFIG" else part for part in command))

    assert result.exit_code == 3
    run_file = house.directory / "var" / "journal.db.run.json"
    assert result.stderr.startswith(f"error: no supervisor is running: there is no run file {run_file}")


@pytest.mark.parametrize("command", [("reconcile",), ("start",), ("record", "--account", "fx")], ids=lambda one: one[0])
def test_a_journal_where_relative_paths_used_to_lead_is_named_and_not_forgotten(
    house: House, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "var").mkdir(parents=True)
    former = elsewhere / "var" / "journal.db"
    former.write_bytes(b"")
    monkeypatch.chdir(elsewhere)
    path = house.write(journal="sqlite:///var/journal.db")

    result = run(command[0], path, *command[1:], stdin=PLACED)

    assert result.exit_code == 2
    assert f"there is one at {former}" in result.stderr
    assert f"set journal.url: sqlite:///{former}" in result.stderr


def test_reconcile_says_once_where_a_new_journal_begins(house: House) -> None:
    told = f"there is no journal yet: a new one begins at {house.journal}"
    assert told in run("reconcile", house.path).stderr
    assert told not in run("reconcile", house.path).stderr


def test_reconcile_from_cron_begins_no_journal_unasked(house: House) -> None:
    result = run("reconcile", house.path, "--no-create")

    assert result.exit_code == 3
    assert f"there is no journal {house.journal}, and --no-create allows no new one" in result.stderr
    assert not house.journal.exists()
    assert run("reconcile", house.path, "--create", "--quiet").stdout == ""
    assert run("reconcile", house.path, "--no-create").exit_code == 0


def test_version_is_that_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version").stdout)


def test_check_prints_what_would_run(house: House) -> None:
    result = run("check", house.path)

    assert result.exit_code == 0
    for told in ("fx", "GBP_JPY", "300 s", "cfd", "EURUSD", "15 s", "old", "disabled"):
        assert told in result.stdout
    assert house.oanda.requests == ()


def test_a_name_that_an_account_with_all_has_never_had_is_a_mistake_and_not_flat(house: House) -> None:
    """PEERS 1: unknown is never flat."""
    path = house.write("all.yaml")
    path.write_text(path.read_text().replace("[GBP_JPY, EUR_USD]", "all"))
    house.oanda.trade("EUR_USD", Side.BUY, Decimal(100))
    typed_wrong = run("reconcile", path, "--account", "fx", "--instrument", "EURUSD")
    assert typed_wrong.exit_code == 2
    assert "there is no instrument 'EURUSD': fx takes all there are" in typed_wrong.stderr
    assert run("reconcile", path, "--account", "fx", "--instrument", "EUR_USD").exit_code == 0
    house.oanda.close_by_hand("EUR_USD")
    flat = run("reconcile", path, "--account", "fx", "--instrument", "EUR_USD", "--json")  # it had it: it is flat now
    assert (flat.exit_code, json.loads(flat.stdout)["accounts"][0]["instruments"][0]["book"]["legs"]) == (0, [])
    house.oanda.faults.add(Fault.RESET, times=1000)
    nobody = run("reconcile", path, "--account", "fx", "--instrument", "EURUSD", "--json")
    assert nobody.exit_code == 3
    assert json.loads(nobody.stdout)["accounts"][0]["instruments"][0]["status"] == "DEGRADED"


def test_check_connects_each_enabled_account_and_says_what_was_reached(house: House) -> None:
    house.mt5.close()

    result = run("check", house.path, "--connect", "--json")

    document = json.loads(result.stdout)
    outcomes = {one["account"]: one["connect"] and one["connect"]["outcome"] for one in document["accounts"]}
    assert result.exit_code == 3
    assert outcomes == {"fx": "REACHED", "cfd": "UNREACHABLE", "old": None}
    assert document["problems"] == []
    assert run("check", house.path, "--connect").exit_code == 3


def test_check_says_that_a_login_nobody_tells_is_unproven(house: House) -> None:
    """The account may be another one's: the configuration alone vouches for it."""
    gateway = Mt5Simulator(login=777, instruments=("EURUSD",), base_only=True)
    path = house.directory / "unproven.yaml"
    path.write_text(
        f"accounts: [{{name: cfd, broker: mt5, login: 5001, endpoint: '{gateway.start()}', instruments: [EURUSD]}}]\n"
    )

    result = run("check", path, "--connect", "--json")
    gateway.close()

    (account,) = json.loads(result.stdout)["accounts"]
    assert (result.exit_code, account["connect"]["outcome"]) == (0, "REACHED")
    assert "0 position legs" in account["connect"]["found"]
    assert "login 5001 cannot be proven" in account["connect"]["found"]


def test_check_gives_its_problems_as_json_too(house: House) -> None:
    path = house.directory / "wrong.yaml"
    path.write_text("accounts: []\n")

    result = run("check", path, "--json")

    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem.keys() == {"file", "line", "key", "found", "expected"}


@pytest.mark.parametrize("command", [("reconcile",), ("status",), ("audit", "tail"), ("check",)])
def test_without_a_configuration_the_default_is_looked_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    result = run(*command)

    assert result.exit_code == 2
    assert "there is no config/accounts.yaml in this directory" in result.stderr


# -- the running supervisor, where there is none ---------------------------------------------------------------------


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("stop",), ("pause",), ("restart", "fx")])
def test_commands_to_a_supervisor_that_does_not_run_say_where_it_was_looked_for(
    house: House, command: tuple[str, ...]
) -> None:
    result = run(*command, "--config", house.path)

    assert result.exit_code == 3
    assert result.stdout == ""
    assert f"there is no run file {house.directory}" in result.stderr
    assert "python -m supervisor start" in result.stderr


@pytest.mark.parametrize("more", [(), ("--detach",)], ids=["attached", "detached"])
def test_a_cluster_that_does_not_answer_is_told_at_once(house: House, more: tuple[str, ...]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        house.path.write_text(f"ray: {{address: '{address}'}}\n{house.path.read_text()}")

        result = run("start", house.path, *more)

    assert result.exit_code == 3
    assert f"the Ray cluster {address} does not answer" in result.stderr
    assert not house.journal.exists()


# -- audit -----------------------------------------------------------------------------------------------------------


def test_tail_prints_the_last_records_with_the_keys_of_the_contract_beside_a_writer(house: House) -> None:
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    reconciled(house)
    every = records(house)
    writer = Journal.open(f"sqlite:///{house.journal}", exclusive=True)
    try:
        last = json.loads(run("audit", "tail", "-c", house.path, "-n", 2, "--json").stdout)
        words = run("audit", "tail", "-c", house.path)
    finally:
        writer.close()

    assert {frozenset(record) for record in every} == {frozenset(RECORD_KEYS)}
    assert [record["seq"] for record in every] == list(range(1, len(every) + 1))
    assert last == every[-2:]
    assert "fx/GBP_JPY RECONCILIATION_DISCREPANCY MISSING_LOCALLY long: nothing → 80, force_add" in words.stdout


def test_verify_tells_an_intact_journal_from_an_altered_one(house: House) -> None:
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    reconciled(house)
    every = records(house)

    intact = run("audit", "verify", "-c", house.path)
    with sqlite3.connect(house.journal) as database:
        database.execute("UPDATE journal_records SET payload = '{}' WHERE seq = 2")
    database.close()
    altered = run("audit", "verify", "-c", house.path, "--json")

    assert intact.exit_code == 0
    first, second = intact.stdout.splitlines()
    assert first == f"{len(every)} records, chain intact, head {len(every)} {every[-1]['hash']}"
    assert second == "in accord with 1 signed head"
    assert "--head HASH" in intact.stderr
    assert "--head HASH" not in run("audit", "verify", "-c", house.path, "--head", every[-1]["hash"]).stderr
    assert altered.exit_code == 1
    document = json.loads(altered.stdout)
    assert (document["ok"], document["first_bad_seq"]) == (False, 2)
    assert "NOT intact at record 2" in run("audit", "verify", "-c", house.path).stdout


@pytest.mark.parametrize("command", ["tail", "verify"])
def test_a_journal_that_is_not_there_did_not_answer_and_is_not_made(house: House, command: str) -> None:
    result = run("audit", command, "-c", house.path, "--json")

    assert result.exit_code == 3
    assert result.stdout == ""
    assert "there is no such file" in result.stderr
    assert not house.journal.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads and writes everything")
def test_a_read_only_journal_is_reported_by_reconcile(house: House) -> None:
    reconciled(house)
    house.journal.chmod(0o400)
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))

    code, document = reconciled(house)

    assert code == 3
    assert instruments(document)["fx/GBP_JPY"]["book"]["legs"] == []


# -- simulate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "number"),
    [("oanda", signal.SIGINT), ("mt5", signal.SIGTERM), ("kite", signal.SIGINT), ("ib", signal.SIGHUP)],
    ids=["oanda", "mt5", "kite", "ib"],
)
def test_a_simulator_by_itself_is_reached_with_what_it_prints_and_ends_by_a_signal(
    broker: str, number: signal.Signals, tmp_path: Path
) -> None:
    arguments = [sys.executable, "-m", "supervisor", "simulate", broker, "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while "instruments" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended too early"
        path = tmp_path / "accounts.yaml"
        path.write_text(f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\ndefaults: {SETTINGS}\n{''.join(lines)}")
        result = run("reconcile", path, "--json")
        process.send_signal(number)
        assert process.wait(timeout=20) == 0

    assert result.exit_code == 0
    assert instruments(json.loads(result.stdout))
    assert load(path).accounts[0].broker == broker


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("paper", "--port", 0), "There are: oanda, mt5, kite, ib"),
        (("oanda", "--port", 0, "--login", 5), "--login is for mt5"),
        (("mt5", "--port", 0, "--token", "x"), "--token and --account-id are for oanda"),
        (("oanda",), "--port"),
        (("oanda", "--port", 70000), "65535"),
    ],
)
def test_simulate_says_what_does_not_fit(arguments: tuple[object, ...], told: str) -> None:
    result = run("simulate", *arguments)

    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("broker", ["oanda", "mt5"])
def test_a_port_in_use_is_named(house: House, broker: str) -> None:
    port = (house.rest_url if broker == "oanda" else house.endpoint).rpartition(":")[2]

    result = run("simulate", broker, "--port", port, "--still")

    assert result.exit_code == 2
    assert f"cannot serve on 127.0.0.1:{port}" in result.stderr


# -- errors of ours --------------------------------------------------------------------------------------------------


def test_an_error_of_ours_is_one_message_without_credentials(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> int:
        raise RuntimeError("at postgresql://user:secret@host/db\nmore")

    monkeypatch.setattr("supervisor.cli.reconcile.reconcile", broken)

    result = run("reconcile", house.path)

    assert result.exit_code == 70
    assert result.stderr.count("\n") == 1
    assert "RuntimeError: at postgresql://…@host/db" in result.stderr
    assert "secret" not in result.stderr
    assert "--verbose" in result.stderr


def test_every_command_has_a_help_text() -> None:
    commands = ("start", "reconcile", "record", "status", "pause", "resume", "halt", "restart", "stop", "check")
    for command in commands:
        assert run(command, "--help").exit_code == 0
        assert command in run("--help").stdout


def test_simulate_names_every_broker_it_has() -> None:
    said = run("simulate", "--help").stdout
    assert all(broker in said for broker in KINDS)
