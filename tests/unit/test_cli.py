"""The command line against simulated brokers: every exit status, the JSON to the letter, and nothing else on stdout."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from actors.journal.store import Journal
from brokers.model import LONG, Side
from brokers.registry import KINDS
from brokers.simulators.base import Fault
from brokers.simulators.mt5 import Mt5Simulator
from supervisor.config.loader import load
from tests.ports import nobody_at
from tests.unit import cli_cases
from tests.unit.cli_cases import SETTINGS, House, instruments, reconciled, records, run

house = cli_cases.house  # the fixture

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
    ("arguments", "code", "words"),
    [
        (("--account", "nope"), 2, "There are: fx, cfd, old"),
        (("--account", "fx", "/no/such/file"), 2, "/no/such/file cannot be read: No such file"),
        ((), 2, "--account"),
    ],
)
def test_record_says_what_is_wrong_with_its_arguments(
    house: House, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = run("record", house.path, *arguments, stdin=PLACED)

    assert result.exit_code == code
    assert words in result.stderr


def test_record_into_a_journal_that_is_away_says_so(house: House) -> None:
    house.path = house.write(journal=f"sqlite:///{house.path}/journal.db")

    result = run("record", house.path, "--account", "fx", stdin=PLACED)

    assert result.exit_code == 3
    assert result.stdout == ""
    assert "it is not known whether anything was recorded: the journal is not available" in result.stderr
    assert "Record the file again: what was recorded already counts once" in result.stderr


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
    for words in ("journal.url", "intrval_s", "account_id", "token", "instruments"):
        assert words in result.stderr
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


@pytest.mark.parametrize(
    "command", [("reconcile",), ("start",), ("record", "--account", "fx"), ("check",)], ids=lambda one: one[0]
)
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
    assert f"there is one at {former}" in result.output
    assert f"set journal.url: sqlite:///{former}" in result.output


def test_reconcile_says_once_where_a_new_journal_begins(house: House) -> None:
    words = f"there is no journal yet: starting a new one at {house.journal}"
    assert words in run("reconcile", house.path).stderr
    assert words not in run("reconcile", house.path).stderr


def test_reconcile_from_cron_begins_no_journal_unasked(house: House) -> None:
    result = run("reconcile", house.path, "--no-create")

    assert result.exit_code == 3
    assert f"there is no journal {house.journal}, and --no-create forbids a new one" in result.stderr
    assert not house.journal.exists()
    assert run("reconcile", house.path, "--create", "--quiet").stdout == ""
    assert run("reconcile", house.path, "--no-create").exit_code == 0


def test_version_is_that_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version").stdout)


def test_check_prints_what_would_run(house: House) -> None:
    result = run("check", house.path)

    assert result.exit_code == 0
    for words in ("fx", "GBP_JPY", "300 s", "cfd", "EURUSD", "15 s", "old", "disabled"):
        assert words in result.stdout
    assert house.oanda.requests == ()


def test_a_name_that_an_account_with_all_has_never_had_is_a_mistake_and_not_flat(house: House) -> None:
    """PEERS 1: unknown is never flat."""
    path = house.write("all.yaml")
    path.write_text(path.read_text().replace("[GBP_JPY, EUR_USD]", "all"))
    house.oanda.trade("EUR_USD", Side.BUY, Decimal(100))
    typed_wrong = run("reconcile", path, "--account", "fx", "--instrument", "EURUSD")
    assert typed_wrong.exit_code == 2
    assert "there is no instrument 'EURUSD': fx takes all instruments" in typed_wrong.stderr
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


def test_check_says_that_a_login_nobody_states_is_unproven(house: House) -> None:
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
def test_a_cluster_that_does_not_answer_is_reported_at_once(house: House, more: tuple[str, ...]) -> None:
    with nobody_at() as port:
        address = f"127.0.0.1:{port}"
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


def test_verify_distinguishes_an_intact_journal_from_an_altered_one(house: House) -> None:
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
    assert re.fullmatch(r"agrees with \d signed heads?", second), (
        second
    )  # one for each time that it was quiet for a moment
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
        settings = SETTINGS.replace("timeout_ms: 500", "timeout_ms: 20000")  # another process answers in its own time
        path.write_text(f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\ndefaults: {settings}\n{''.join(lines)}")
        result = run("reconcile", path, "--json")
        process.send_signal(number)
        assert process.wait(timeout=20) == 0

    assert result.exit_code == 0
    assert instruments(json.loads(result.stdout))
    assert load(path).accounts[0].broker == broker


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("paper", "--port", 0), "There are: oanda, mt5, kite, ib"),
        (("oanda", "--port", 0, "--login", 5), "--login is for mt5"),
        (("mt5", "--port", 0, "--token", "x"), "--token and --account-id are for oanda"),
        (("oanda",), "--port"),
        (("oanda", "--port", 70000), "65535"),
    ],
)
def test_simulate_says_what_does_not_fit(arguments: tuple[object, ...], words: str) -> None:
    result = run("simulate", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr


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
