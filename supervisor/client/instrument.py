"""One instrument, and a paper account's venue, for asyncio: the code of both forms of the handle.

The laws of this module: a report goes directly to its instrument's actor and is durable when the call returns, or an
error asks to report the same again; a restarted actor is found again by its name; while it cannot be asked, trading is
not allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NoReturn, TypedDict, TypeVar, Unpack

from pydantic import TypeAdapter, ValidationError

from actors.book.trading_permission import Obstacle, Permission, Reason
from actors.book.view import BookState
from actors.events import Json
from actors.journal.client import JournalAway
from actors.reconciliation.own_reports import FillReport as OurFill
from actors.reconciliation.own_reports import Report
from actors.runtime.ports import CallError
from brokers.frozen import dataclass
from brokers.model import LegScheme, OrderStatus, Side
from supervisor.changes.asking import asked, said_of, sender_keys
from supervisor.client import arguments
from supervisor.client.answers import Check, FeatureReport, Recorded, TradingAllowed
from supervisor.client.arguments import count, identity, seconds, word
from supervisor.client.books import Book, Order, Positions
from supervisor.client.calls import Port, call_with_retry
from supervisor.client.connection import Connection
from supervisor.client.features import PositionFeatures, validate
from supervisor.client.records import Recent
from supervisor.client.reports import (
    AnyReport,
    FillReport,
    Finite,
    OrderReport,
    PositionReport,
    Positive,
    Unfit,
    described,
    fitted,
)
from supervisor.client.supervisor_client import VERDICT_TIMEOUT_S, SupervisorClient
from supervisor.errors import InvalidReport, NotAnswered, NotRecorded

Trade = Literal["buy", "sell", "close"]
Exact = Decimal | int | str
"""An exact number: a Decimal, a whole number, or digits as text. A float is refused."""
Model = TypeVar("Model", OrderReport, FillReport, PositionReport)

TIMEOUT_S = 15.0
"""How long to wait for an actor that is restarting."""
PERMISSION_TIMEOUT_S = 2.0
_WHY_TIMEOUT_S = 0.5


class OrderFields(TypedDict, total=False):
    """The keywords of ``record_order``: the fields of :class:`OrderReport`."""

    client_order_id: str | int | None
    broker_order_id: str | int | None
    side: Side | Literal["BUY", "SELL"]
    quantity: Exact
    order_type: str
    limit_price: Exact | None
    status: OrderStatus | str
    submitted_at: datetime | str | None
    instrument: str | None
    leg: str | None
    strategy: str | None


class FillFields(TypedDict, total=False):
    """The keywords of ``record_fill``: the fields of :class:`FillReport`."""

    fill_id: str | int
    broker_order_id: str | int | None
    client_order_id: str | int | None
    side: Side | Literal["BUY", "SELL"]
    quantity: Exact
    price: Exact
    time: datetime | str
    instrument: str | None
    leg: str | None
    strategy: str | None


class PositionFields(TypedDict, total=False):
    """The keywords of ``record_position``: the fields of :class:`PositionReport`."""

    quantity: Exact
    average_price: Exact
    instrument: str | None
    leg: str | None
    strategy: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """An instrument that was looked up: its account, symbol, actor, and the scheme of its legs."""

    account: str
    symbol: str
    name: str
    legs: LegScheme


class AsyncInstrument:
    """One instrument of one account: report to it, query it."""

    def __init__(self, named: Named, connection: Connection, port: Callable[[], Port]) -> None:
        self._named = named
        self._connection = connection
        self._port = port

    def __repr__(self) -> str:
        return f"<{self._named.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("send the instrument of sup.instrument() to another process, and use its .aio there")

    # Reporting

    async def record_order(self, report: OrderReport | None = None, /, **fields: Unpack[OrderFields]) -> Recorded:
        """An order that we sent, or its new state: an :class:`OrderReport`, or its fields as keywords.

        Durable on return. Its client_order_id and broker_order_id identify it: a repeated report changes nothing.
        Raises :class:`InvalidReport` and :class:`NotRecorded`.
        """
        return await self._record("order", _model(OrderReport, report, dict(fields)))

    async def record_fill(self, report: FillReport | None = None, /, **fields: Unpack[FillFields]) -> Recorded:
        """An execution that was reported to us: a :class:`FillReport`, or its fields as keywords.

        Durable on return, and counted once by its fill_id; a different fill under an id that was reported before raises
        :class:`InvalidReport`, and so does one dated in the future. Raises as :meth:`record_order`.
        """
        return await self._record("fill", _model(FillReport, report, dict(fields)))

    async def record_position(
        self, report: PositionReport | None = None, /, **fields: Unpack[PositionFields]
    ) -> Recorded:
        """The position that we believe to hold in a leg from now on: a :class:`PositionReport`, or its fields.

        Durable on return. Raises as :meth:`record_order`.
        """
        return await self._record("position", _model(PositionReport, report, dict(fields)))

    async def post_trade(self, trade: Trade, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """An unscheduled check right after a trade; its events name the trade. Raises :class:`NotAnswered`."""
        if trade not in ("buy", "sell", "close"):
            raise ValueError(f"trade: found {trade!r}, expected buy, sell or close")
        return Check(await self._ask("post_trade", trade, self._asked(), timeout_s=timeout_s))

    # Queries

    async def check(self, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """One throttled check: before the interval has passed it does nothing and returns the last result again, marked
        as ``throttled``; with an interval of 0 a check is always due. Raises :class:`NotAnswered`."""
        return Check(await self._ask("check", self._asked(), timeout_s=timeout_s))

    async def reconcile(self, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """An unscheduled verdict, in as many passes as its proof needs. Raises :class:`NotAnswered`."""
        return Check(await self._ask("reconcile_now", self._asked(), timeout_s=timeout_s))

    async def detect_drift(self, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """Find every difference and change nothing. Raises :class:`NotAnswered`."""
        return Check(await self._ask("detect_drift", timeout_s=timeout_s), dry_run=True)

    async def book(self) -> Book:
        """The present book: legs with their lots, open orders, open breaks. Raises :class:`NotAnswered`."""
        return Book(await self._state())

    async def positions_by_ticket(self) -> Positions:
        """The positions by leg: by ticket where the account is hedging. Raises :class:`NotAnswered`."""
        return Positions(await self._state())

    async def order_by_ticket(self, ticket: str | int) -> Order | None:
        """The order with this broker_order_id, also if it ended within the last two days; ``None`` where the book has
        none. Raises :class:`NotAnswered`."""
        order = await self._ask("order_by_ticket", identity("ticket", ticket))
        return None if order is None else Order(order)

    async def recent(self, newest: int | None = None) -> Recent:
        """The newest entries of this instrument that its actor has in memory (at most 1,000), oldest first. Raises
        :class:`NotAnswered`."""
        wanted = None if newest is None else count("newest", newest)
        return Recent(self._named.name, await self._ask("recent", wanted))

    async def validate_features(
        self, features: PositionFeatures | Mapping[str, object], *, mark_price: Exact | float | None = None
    ) -> FeatureReport:
        """Compare a model's position features (as such, or a mapping by name) with the verified book. ``mark_price``
        replaces theirs. See :mod:`supervisor.client.features`. Raises ``TypeError`` and ``ValueError`` for invalid
        features, and :class:`NotAnswered`."""
        given = arguments.features(features, mark_price)
        return FeatureReport(validate(given, await self._state()))

    async def trading_allowed(
        self, *, max_age_s: float | None = None, timeout_s: float = PERMISSION_TIMEOUT_S
    ) -> TradingAllowed:
        """Whether trading is allowed: true or false, with the reasons.

        With ``max_age_s``, this process's last answer is reused if it was requested no longer ago than that. An actor
        that does not answer is a reason against trading, never an error; an argument that is not a number of seconds, 0
        or more, is an error.
        """
        if max_age_s is not None:
            seconds("max_age_s", max_age_s)
        seconds("timeout_s", timeout_s)
        connection, name = self._connection, self._named.name
        port = self._port()
        asked_s = port.monotonic_s()
        if max_age_s is not None:
            known = connection.permissions.get(name)
            if known is not None and asked_s - known[0] <= max_age_s:
                return TradingAllowed(known[1])
        try:
            permission: Permission = await port.call(name, "trading_allowed", timeout_s=timeout_s)
        except CallError as error:
            permission = await self._nobody(error)
        connection.permissions[name] = (asked_s, permission)
        return TradingAllowed(permission)

    async def _nobody(self, error: CallError) -> Permission:
        """The instrument's actor does not answer: the supervisor may know why."""
        reason = Reason(Obstacle.NO_ANSWER, str(error))
        try:
            word, text = await SupervisorClient(self._port).actor_state(self._named.name, timeout_s=_WHY_TIMEOUT_S)
        except Exception:  # noqa: BLE001, S110 - the reason that was found already stands
            pass
        else:
            obstacle = Obstacle.QUARANTINED if word == "QUARANTINED" else Obstacle.NO_ANSWER
            if word != "UP":
                reason = Reason(obstacle, text)
        return Permission(self._named.account, self._named.symbol, (reason,), datetime.now(UTC), None)

    def _asked(self) -> dict[str, Json]:
        """The keys that name the requester in the records of a check."""
        return said_of(asked(self._connection.place.strategy))

    async def _state(self) -> BookState:
        state: BookState = await self._ask("book")
        return state

    async def _ask(self, method: str, *args: object, timeout_s: float = TIMEOUT_S) -> Any:
        seconds("timeout_s", timeout_s)
        try:
            return await call_with_retry(self._port(), self._named.name, method, *args, timeout_s=timeout_s)
        except (CallError, JournalAway) as error:
            raise NotAnswered(f"{self._named.name}: {method} got no answer: {error}") from None

    async def _record(self, kind: str, given: AnyReport) -> Recorded:
        named = self._named
        if given.instrument not in (None, named.symbol):
            raise InvalidReport(
                f"{named.name}: this {kind} names instrument {given.instrument!r}: record it with "
                f"sup.instrument({named.account!r}, {given.instrument!r}), or leave the instrument out"
            )
        try:
            report = fitted(given, named.symbol, named.legs)
        except Unfit as unfit:
            raise InvalidReport(f"{named.name}: {kind}: {unfit}") from None
        strategy = self._connection.place.strategy
        if report.strategy is None and strategy is not None:
            report = replace(report, strategy=strategy)
        key, by = _key(report), sender_keys(asked())
        try:
            new = await call_with_retry(self._port(), named.name, "record", (report,), by, timeout_s=TIMEOUT_S)
        except ValueError as error:
            raise InvalidReport(str(error)) from None
        except (CallError, JournalAway) as error:
            raise NotRecorded(
                f"{named.name}: {kind} {key} may or may not be recorded: {error}. Report the same again: what is "
                "already recorded counts once"
            ) from None
        warning = await self._of_no_order(report) if new and isinstance(report, OurFill) else None
        return Recorded(named.account, named.symbol, kind, key, bool(new), warning)

    async def _of_no_order(self, report: OurFill) -> str | None:
        """A warning that a fill names an order the book does not have; ``None`` where it has it, or that is unknown."""
        try:
            found = await self._port().call(self._named.name, "of_no_order", (report,), timeout_s=_WHY_TIMEOUT_S)
        except (CallError, JournalAway):
            return None
        return next(iter(found), None)


class AsyncVenue:
    """The venue of a paper account: takes orders and prices. Every other account refuses; nothing is ever sent to a
    real broker."""

    def __init__(self, account: str, port: Callable[[], Port]) -> None:
        self._account = account
        self._port = port

    def __repr__(self) -> str:
        return f"<venue of account {self._account}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("send the handle of supervisor.connect() to another process, and call its .venue() there")

    async def submit(
        self,
        symbol: str,
        client_order_id: str,
        side: Side | Literal["BUY", "SELL"],
        quantity: Exact,
        order_type: str = "MARKET",
        *,
        limit_price: Exact | None = None,
        stop_price: Exact | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """Submit an order; returns its broker_order_id. A repeated order is still one order. Raises
        ``brokers.errors.Refused`` for one that the venue does not accept, and :class:`NotAnswered`."""
        return str(
            await self._ask(
                "venue_submit",
                identity("symbol", symbol),
                identity("client_order_id", client_order_id),
                word(Side, "side", side),
                _exact(Positive, "quantity", quantity),
                order_type,
                None if limit_price is None else _exact(Finite, "limit_price", limit_price),
                None if stop_price is None else _exact(Finite, "stop_price", stop_price),
                expires_at,
            )
        )

    async def cancel(self, broker_order_id: str) -> bool:
        """Cancel an order; returns whether it is cancelled now. Raises as :meth:`submit`."""
        return bool(await self._ask("venue_cancel", identity("broker_order_id", broker_order_id)))

    async def feed(self, symbol: str, bid: Exact, ask: Exact) -> None:
        """Set the price from now on; orders that it makes executable are executed before this returns. Raises as
        :meth:`submit`."""
        await self._ask(
            "venue_feed", identity("symbol", symbol), _exact(Finite, "bid", bid), _exact(Finite, "ask", ask)
        )

    async def prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """The last (bid, ask) of each symbol. Raises as :meth:`submit`."""
        return dict(await self._ask("venue_prices"))

    async def _ask(self, method: str, *args: object) -> Any:
        try:
            return await call_with_retry(self._port(), self._account, method, *args, timeout_s=TIMEOUT_S)
        except CallError as error:
            raise NotAnswered(f"{self._account}: {method} got no answer: {error}") from None


def _model(model: type[Model], given: Model | None, fields: dict[str, Any]) -> Model:
    """The report, from a model or from its fields. Raises :class:`InvalidReport`."""
    if given is not None:
        if not isinstance(given, model) or fields:
            also = f" and {', '.join(fields)}" if fields else ""
            raise InvalidReport(f"found a {type(given).__name__}{also}, expected one {model.__name__} or its fields")
        return given
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(str(described(one, model)) for one in error.errors())
        raise InvalidReport(f"{model.__name__}: {problems}") from None


def _exact(kind: Any, key: str, value: object) -> Decimal:
    try:
        number: Decimal = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        what = error.errors()[0].get("ctx", {}).get("expected", "a number")
        raise InvalidReport(f"{key}: found {value!r}, expected {what}") from None
    return number


def _key(report: Report) -> str:
    """The id by which a person knows a report."""
    for name in ("fill_id", "client_order_id", "broker_order_id", "leg"):
        found = getattr(report, name, None)
        if found is not None:
            return str(found)
    return "?"
