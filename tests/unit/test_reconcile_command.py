"""``reconcile``: verdicts, exit statuses and the document."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from actors.journal.store import Journal
from brokers.model import LONG, Side
from brokers.simulators.base import Fault
from tests.unit import cli_cases
from tests.unit.cli_cases import TOKEN, House, instruments, reconciled, records, run

house = cli_cases.house  # the fixture

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
    ("arguments", "words"),
    [
        (("--account", "nope"), "There are: fx, cfd, old"),
        (("--account", "old"), "account old is disabled"),
        (("--instrument", "nope"), "There are: fx/GBP_JPY, fx/EUR_USD, cfd/EURUSD"),
        (("--account", "cfd", "--instrument", "GBP_JPY"), "account cfd has no instrument 'GBP_JPY'"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_a_selection_of_what_there_is_not_is_a_usage_error_with_the_known_names(
    house: House, arguments: tuple[str, ...], words: str
) -> None:
    result = run("reconcile", house.path, *arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr


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
    assert "fx: 2 of 2 in step, discrepancies: 1 (0 critical)" in result.stdout
    assert "cfd: 1 of 1 in step, discrepancies: 0 (0 critical)" in result.stdout


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
