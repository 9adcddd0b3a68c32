"""Where nothing was looked at, or less than was asked for, no command says that all is well."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from brokers.model import LONG
from supervisor.cli.screen import book_words
from supervisor.presentation.json_contract import section_words
from tests.unit import cli_cases
from tests.unit.cli_cases import House, reconciled, run

house = cli_cases.house  # the fixture


def test_a_configuration_in_which_every_account_is_disabled_has_no_verdict(house: House) -> None:
    house.path.write_text(house.path.read_text().replace("broker:", "enabled: false, broker:").replace(
        ", enabled: false, instruments", ", instruments"
    ))  # fmt: skip

    for options in ((), ("--json",), ("--dry-run",)):
        result = run("reconcile", house.path, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "no account is enabled" in result.stderr
    assert "no account is enabled" in run("check", house.path).output
    assert not house.journal.exists()


def test_an_account_that_is_disabled_is_named_beside_the_verdict(house: House) -> None:
    assert "old: disabled, not checked" in run("reconcile", house.path).stdout
    assert "old" not in run("reconcile", house.path, "--account", "cfd").stdout


def test_positions_that_are_not_compared_are_not_called_complete(house: House) -> None:
    house.path.write_text(house.path.read_text().replace("{name: fx,", "{name: fx, mode: paper,"))
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))

    (row,) = (line for line in run("reconcile", house.path).stdout.splitlines() if line.startswith("fx       GBP_JPY"))

    assert "positions not compared" in row
    assert "complete" not in row
    assert section_words({"positions": "COMPLETE", "orders": "COMPLETE", "fills": "UNSUPPORTED"}) == ""


@pytest.mark.parametrize(
    ("positions", "shown"), [(None, "flat"), ("COMPLETE", "flat"), ("PARTIAL", "unknown"), ("FAILED", "unknown")]
)
def test_a_book_whose_table_was_not_read_whole_is_not_called_flat(positions: str | None, shown: str) -> None:
    table = {} if positions is None else {"table": {"positions": positions, "legs": 0, "broker_legs": 0}}
    assert book_words({"legs": [], "open_orders": [], **table}, known=True) == shown


def report(house: House, *more: object) -> tuple[int, str, dict[str, Any]]:
    result = run("report", "-c", house.path, "--since", "1h", "--json", *more)
    return result.exit_code, result.stderr, json.loads(result.stdout)


def test_a_report_of_a_time_whose_records_were_archived_says_so_and_is_no_success(house: House) -> None:
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    reconciled(house)
    assert report(house)[0] == 0
    archive, page = house.directory / "old.db", house.directory / "r.html"
    run("audit", "archive", "-c", house.path, "--before", datetime.now(UTC).isoformat(), archive)

    code, said, document = report(house, "--out", page)

    assert code == 3
    assert document["journal"]["archived_seq"] > 0
    assert f"records 1 to {document['journal']['archived_seq']} were archived" in said
    assert "MISSING HERE" in page.read_text()
    assert "which was not read" in run("audit", "verify", "-c", house.path).stdout
    archive.unlink()
    assert "which is not there any more" in run("audit", "verify", "-c", house.path).stdout


@pytest.fixture
def shortened(house: House) -> House:
    """A journal whose last records were cut off with all that is easily seen of them: what is left is a whole chain."""
    reconciled(house)
    house.oanda.set_position("GBP_JPY", LONG, Decimal(80), Decimal("191.2"))
    reconciled(house)
    with sqlite3.connect(house.journal) as database:
        database.executescript(
            "delete from journal_records where seq > 3;"
            "update journal_head set seq = 3, hash = (select hash from journal_records where seq = 3)"
        )
    database.close()
    house.journal.with_name("journal.db.mark").unlink()
    return house


def test_a_journal_that_its_signed_heads_contradict_is_whole_to_no_command(shortened: House) -> None:
    verified = run("audit", "verify", "-c", shortened.path)
    code, said, document = report(shortened)

    assert verified.exit_code == code == 1
    assert document["journal"]["verified"] is False
    assert "covers" in document["journal"]["reason"]
    assert "NOT intact" in said
    assert run("breaks", "list", "-c", shortened.path).exit_code == 3
    for command in ("tail", "query", "head"):
        assert run("audit", command, "-c", shortened.path).exit_code == 1


def test_a_journal_without_the_signed_heads_that_its_key_made_says_that_they_may_have_been_taken_out(
    house: House,
) -> None:
    reconciled(house)
    with sqlite3.connect(house.journal) as database:
        database.execute("delete from journal_signed_heads")
    database.close()

    assert "or its signed heads were removed" in run("audit", "verify", "-c", house.path).stdout
