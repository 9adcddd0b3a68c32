"""What needs a person first, and both sides beside each other: as every place shows it."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.presentation.attention import Need, account_attention, attention
from supervisor.presentation.sides import legs, orders

OPEN = {
    "type": "NAKED_POSITION", "key": "long", "severity": "WARNING", "state": "OPEN", "book_value": "1",
    "broker_value": None, "correction": None, "age_s": 5,
}  # fmt: skip


def row(**changed: Any) -> dict[str, Any]:
    health = {"state": "UP", "paused": False, "halted": [], "verified_at": "x", "last_cycle_at": "x"}
    usual: dict[str, Any] = {
        "status": "SUCCESS", "error": None, "health": health | changed.pop("health", {}), "discrepancies": [],
        "book": {"legs": [], "open_orders": []},
        "broker": {"positions": "COMPLETE", "orders": "COMPLETE", "fills": "COMPLETE"},
    }  # fmt: skip
    return usual | changed


@pytest.mark.parametrize(
    ("found", "breaks", "need"),
    [
        (row(), [], Need.NOTHING),
        (row(), [OPEN], Need.LOOK),
        (row(), [OPEN | {"severity": "CRITICAL"}], Need.ACT),
        (row(), [OPEN | {"correction": "force_close_position"}], Need.ACT),
        (row(), [OPEN | {"state": "PROPOSED"}], Need.ACT),
        (row(), [OPEN | {"severity": "CRITICAL", "state": "ACKNOWLEDGED"}], Need.TAKEN),
        (row(), [OPEN | {"severity": "CRITICAL", "state": "APPROVED"}], Need.TAKEN),
        (row(), [OPEN | {"severity": "CRITICAL", "state": "WAIVED"}, OPEN | {"severity": "CRITICAL"}], Need.ACT),
        (row(health={"state": "QUARANTINED"}), [], Need.ACT),
        (row(health={"state": "RESTARTING"}), [], Need.LOOK),
        (row(status="DEGRADED", error="not verified for 90 s"), [], Need.LOOK),
        (row(status="FAILED"), [OPEN | {"state": "ACKNOWLEDGED"}], Need.LOOK),
        (row(health={"halted": [{"scope": "fx"}]}), [], Need.LOOK),
        (row(health={"halted": None}), [], Need.NOTHING),
        (row(health={"paused": True}), [], Need.LOOK),
    ],
)
def test_how_much_a_person_is_needed(found: dict[str, Any], breaks: list[dict[str, Any]], need: Need) -> None:
    said = attention(found, breaks)
    assert said.need is need
    assert bool(said.why) is (need is not Need.NOTHING)


def test_an_account_that_cannot_be_reached_is_looked_at_and_a_critical_break_of_its_own_is_acted_on() -> None:
    away = {"error": "401", "connection": "LOST"}
    assert account_attention(away, []).need is Need.LOOK
    assert account_attention(away, [OPEN | {"severity": "CRITICAL"}]).need is Need.ACT
    assert account_attention(away | {"error": None}, []).need is Need.NOTHING


def found(key: str, phase: str, **changed: Any) -> dict[str, Any]:
    usual = {"key": key, "phase": phase, "type": "POSITION_MISMATCH", "resolved": False, "book_value": "80",
             "broker_value": "100"}  # fmt: skip
    return usual | changed


GONE = found("long", "GHOST", broker_value=None)
OVER = found("long", "DRIFT", resolved=True)
HELD = {"legs": [{"leg": "long", "quantity": "80", "average_price": "1.10"}], "open_orders": []}


@pytest.mark.parametrize(
    ("given", "sides"),
    [
        (row(), [("everything", "flat", "the same", True)]),
        (row(book=HELD), [("long", "80 @ 1.1", "the same", True)]),
        (row(book=HELD, status="FAILED"), [("long", "80 @ 1.1", "not known", None)]),
        (row(book=HELD, broker={"positions": "PARTIAL"}), [("long", "80 @ 1.1", "not known", None)]),
        (row(book=HELD, broker={"positions": "UNSUPPORTED"}), [("long", "80 @ 1.1", "not compared", None)]),
        (row(book=HELD, broker={}), [("long", "80 @ 1.1", "not known", None)]),
        (row(health={"verified_at": None}), [("everything", "not known", "not known", None)]),
        (row(book=HELD, discrepancies=[found("long", "DRIFT")]), [("long", "80 @ 1.1", "100", False)]),
        (row(book=HELD, discrepancies=[GONE]), [("long", "80 @ 1.1", "nothing", False)]),
        (row(discrepancies=[found("short", "RECOVERY", book_value=None)]), [("short", "nothing", "100", False)]),
        (row(book=HELD, discrepancies=[OVER]), [("long", "80 @ 1.1", "the same", True)]),
        (
            row(book=HELD, discrepancies=[found("long", "DRIFT", type="PRICE_MISMATCH", broker_value="1.20")]),
            [("long", "80 @ 1.1", "the same quantity @ 1.2", False)],
        ),
    ],
)  # fmt: skip
def test_legs_beside_each_other(given: dict[str, Any], sides: list[tuple[str, str, str, bool | None]]) -> None:
    assert [(one.name, one.book, one.broker, one.agrees) for one in legs(given)] == sides


def test_orders_beside_each_other_by_either_of_their_names() -> None:
    order = {"broker_order_id": "17", "client_order_id": "c1", "side": "BUY", "quantity": "5", "filled_quantity": "2",
             "status": "WORKING"}  # fmt: skip
    book = {"legs": [], "open_orders": [order, order | {"broker_order_id": None, "client_order_id": "c2"}]}
    differing = [
        found("c2", "ORDERS", broker_value="CANCELLED"),
        found("99", "ORDERS", book_value=None, broker_value="WORKING"),
    ]
    rows = [
        (side.name, side.book, side.broker, side.agrees) for _, side in orders(row(book=book, discrepancies=differing))
    ]
    assert rows == [
        ("17", "BUY 5 WORKING, filled 2", "the same", True),
        ("c2", "BUY 5 WORKING, filled 2", "CANCELLED", False),
        ("99", "nothing", "WORKING", False),
    ]
