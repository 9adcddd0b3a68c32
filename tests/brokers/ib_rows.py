"""Rows of TWS as text, and what the adapter makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from brokers.clocks import BrokerTime
from brokers.ib import decode, rows, wire
from brokers.ib.contracts import Names
from brokers.ib.row_decoder import Ending, Heard
from brokers.ib.rows import Read, Scope
from brokers.ib.wire import Execution
from brokers.model import (
    Position,
    Section,
)
from brokers.simulators.ib_wire import SimContract, contract_named

D = Decimal


SCOPE = Scope("DU1", None, frozenset({"DU2"}))


LATEST = BrokerTime.fromisoformat("2026-01-06T00:00:00+00:00")


STOCK = contract_named("AAPL")


FUTURE = contract_named("ESZ6")


OPTION = contract_named("AAPL  261218C00200000")


def heard(row: Sequence[str], trouble: str | None = None, ending: Ending | None = None) -> Heard:
    return Heard(int(row[0]), tuple(row), trouble, ending)


def named(*reads: Read[wire.Holding] | Read[Execution], names: Names | None = None) -> Names:
    made = names or Names()
    made.learn(decode.contracts(*reads))
    return made


def positions_of(*lines: Sequence[str], scope: Scope = SCOPE, names: Names | None = None) -> Section[Position]:
    read = rows.holdings([heard(line) for line in lines], scope)
    return decode.positions(read, named(read, names=names))


def held(contract: SimContract, quantity: str, cost: str, account: str = "DU1") -> list[str]:
    return ["61", "3", account, *contract.fields(), quantity, cost]
