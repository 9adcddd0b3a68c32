"""The documents of the JSON contract and the exit status: DESIGN 7, to the letter."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from actors.book.discrepancies import Break, Cause, Correction, Discrepancy, DiscrepancyType, Phase
from actors.events import Severity
from actors.instrument.views import NOTHING_KNOWN, book_view, broker_view
from actors.messages import AccountHealth, Connection, CycleReport
from actors.reconciliation.reconciliation_pass import Status
from brokers.model import OrderStatus
from supervisor.presentation.json_contract import document, exit_status, section_words, summary, worst
from tests.unit.builders import FAILED, SIDED, Desk, order_report, position_report, slice_at

NOW = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)


def a_break(kind: DiscrepancyType = DiscrepancyType.POSITION_MISMATCH, strategy: str | None = None) -> Break:
    return Break(
        id="b1",
        type=kind,
        key="long",
        severity=Severity.WARNING,
        phase=Phase.DRIFT,
        cause=Cause.UNEXPLAINED,
        book_value="80",
        broker_value="100",
        difference="20",
        opened_at=NOW,
        strategy=strategy,
    )


def open_(kind: DiscrepancyType = DiscrepancyType.POSITION_MISMATCH) -> Discrepancy:
    return Discrepancy(a_break(kind), resolved=False, correction=None)


def resolved() -> Discrepancy:
    return Discrepancy(a_break(), resolved=True, correction=Correction.FORCE_UPDATE_POSITION)


def report(status: Status = Status.SUCCESS, *found: Discrepancy, unverified: bool = False) -> CycleReport:
    desk = Desk()
    desk.report(position_report("100.50", "191.20", leg="long"), order_report("c1", "7"), at_s=0, conventions=SIDED)
    return CycleReport(
        account="fx",
        instrument="GBP_JPY",
        status=status,
        error="no answer" if unverified else None,
        finished_at=NOW,
        duration_ms=1.0,
        passes=2,
        book=book_view(desk.book),
        broker=broker_view(slice_at(1)),
        discrepancies=found,
        unverified=unverified,
    )


def health(error: str | None = None, *found: Discrepancy) -> AccountHealth:
    connection = Connection.CONNECTED if error is None else Connection.REFUSED
    return AccountHealth("fx", "oanda", connection, error, 3, 1, None, (), found, 1)


UNMANAGED = open_(DiscrepancyType.UNMANAGED_INSTRUMENT)
UNREADABLE = open_(DiscrepancyType.MALFORMED_DATA)
PARTIAL, DEGRADED, FAILURE = Status.PARTIAL, Status.DEGRADED, Status.FAILED


@pytest.mark.parametrize(
    ("account", "reports", "exit_code", "status"),
    [
        (health(), [report()], 0, "SUCCESS"),
        (health(), [], 0, "SUCCESS"),
        (health(), [report(Status.SUCCESS, resolved())], 0, "SUCCESS"),
        (health(None, UNMANAGED), [report()], 1, "PARTIAL"),
        (health(), [report(), report(PARTIAL, open_())], 1, "PARTIAL"),
        (health(None, UNREADABLE), [report()], 1, "PARTIAL"),
        (health(), [report(PARTIAL, open_(DiscrepancyType.MALFORMED_DATA))], 1, "PARTIAL"),
        (health(), [report(DEGRADED, unverified=True)], 3, "DEGRADED"),
        (health(), [report(PARTIAL, unverified=True)], 3, "PARTIAL"),
        (health(), [report(PARTIAL, open_()), report(DEGRADED, unverified=True)], 3, "DEGRADED"),
        (health("401"), [], 3, "DEGRADED"),
        (health("401"), [report(PARTIAL, open_())], 3, "DEGRADED"),
        (health(), [report(FAILURE, unverified=True), report(DEGRADED, unverified=True)], 3, "FAILED"),
    ],
    ids=[
        "in step", "nothing there", "a break resolved", "an instrument nobody manages", "a break open",
        "a row of nobody's unreadable", "a row unreadable", "not verified", "a section failed", "3 before 1",
        "account down without instruments", "account down", "an internal error",
    ],
)  # fmt: skip
def test_the_exit_status_and_the_document_s_status_follow_the_table(
    account: AccountHealth, reports: list[CycleReport], exit_code: int, status: str
) -> None:
    assert exit_status([(account, reports)]) == exit_code
    assert document(NOW, 1.0, [(account, reports)])["status"] == status


def test_one_bad_account_decides_for_all() -> None:
    assert exit_status([(health(), [report()]), (health("401"), [])]) == 3
    assert worst([]) is Status.SUCCESS


def test_the_keys_are_exactly_those_of_the_contract() -> None:
    made: dict[str, Any] = json.loads(
        json.dumps(document(NOW, 412.0004, [(health(None, UNMANAGED), [report(PARTIAL, open_())])]))
    )
    assert list(made) == ["status", "started_at", "duration_ms", "accounts"]
    assert made["started_at"] == "2024-01-02T09:00:00.000000Z"
    assert made["duration_ms"] == 412.0
    (account,) = made["accounts"]
    assert set(account) == {
        "account", "broker", "connection", "error", "broker_calls", "discrepancies", "instruments"
    }  # fmt: skip
    (instrument,) = account["instruments"]
    assert set(instrument) == {"instrument", "status", "error", "passes", "book", "broker", "discrepancies"}
    assert instrument["book"] == {
        "legs": [{"leg": "long", "quantity": "100.5", "average_price": "191.2"}],
        "open_orders": [
            {
                "broker_order_id": "7",
                "client_order_id": "c1",
                "side": "BUY",
                "quantity": "100",
                "filled_quantity": "0",
                "status": "PENDING_SUBMIT",
            }
        ],
    }
    assert instrument["broker"] == {"positions": "COMPLETE", "orders": "COMPLETE", "fills": "COMPLETE"}
    assert instrument["discrepancies"] == [
        {
            "id": "b1",
            "type": "POSITION_MISMATCH",
            "severity": "WARNING",
            "phase": "DRIFT",
            "cause": "UNEXPLAINED",
            "key": "long",
            "book_value": "80",
            "broker_value": "100",
            "resolved": False,
            "correction": None,
        }
    ]
    assert [found["type"] for found in account["discrepancies"]] == ["UNMANAGED_INSTRUMENT"]


def test_a_strategy_is_shown_where_there_is_one() -> None:
    shown = Discrepancy(a_break(strategy="ema"), resolved=False, correction=None).to_json()
    assert shown["strategy"] == "ema"


def test_an_ended_order_and_an_empty_leg_are_not_shown() -> None:
    desk = Desk()
    desk.report(position_report(5), position_report(0), order_report("c1"), at_s=0)
    desk.report(order_report("c1", status=OrderStatus.CANCELLED), at_s=1)
    assert book_view(desk.book) == {"legs": [], "open_orders": []}


@pytest.mark.parametrize(
    ("value", "shown"),
    [("1E-7", "0.0000001"), ("1E+3", "1000"), ("-0.50", "-0.5"), ("191.200", "191.2")],
)
def test_decimals_are_plain_digits(value: str, shown: str) -> None:
    desk = Desk()
    desk.report(position_report(value, "1"), at_s=0)
    rows: Any = book_view(desk.book)["legs"]
    assert rows[0]["quantity"] == shown
    assert Decimal(rows[0]["quantity"]) == Decimal(value)


def test_sections_in_words() -> None:
    assert section_words(broker_view(slice_at(1))) == ""
    assert section_words(broker_view(slice_at(1, [], [], FAILED))) == "fills FAILED"
    assert section_words(NOTHING_KNOWN) == "positions FAILED, orders FAILED, fills FAILED"


def test_the_summary_is_one_line() -> None:
    """FEATURES 28"""
    assert summary("fx", [report(), report(PARTIAL, open_())]) == "fx: 1 of 2 in step, discrepancies: 1 (0 critical)"
    of_account = [open_(DiscrepancyType.MALFORMED_DATA)]
    assert summary("fx", [report()], of_account) == "fx: 1 of 1 in step, discrepancies: 1 (0 critical)"
