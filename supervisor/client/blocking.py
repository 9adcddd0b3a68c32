"""``supervisor.connect()``: a running supervisor as an object, for a strategy or a notebook.

Every method blocks until it is done, in a plain script and in a notebook whose thread runs an event loop; ``.aio`` has
the same methods to be awaited. :mod:`supervisor.client.aio` and :mod:`supervisor.client.instrument` hold the code of
both, and document each method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Unpack

from actors.book.trading_permission import Obstacle, Permission
from actors.events import EventType, Severity
from brokers.model import Side
from supervisor.client.aio import AsyncHandle
from supervisor.client.answers import Check, FeatureReport, Halts, Recorded, Status, TradingAllowed, Verdict
from supervisor.client.books import Book, Order, Positions
from supervisor.client.breaks import BlockingBreaks
from supervisor.client.calls import run_blocking
from supervisor.client.changes import BlockingChanges
from supervisor.client.connection import Connection
from supervisor.client.events import EventStream
from supervisor.client.features import PositionFeatures
from supervisor.client.instrument import (
    PERMISSION_TIMEOUT_S,
    AsyncInstrument,
    AsyncVenue,
    Exact,
    FillFields,
    Named,
    OrderFields,
    PositionFields,
    Trade,
)
from supervisor.client.records import Recent, Records, live_filter
from supervisor.client.reports import FillReport, OrderReport, PositionReport
from supervisor.client.supervisor_client import VERDICT_TIMEOUT_S
from supervisor.presentation.json_contract import halted_scopes

if TYPE_CHECKING:
    from supervisor.supervision.draining import Drained

_REPR_TIMEOUT_S = 0.5


class Handle(BlockingChanges):
    """A running supervisor. Its answers print as tables and have ``to_dict()``, ``to_pandas()``, ``to_polars()``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._work: AsyncHandle = AsyncHandle(connection, lambda: connection.blocking)
        self.aio = AsyncHandle(connection, lambda: connection.awaiting)
        self.breaks = BlockingBreaks(lambda: connection.blocking, connection.place.strategy)

    def __repr__(self) -> str:
        place = self._connection.place
        state = "closed" if self._connection.closed else f"connected{self._halts()}"
        return f"<supervisor in namespace {place.namespace} at {place.cluster.gcs}, {state}>"

    def _halts(self) -> str:
        """The halts in force, for :func:`repr`, which never raises and hardly waits."""
        try:
            halted = halted_scopes(run_blocking(self._work.status_now(timeout_s=_REPR_TIMEOUT_S)))
        except Exception:  # noqa: BLE001 - whatever the error: repr must not raise
            return ", which does not answer"
        return f", trading halted: {', '.join(halted)}" if halted else ""

    def __reduce__(self) -> tuple[type[Handle], tuple[Connection]]:
        """In another process it connects anew."""
        return Handle, (self._connection,)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connection; the supervisor goes on. May be called twice. The last handle of a process leaves the
        Ray cluster, unless the program itself had joined it."""
        self._connection.close()

    def instrument(self, account: str, symbol: str) -> Instrument:
        """See :meth:`AsyncHandle.instrument`."""
        return Instrument(run_blocking(self._work.named(account, symbol)), self._connection)

    def venue(self, account: str) -> Venue:
        """See :meth:`AsyncHandle.venue`."""
        return Venue(run_blocking(self._work.venue(account)), AsyncVenue(account, lambda: self._connection.awaiting))

    def status(self) -> Status:
        """See :meth:`AsyncHandle.status`."""
        return run_blocking(self._work.status())

    def reconcile(self, account: str | None = None, instrument: str | None = None) -> Verdict:
        """See :meth:`AsyncHandle.reconcile`."""
        return run_blocking(self._work.reconcile(account, instrument))

    def detect_drift(self, account: str | None = None, instrument: str | None = None) -> Verdict:
        """See :meth:`AsyncHandle.detect_drift`."""
        return run_blocking(self._work.detect_drift(account, instrument))

    def audit(
        self,
        account: str | None = None,
        instrument: str | None = None,
        *,
        types: Collection[EventType | str] | None = None,
        severity: Severity | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order_id: str | int | None = None,
        fill_id: str | int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> Records:
        """See :meth:`AsyncHandle.audit`."""
        return run_blocking(
            self._work.audit(
                account,
                instrument,
                types=types,
                severity=severity,
                since=since,
                until=until,
                order_id=order_id,
                fill_id=fill_id,
                limit=limit,
                newest_first=newest_first,
            )
        )

    def events(
        self,
        types: Collection[EventType | str] | None = None,
        *,
        account: str | None = None,
        instrument: str | None = None,
        severity: Severity | str | None = None,
        after_seq: int | None = None,
        idle_s: float | None = None,
    ) -> EventStream:
        """Every record from this call on, or after ``after_seq``, as it is written, for a ``for`` loop. With ``idle_s``
        it ends when no matching record came for so long."""
        wanted = live_filter(types, severity, account, instrument)
        return EventStream(lambda: self._connection.blocking, wanted, after_seq, idle_s)

    def halt(self, account: str | None = None, instrument: str | None = None, *, reason: str | None = None) -> Halts:
        """See :meth:`AsyncHandle.halt`."""
        return run_blocking(self._work.halt(account, instrument, reason=reason))

    def resume_trading(self, account: str | None = None, instrument: str | None = None) -> Halts:
        """See :meth:`AsyncHandle.resume_trading`."""
        return run_blocking(self._work.resume_trading(account, instrument))

    def pause(self, account: str | None = None, instrument: str | None = None) -> tuple[str, ...]:
        """See :meth:`AsyncHandle.pause`."""
        return run_blocking(self._work.pause(account, instrument))

    def resume(self, account: str | None = None, instrument: str | None = None) -> Halts:
        """See :meth:`AsyncHandle.resume`."""
        return run_blocking(self._work.resume(account, instrument))

    def drain(self, node: str, *, force: bool = False) -> Drained:
        """See :meth:`AsyncHandle.drain`."""
        return run_blocking(self._work.drain(node, force=force))

    def restart(self, name: str) -> bool:
        """See :meth:`AsyncHandle.restart`."""
        return run_blocking(self._work.restart(name))

    def stop(self) -> None:
        """See :meth:`AsyncHandle.stop`."""
        run_blocking(self._work.stop())


class Instrument:
    """One instrument of one account: report to it, query it. ``aio`` has the same methods to be awaited."""

    def __init__(self, named: Named, connection: Connection) -> None:
        self._named, self._connection = named, connection
        self._work = AsyncInstrument(named, connection, lambda: connection.blocking)
        self.aio = AsyncInstrument(named, connection, lambda: connection.awaiting)

    def __repr__(self) -> str:
        return f"<{self._named.name}{self._halts()}>"

    def _halts(self) -> str:
        """Which halts apply to it, as a handle's."""
        try:
            self._connection.check_open()
            asked = self._connection.blocking.call(self._named.name, "trading_allowed", timeout_s=_REPR_TIMEOUT_S)
            permission: Permission = run_blocking(asked)
        except Exception:  # noqa: BLE001 - as above
            return ", which does not answer"
        return "".join(f", {one.text}" for one in permission.reasons if one.obstacle is Obstacle.HALTED)

    def __reduce__(self) -> tuple[type[Instrument], tuple[Named, Connection]]:
        """As for a handle."""
        return Instrument, (self._named, self._connection)

    def record_order(self, report: OrderReport | None = None, /, **fields: Unpack[OrderFields]) -> Recorded:
        """An order that we sent, or its new state: an :class:`OrderReport`, or its fields as keywords: client_order_id,
        broker_order_id, side, quantity, status, and order_type, limit_price, submitted_at, leg, strategy.

        See :meth:`AsyncInstrument.record_order`."""
        return run_blocking(self._work.record_order(report, **fields))

    def record_fill(self, report: FillReport | None = None, /, **fields: Unpack[FillFields]) -> Recorded:
        """An execution that was reported to us: a :class:`FillReport`, or its fields as keywords: fill_id, side,
        quantity, price, time, and broker_order_id, client_order_id, leg, strategy.

        See :meth:`AsyncInstrument.record_fill`."""
        return run_blocking(self._work.record_fill(report, **fields))

    def record_position(self, report: PositionReport | None = None, /, **fields: Unpack[PositionFields]) -> Recorded:
        """The position that we believe to hold in a leg from now on: a :class:`PositionReport`, or its fields as
        keywords: quantity, average_price, and leg, strategy.

        See :meth:`AsyncInstrument.record_position`."""
        return run_blocking(self._work.record_position(report, **fields))

    def post_trade(self, trade: Trade, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """See :meth:`AsyncInstrument.post_trade`."""
        return run_blocking(self._work.post_trade(trade, timeout_s=timeout_s))

    def check(self, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """See :meth:`AsyncInstrument.check`."""
        return run_blocking(self._work.check(timeout_s=timeout_s))

    def reconcile(self, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """See :meth:`AsyncInstrument.reconcile`."""
        return run_blocking(self._work.reconcile(timeout_s=timeout_s))

    def detect_drift(self, *, timeout_s: float = VERDICT_TIMEOUT_S) -> Check:
        """See :meth:`AsyncInstrument.detect_drift`."""
        return run_blocking(self._work.detect_drift(timeout_s=timeout_s))

    def book(self) -> Book:
        """See :meth:`AsyncInstrument.book`."""
        return run_blocking(self._work.book())

    def positions_by_ticket(self) -> Positions:
        """See :meth:`AsyncInstrument.positions_by_ticket`."""
        return run_blocking(self._work.positions_by_ticket())

    def order_by_ticket(self, ticket: str | int) -> Order | None:
        """See :meth:`AsyncInstrument.order_by_ticket`."""
        return run_blocking(self._work.order_by_ticket(ticket))

    def recent(self, newest: int | None = None) -> Recent:
        """See :meth:`AsyncInstrument.recent`."""
        return run_blocking(self._work.recent(newest))

    def validate_features(
        self, features: PositionFeatures | Mapping[str, object], *, mark_price: Exact | float | None = None
    ) -> FeatureReport:
        """See :meth:`AsyncInstrument.validate_features`."""
        return run_blocking(self._work.validate_features(features, mark_price=mark_price))

    def trading_allowed(
        self, *, max_age_s: float | None = None, timeout_s: float = PERMISSION_TIMEOUT_S
    ) -> TradingAllowed:
        """See :meth:`AsyncInstrument.trading_allowed`."""
        return run_blocking(self._work.trading_allowed(max_age_s=max_age_s, timeout_s=timeout_s))


class Venue:
    """The venue of a paper account. ``aio`` has the same methods to be awaited."""

    def __init__(self, work: AsyncVenue, aio: AsyncVenue) -> None:
        self._work = work
        self.aio = aio

    def __repr__(self) -> str:
        return repr(self._work)

    def submit(
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
        """See :meth:`AsyncVenue.submit`."""
        return run_blocking(
            self._work.submit(
                symbol,
                client_order_id,
                side,
                quantity,
                order_type,
                limit_price=limit_price,
                stop_price=stop_price,
                expires_at=expires_at,
            )
        )

    def cancel(self, broker_order_id: str) -> bool:
        """See :meth:`AsyncVenue.cancel`."""
        return run_blocking(self._work.cancel(broker_order_id))

    def feed(self, symbol: str, bid: Exact, ask: Exact) -> None:
        """See :meth:`AsyncVenue.feed`."""
        run_blocking(self._work.feed(symbol, bid, ask))

    def prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """See :meth:`AsyncVenue.prices`."""
        return run_blocking(self._work.prices())
