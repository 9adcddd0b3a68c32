"""ib_async's decoder with an ear on it makes of each row what ib_async alone does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from ib_async.decoder import Decoder
from ib_async.wrapper import Wrapper

from brokers.ib.row_decoder import Heard, Listener
from brokers.simulators import ib_wire
from brokers.simulators.ib_wire import ExecutionRow, OrderRow, contract_named
from tests.brokers.ib_rows import held

D = Decimal
Row = list[str]


class Made(Wrapper):
    """Keeps what a decoder calls, with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in {"calls", "__class__"} or name not in {"openOrder", "completedOrder", "execDetails", "position"}:
            return super().__getattribute__(name)
        return lambda *given: self.calls.append((name, *given))


def order(kind: Callable[[OrderRow, int], Row], **changes: Any) -> Row:
    values: dict[str, Any] = {"account": "DU1", "contract": contract_named("AAPL  261218C00200000"), "action": "BUY"}
    values |= {"quantity": D("2.5"), "order_type": "LMT", "limit": D("161.05"), "ref": "c1", "perm_id": 1001}
    values |= {"order_id": 7, "client_id": 17, "status": "Submitted", "filled": D(1), "average": D("161.02")}
    return kind(OrderRow(**{**values, **changes}), 178)


def with_field(row: Row, at: int, text: str) -> Row:
    return [*row[:at], text, *row[at + 1 :]]


EXECUTED = ib_wire.execution(
    ExecutionRow(
        account="DU1",
        contract=contract_named("ESZ6"),
        exec_id="e0.a1.01.01",
        time="20260105 09:30:01 US/Eastern",
        side="BOT",
        shares=D("0.5"),
        price=D("20.25"),
        perm_id=900,
        client_id=5,
        order_id=3,
        cumulative=D(10),
        average=D("20.25"),
        ref="c1",
    ),
    1,
    178,
)
OPEN, DONE = order(ib_wire.open_order), order(ib_wire.completed_order, status="Filled")
ROWS = {
    "a position": held(contract_named("ESZ6"), "-2", "315114.75"),
    "an open order": OPEN,
    "a row whose kind is no number that anybody counts to": ["9" * 5_000, "1"],
    "an open order without a number": with_field(OPEN, 15, ""),
    "an open order with a flag": with_field(OPEN, 26, "1"),
    "an open order with a bad number": with_field(OPEN, 14, "a"),
    "an open order with a bad flag": with_field(OPEN, 26, "yes"),
    "a short one": OPEN[:40],
    "a completed order": DONE,
    "a completed order without a number": with_field(DONE, 13, ""),
    "an execution": EXECUTED,
    "an execution with a bad number": with_field(EXECUTED, 19, "1x"),
}


def fields_of(calls: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [tuple(getattr(one, "__dict__", one) for one in call) for call in calls]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_it_makes_of_a_row_what_ib_async_alone_makes_of_it(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    alone, listened, heard = Made(), Made(), list[Heard]()
    with caplog.at_level(logging.CRITICAL):
        Decoder(alone, 178).interpret(list(row))  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
    listener = Listener(listened, heard.append)
    listener.serverVersion = 178
    listener.interpret(list(row))
    assert fields_of(listened.calls) == fields_of(alone.calls)
    (one,) = heard
    assert (one.fields, one.trouble is None) == (tuple(row), bool(alone.calls))
