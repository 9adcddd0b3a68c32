"""What two readings of an account show of changes that no trade explains. Pure.

TWS does not report an exercise, an assignment or a replacement of a contract: the next morning the positions differ.
What the readings show becomes evidence, and the rest stays unexplained. They show an option that is gone while its
underlying changed by exactly its number of shares, at its strike; and a contract that is gone while another one of the
same name is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from brokers.ib.contracts import STOCK, Names
from brokers.ib.wire import Contract, Execution, Holding
from brokers.model import NET, Evidence, Reason
from brokers.port import Remembered

_COST_TOLERANCE = Decimal("0.002")
"""A fraction of the cost at the strike: TWS's average cost includes commissions and fees."""


def settled(
    before: Iterable[Holding], now: Iterable[Holding], executed: Iterable[Execution], names: Names
) -> list[Evidence]:
    """EXERCISE or ASSIGNMENT of options that are gone between two readings, for the option and for its underlying.
    ``executed`` are the executions in between: an option or an underlying that was traded is not judged."""
    traded = {one.contract.con_id for one in executed}
    held = {fact.contract.con_id: fact for fact in now}
    found: list[Evidence] = []
    old = list(before)
    gone_too = {f.contract.con_id: replace(f, quantity=Decimal(0), average_cost=Decimal(0)) for f in old}
    for option in old:
        contract = option.contract
        gone = contract.con_id not in held or not held[contract.con_id].quantity
        if not gone or not option.quantity or contract.strike is None or contract.con_id in traded:
            continue
        sign = 1 if contract.right == "C" else -1
        shares = option.quantity * contract.multiplier * sign
        for stock in (gone_too | held).values():
            if stock.contract.sec_type != STOCK or stock.contract.symbol != contract.symbol:
                continue
            was = next((fact for fact in old if fact.contract.con_id == stock.contract.con_id), None)
            if stock.contract.con_id not in traded and _came_at(was, stock, shares, contract.strike):
                found += _both(option, stock, shares, names)
    return found


def held_by_books(books: Mapping[str, Remembered]) -> list[Holding]:
    """What the books of an earlier process hold, as TWS reported it then; it stands in for the reading before the
    first. A book whose contract TWS never described is left out."""
    found: list[Holding] = []
    for name, book in books.items():
        facts, held = book.contract, book.legs.get(NET)
        if facts is None or facts.identity is None or not facts.identity.isdecimal() or facts.kind is None:
            continue
        symbol = facts.underlying or name
        contract = Contract(int(facts.identity), symbol, facts.kind, facts.multiplier, name)
        contract = replace(contract, strike=facts.strike, right=facts.right, expiry=facts.expiry)
        quantity, average = held if held is not None else (Decimal(0), Decimal(0))
        found.append(Holding("", contract, quantity, average * facts.multiplier))
    return found


def _came_at(was: Holding | None, now: Holding, shares: Decimal, strike: Decimal) -> bool:
    """Whether exactly these shares came or went; those that came must have cost the strike."""
    had = was.quantity if was is not None else Decimal(0)
    if now.quantity - had != shares:
        return False
    if had and (had > 0) != (shares > 0):
        return True  # a sale leaves the average cost as it is
    paid = now.quantity * now.average_cost - (had * was.average_cost if was is not None else 0)
    return abs(paid - shares * strike) <= _COST_TOLERANCE * abs(shares * strike)


def _both(option: Holding, stock: Holding, shares: Decimal, names: Names) -> list[Evidence]:
    reason = Reason.EXERCISE if option.quantity > 0 else Reason.ASSIGNMENT
    one, other = names.name(option.contract), names.name(stock.contract)
    strike = option.contract.strike
    text = f"{option.quantity:f} of {one} are gone and {shares:+f} {other} have come at the strike {strike:f}"
    return [
        Evidence(reason, one, NET, -option.quantity, text, linked=(other,)),
        Evidence(reason, other, NET, shares, text, price=strike, linked=(one,)),
    ]


def replaced(pinned: Mapping[str, str], now: Iterable[Holding], names: Names) -> list[Evidence]:
    """REPLACED_BY, for each instrument whose book's contract is not held while another contract of the same name is.
    ``pinned`` maps an instrument to the conId of its book."""
    held = {str(fact.contract.con_id): fact for fact in now if fact.quantity}
    found: list[Evidence] = []
    for name, identity in pinned.items():
        if identity in held:
            continue
        for con_id, fact in held.items():
            contract = fact.contract
            if name in (contract.symbol if contract.sec_type == STOCK else "", contract.local_symbol):
                text = f"contract {identity} is not held any more, and {con_id}, which is called {name} too, is"
                new = names.name(contract)
                found.append(Evidence(Reason.REPLACED_BY, name, NET, None, text, linked=(new,), became=fact.quantity))
    return found
