"""What a ``reconcile`` without a supervisor leaves in the journal of an account's own breaks and its connection, and
that whoever asks the journal then is answered as the verdict was."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from typing import Any

import pytest

from brokers.model import LONG
from tests.unit import cli_cases
from tests.unit.cli_cases import House, reconciled, records, run

house = cli_cases.house  # the fixture


def breaks(house: House, *more: object) -> tuple[int, list[dict[str, Any]]]:
    result = run("breaks", "list", "-c", house.path, "--json", *more)
    return result.exit_code, json.loads(result.stdout)["breaks"] if result.stdout else []


def report(house: House) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run("report", "-c", house.path, "--since", "1h", "--json").stdout)
    return made


def hold(house: House, quantity: int) -> None:
    house.oanda.set_position("AUD_USD", LONG, Decimal(quantity), Decimal("0.7"))


def test_what_nobody_manages_is_one_break_over_all_verdicts_and_ends_with_the_one_that_finds_it_gone(
    house: House,
) -> None:
    hold(house, 7)
    reconciled(house, "--account", "fx")
    (first,) = breaks(house)[1]
    reconciled(house, "--account", "fx")
    (again,) = breaks(house)[1]
    hold(house, 700)
    reconciled(house, "--account", "fx")
    (more,) = breaks(house)[1]

    assert again["opened_at"] == first["opened_at"] == more["opened_at"]
    assert ("long 7," in again["broker_value"], "long 700," in more["broker_value"]) == (True, True)
    assert len([one for one in records(house) if one["stream"] == "fx"]) == 2, "the second verdict reports nothing new"

    hold(house, 0)
    code, document = reconciled(house, "--account", "fx")

    assert (code, document["status"]) == (0, "SUCCESS")
    assert breaks(house) == (0, [])
    assert report(house)["breaks"]["open"] == 0


def test_a_dry_run_leaves_no_record_of_what_nobody_manages_and_of_a_broker_that_is_away(house: House) -> None:
    hold(house, 7)
    house.mt5.close()

    code, document = reconciled(house, "--dry-run")

    assert code == 3
    assert [one["type"] for one in document["accounts"][0]["discrepancies"]] == ["UNMANAGED_INSTRUMENT"]
    assert records(house) == []


def test_a_connection_that_is_back_with_the_next_verdict_is_restored_in_the_journal_and_no_outage_goes_on(
    house: House,
) -> None:
    house.path = house.write(rest_url="http://127.0.0.1:1")
    assert reconciled(house, "--account", "fx")[0] == 3
    assert reconciled(house, "--account", "fx")[0] == 3
    house.path = house.write()

    assert reconciled(house, "--account", "fx")[0] == 0

    types = [one["type"] for one in records(house) if one["stream"] == "fx"]
    assert types == ["CONNECTION_LOST", "CONNECTION_RESTORED"]
    outage = report(house)["connections"]["fx"]
    assert outage["outages"] == 1
    assert outage["seconds"] < 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--account", "fy"), "account 'fy'"),
        (("--account", "fx", "--instrument", "GBPJPY"), "instrument 'GBPJPY'"),
        (("--instrument", "EURUSD."), "instrument 'EURUSD.'"),
    ],
)
def test_a_misspelt_name_has_no_breaks_because_there_is_no_such_name(
    house: House, arguments: tuple[str, ...], words: str
) -> None:
    reconciled(house)

    result = run("breaks", "list", "-c", house.path, *arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert run("breaks", "list", "-c", house.path, "--account", "old").exit_code == 0, "configured, and quiet"


def test_an_instrument_that_nobody_manages_is_found_by_its_name(house: House) -> None:
    hold(house, 7)
    reconciled(house, "--account", "fx")

    assert breaks(house, "--instrument", "AUD_USD")[0] == 1
    assert breaks(house, "--instrument", "GBP_JPY") == (0, [])


@pytest.mark.parametrize(
    "done",
    [
        "delete from journal_records where seq > 2; update journal_head set seq = 2",
        "delete from journal_records",
        "update journal_records set payload = replace(payload, '80', '90')",
    ],
    ids=["its end is gone", "all is gone", "one was altered"],
)
def test_a_journal_that_is_not_whole_says_to_nobody_that_nothing_is_open(house: House, done: str) -> None:
    house.path = house.write(correct="alert")
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    reconciled(house)
    with sqlite3.connect(house.journal) as database:
        database.executescript(done)
    database.close()

    listed = run("breaks", "list", "-c", house.path)
    queried = run("audit", "query", "-c", house.path, "--json")
    tailed = run("audit", "tail", "-c", house.path)
    exported = run("audit", "export", "-c", house.path, "--format", "csv", house.directory / "out.csv")

    assert listed.exit_code == 3
    assert "audit verify" in listed.stderr
    assert [one.exit_code for one in (queried, tailed, exported)] == [1, 1, 1]
    assert all("NOT intact" in one.stderr for one in (queried, tailed, exported))
    json.loads(queried.stdout)  # what there is can be read all the same
