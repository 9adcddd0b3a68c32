"""Which name an IB contract goes by. Pure, except for its memory.

The laws of this module:

* A name means one contract, for as long as this memory lives: once assigned it stays, whatever appears later. A book's
  name means the contract of the book, by its conId: tickers change, and come to mean another company.
* A contract whose conId, localSymbol or symbol is configured goes by exactly that name.
* Where several contracts have an equal claim to a name, none gets it. If the name is not configured, each goes by its
  conId; if it is, its rows cannot be distinguished and the name is unknown, never flat.
* Where several configured names may mean one contract, it gets none of them: all of them are unknown, never flat.
* Every name that a left-out contract may have is unknown as well.
* A combination is named by its legs and their ratios: TWS assigns all of them one conId, and one localSymbol a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from brokers.errors import with_remedy
from brokers.ib.wire import BAG, Contract
from brokers.model import ContractFacts

STOCK = "STK"
_FUTURES = frozenset({"FUT", "FOP"})
_WITH_HUNDREDTHS = frozenset({"GBP", "ZAR", "ILS"})
_COMBINATIONS_KEPT = 5_000
_ON_A_STOCK = frozenset({"OPT", "FOP", "WAR", "IOPT", "BOND"})


class Names:
    """The names of one account's contracts.

    ``configured`` are the instruments of the configuration. ``sec_types`` are the security types in scope, ``None`` for
    all. Where stocks are out of scope, a symbol can mean another kind of contract, such as a future by its root.
    """

    def __init__(self, configured: Iterable[str] = (), sec_types: Iterable[str] | None = None) -> None:
        self._configured = frozenset(configured)
        self._sec_types = None if sec_types is None else tuple(sec_types)
        self._stocks = self._sec_types is None or STOCK in self._sec_types
        self._known: dict[int, Contract] = {}
        self._given: dict[int, str] = {}
        self._unclear: dict[int, str] = {}
        self._doubles: dict[int, tuple[str, ...]] = {}
        self._taken: frozenset[str] = frozenset()
        self._order_keys: dict[tuple[int, int], str] = {}
        self._combinations: dict[str, Contract] = {}
        self.pinned: dict[str, str] = {}
        self.magnifiers: dict[int, Decimal] = {}
        self.unsaid: set[int] = set()

    def pin(self, identities: Mapping[str, str]) -> None:
        """Assign these names to the books' conIds. Contracts named otherwise are named anew."""
        changed = {name: con_id for name, con_id in identities.items() if self.pinned.get(name) != con_id}
        if not changed:
            return
        self.pinned |= changed
        pinned = {int(con_id): name for name, con_id in self.pinned.items() if con_id.isdecimal()}
        names = frozenset(pinned.values())
        kept = {c: name for c, name in self._given.items() if name not in names and c not in pinned}
        self._given = kept | pinned
        self._taken = frozenset(self._given.values())
        known, self._known = self._known, {}
        self.learn(known.values())

    def learn_combination(self, order_key: str, contract: Contract) -> None:
        """Keep the combination that an order is for. The rows of its executions do not carry its legs."""
        known = self._combinations.get(order_key)
        if known is None or contract.legs:
            self._combinations[order_key] = contract
        while len(self._combinations) > _COMBINATIONS_KEPT:
            del self._combinations[next(iter(self._combinations))]

    def learn_order(self, client_id: int, order_id: int, order_key: str) -> None:
        """Keep the broker_order_id for a client's order id: an attached order names its parent by that id alone."""
        if order_id:
            self._order_keys[client_id, order_id] = order_key
        while len(self._order_keys) > _COMBINATIONS_KEPT:
            del self._order_keys[next(iter(self._order_keys))]

    def order_key_of(self, client_id: int, order_id: int) -> str | None:
        """The broker_order_id of an order, by its client's ids; ``None`` where it was not seen."""
        return self._order_keys.get((client_id, order_id))

    def combination_of(self, order_key: str) -> Contract | None:
        """The combination that an order is for; ``None`` for an order for one contract."""
        return self._combinations.get(order_key)

    def may_be_looked_after(self, name: str) -> bool:
        """Whether a name is configured, or no names are configured and all are in scope."""
        return not self._configured or name in self._configured

    def unmagnified(self, contracts: Iterable[Contract]) -> list[Contract]:
        """The contracts whose price unit has yet to be requested, each once."""
        found = {c.con_id: c for c in contracts if _may_be_in_cents(c) and c.con_id not in self.magnifiers}
        return list(found.values())

    def worth(self, contract: Contract) -> Decimal | None:
        """The value of one unit, in the contract's currency, at a price of 1; ``None`` where its price unit was
        requested and TWS has not answered."""
        if contract.con_id in self.unsaid:
            return None
        return contract.multiplier / self.magnifiers.get(contract.con_id, Decimal(1))

    def facts(self, contract: Contract) -> ContractFacts:
        """What TWS reports of a contract itself."""
        is_bag = contract.sec_type == BAG
        return ContractFacts(
            identity=None if is_bag else str(contract.con_id),
            kind=contract.sec_type,
            expiry=contract.expiry,
            right=contract.right,
            strike=contract.strike,
            underlying=contract.symbol if contract.sec_type in _ON_A_STOCK else None,
            multiplier=self.worth(contract) or contract.multiplier,
            currency=contract.currency,
            held=not is_bag,
        )

    def learn(self, contracts: Iterable[Contract]) -> None:
        """Name all of these together, so that their order makes no difference."""
        contracts = list(contracts)
        self._name_afresh(contracts)
        for contract in contracts:
            name = self._given.get(contract.con_id)
            if name in self.pinned and contract.con_id not in self._unclear:
                self._second_names(contract, name or "")

    def _second_names(self, contract: Contract, name: str) -> None:
        """Mark a book's contract that is also configured under another name, which has a book of its own then."""
        names = (str(contract.con_id), contract.local_symbol, contract.symbol if contract.sec_type == STOCK else "")
        doubles = tuple(n for n in dict.fromkeys(names) if n in self._configured and n != name)
        if doubles and name in self._configured:
            self._doubles[contract.con_id] = doubles
            self._settle(name, [contract], taken=False)

    def _name_afresh(self, contracts: list[Contract]) -> None:
        fresh = {c.con_id: c for c in contracts if c.sec_type != BAG and c.con_id not in self._given}
        if not fresh.keys() - self._known.keys():
            return
        self._known |= fresh
        self._unclear.clear()
        self._doubles.clear()
        claims: dict[str, list[Contract]] = {}
        for contract in self._known.values():
            if contract.con_id not in self._given:
                claims.setdefault(self._wish(contract), []).append(contract)
        for contract in fresh.values():
            doubles = tuple(n for n in self._configured_as(contract) if n not in claims and n not in self._taken)
            if doubles:
                self._doubles[contract.con_id] = doubles
        for name, claimants in claims.items():
            self._settle(name, claimants, taken=name in self._taken)
        self._taken = frozenset(self._given.values())

    def name(self, contract: Contract) -> str:
        """Its name; for an unclear contract the name that it may have."""
        if contract.sec_type == BAG:
            if contract.local_symbol in self._configured:
                return contract.local_symbol
            legs = "".join(f"{leg.ratio:+d}x{leg.con_id}" for leg in contract.legs)
            return f"{contract.symbol} {BAG} {legs}".rstrip()
        return self._given.get(contract.con_id) or self._wish(contract)

    def names(self, contract: Contract) -> tuple[str, ...]:
        """Its name; for an unclear contract every name that it may have."""
        return (self.name(contract), *self._doubles.get(contract.con_id, ()))

    def claimed(self, contract: Contract) -> tuple[str, ...]:
        """Every name that a left-out contract may have. A stock has the first claim to its symbol; other types cannot
        claim a name that a contract in scope has."""
        if contract.sec_type == BAG:
            return (self.name(contract),)
        names = [str(contract.con_id)]
        if contract.sec_type == STOCK:
            names += [contract.symbol, contract.local_symbol]
        else:
            by_root = contract.symbol in self._configured and contract.sec_type not in _ON_A_STOCK
            wished = [contract.local_symbol, contract.symbol if by_root else ""]
            names += [name for name in wished if name not in self._taken]
        return tuple(dict.fromkeys(name for name in names if name))

    def left_out(self, contract: Contract, name: str, what: str) -> str:
        """Why a name that is :meth:`claimed` is unknown, where there is ``what`` of its contract; and what to do."""
        kind, shown = contract.sec_type, f"{contract.con_id} ({contract.sec_type} {_short(contract)})"
        listed = ", ".join(self._sec_types or ())
        remedy = f"Add {kind} to `sec_types`, or take {name} from the instruments"
        if name in self._taken and self._given.get(contract.con_id) != name:
            remedy = f"Configure the contract that is meant by its conId, or add {kind} to `sec_types`"
        return with_remedy(f"{shown} is left out by `sec_types` [{listed}], though there is {what} of it", remedy)

    def unclear(self, contract: Contract) -> str | None:
        """Why the contract may not be the one that its name means; ``None`` where it is clear."""
        return self._unclear.get(contract.con_id)

    def _settle(self, name: str, claimants: list[Contract], *, taken: bool) -> None:
        for contract in claimants:
            configured = name in self._configured
            shown = ", ".join(f"{c.con_id} ({c.sec_type} {_short(c)})" for c in claimants)
            if contract.con_id in self._doubles:
                both = " and ".join((name, *self._doubles[contract.con_id]))
                self._unclear[contract.con_id] = (
                    f"{both} are configured and may be one contract, {contract.con_id} ({contract.sec_type} "
                    f"{_short(contract)}); keep the name that has the book and take the other from the instruments, "
                    "or configure each of several contracts by its conId alone"
                )
            elif taken or (len(claimants) > 1 and not configured):
                self._given[contract.con_id] = str(contract.con_id)
            elif len(claimants) > 1:
                self._unclear[contract.con_id] = f"several contracts are called {name}: {shown}; configure their conIds"
            elif self._by_root(contract, name) and self._stocks:
                self._unclear[contract.con_id] = (
                    f"{name} is configured and may mean a stock or {shown}; configure its conId or localSymbol, or "
                    f"leave {STOCK} out of sec_types"
                )
            else:
                self._given[contract.con_id] = name

    def _configured_as(self, contract: Contract) -> list[str]:
        """The configured names that may mean it, except the one it would get."""
        by_symbol = contract.sec_type == STOCK or not self._stocks
        names = (str(contract.con_id), contract.local_symbol, contract.symbol if by_symbol else "")
        wish = self._wish(contract)
        return [name for name in dict.fromkeys(names) if name in self._configured and name != wish]

    def _wish(self, contract: Contract) -> str:
        for name in (str(contract.con_id), contract.local_symbol):
            if name in self._configured:
                return name
        if contract.symbol and (contract.sec_type == STOCK or self._is_meant(contract)):
            return contract.symbol
        return contract.local_symbol or str(contract.con_id)

    def _is_meant(self, contract: Contract) -> bool:
        """Whether a configured symbol can mean this contract, which is not a stock. An option's symbol is that of its
        stock, and means the stock to a user who trades stocks."""
        if contract.symbol not in self._configured:
            return False
        if not self._stocks:
            return True
        held_stock = any(c.sec_type == STOCK and c.symbol == contract.symbol for c in self._known.values())
        return contract.sec_type not in _ON_A_STOCK and not held_stock

    @staticmethod
    def _by_root(contract: Contract, name: str) -> bool:
        return contract.sec_type != STOCK and name == contract.symbol != contract.local_symbol


def _may_be_in_cents(contract: Contract) -> bool:
    """Grains are quoted in cents; shares in London, Johannesburg and Tel Aviv in hundredths of their currency."""
    return contract.sec_type in _FUTURES or contract.currency in _WITH_HUNDREDTHS


def _short(contract: Contract) -> str:
    return contract.local_symbol or contract.symbol
