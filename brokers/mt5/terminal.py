"""A MetaTrader 5 terminal through its own Python package, as the rows of our gateway's protocol.

The package talks to one terminal on the same machine and is not thread-safe: one thread calls it here. It returns
``None`` and sets ``last_error`` where something failed; an empty tuple with an error set is a failure too.

All times are the trade server's, as the package returns them. The lead of its clock over ours is measured by ticks that
arrive while we watch, never by a tick that was there before: that one may be of last Friday.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Json = dict[str, Any]
DAY_S = 86_400
_STEP_S = 900
_FINE = 1
"""RES_S_OK of the package's ``last_error``."""
WATCHED_SYMBOLS = 20


MetaTrader = Any
"""The package MetaTrader5, which has no types. These functions are used: initialize, shutdown, last_error,
terminal_info, account_info, positions_get, orders_get, history_orders_get, history_deals_get, symbols_get,
symbol_info_tick."""


class TerminalError(Exception):
    """The terminal did not answer; the text says why."""


class Terminal:
    """One terminal. ``login`` holds the package's own parameters of ``initialize``; ``clock`` returns epoch seconds."""

    def __init__(self, package: MetaTrader, login: Json, clock: Callable[[], float]) -> None:
        self._package = package
        self._login = login
        self._clock = clock
        self._up = False
        self._offset_s: int | None = None
        self._ticks: dict[str, int] = {}
        self._symbols: list[str] = []

    # -- the connection --------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the terminal, starting it where it does not run. Raises :class:`TerminalError`."""
        path = (self._login["path"],) if "path" in self._login else ()
        rest = {key: value for key, value in self._login.items() if key != "path"}
        self._up = bool(self._package.initialize(*path, **rest))
        if not self._up:
            raise self._failed("initialize")

    def close(self) -> None:
        """Disconnect from the terminal, which keeps running."""
        self._up = False
        self._package.shutdown()

    @property
    def connected(self) -> bool:
        """Whether the terminal is connected to its broker. Raises :class:`TerminalError` where it is away itself."""
        if not self._up:
            self.connect()
        info = self._package.terminal_info()
        if info is None:
            self._up = False
            raise self._failed("terminal_info")
        return bool(info.connected)

    def _failed(self, call: str) -> TerminalError:
        code, words = self._package.last_error()
        return TerminalError(f"{call}: last_error {code} {words}")

    def _rows(self, call: str, *args: int) -> tuple[Any, ...]:
        rows = getattr(self._package, call)(*args)
        if rows is None or (len(rows) == 0 and self._package.last_error()[0] != _FINE):
            raise self._failed(call)
        return tuple(rows)

    # -- the actions -----------------------------------------------------------------------------------------------

    def positions(self) -> list[Json]:
        """The open positions, with their identifiers."""
        return [_row(row) for row in self._rows("positions_get")]

    def orders(self) -> list[Json]:
        """Working orders, and those that ended within the last day. One that ended in between is listed once."""
        working = self._rows("orders_get")
        ended = self._rows("history_orders_get", self.now_s() - DAY_S, self.now_s() + DAY_S)
        rows = {row.ticket: row for row in (*working, *ended)}
        return [_row(row) for row in rows.values()]

    def order(self, ticket: object) -> list[Json]:
        """The order of that ticket, however long ago it ended; none where the whole history has no such order. MQL5
        documentation, HistorySelect: history is selected by a period, so that of a day lacks what was placed before."""
        known = [row for row in self.orders() if str(row["ticket"]) == str(ticket)]
        if known:
            return known
        ended = self._rows("history_orders_get", 0, self.now_s() + DAY_S)
        return [_row(row) for row in ended if str(row.ticket) == str(ticket)]

    def deals(self, since: int) -> list[Json]:
        """The deals from that second of the server on."""
        rows = self._rows("history_deals_get", since, max(since, self.now_s()) + DAY_S)
        return [_row(row) for row in rows if row.time >= since]

    def account(self) -> Json:
        """The account: its login, how it keeps positions, and the margin in use."""
        info = self._package.account_info()
        if info is None:
            raise self._failed("account_info")
        keys = ("login", "server", "margin_mode", "margin", "currency", "trade_allowed")
        values = {key: getattr(info, key, None) for key in keys}
        return {key: value for key, value in values.items() if value is not None} | self.time()

    def symbols(self) -> list[str]:
        """Every symbol that the broker has, by its own name."""
        return [row.name for row in self._rows("symbols_get")]

    # -- its time --------------------------------------------------------------------------------------------------

    def time(self) -> Json:
        """The server's time; empty until the first tick arrives."""
        return {} if self._offset_s is None else {"time": self.now_s()}

    def now_s(self) -> int:
        """The server's present second; ours until it is known."""
        return int(self._clock()) + (self._offset_s or 0)

    def watch_ticks(self, symbols: Iterable[str]) -> None:
        """Measure the offset by a tick that is newer than the one seen last time."""
        for symbol in [*symbols, *self._symbols][:WATCHED_SYMBOLS]:
            tick = self._package.symbol_info_tick(symbol)
            if tick is None or not tick.time:
                continue
            before = self._ticks.get(symbol)
            self._ticks[symbol] = tick.time
            if before is not None and tick.time > before:
                self._offset_s = round((tick.time - self._clock()) / _STEP_S) * _STEP_S

    def watch_market(self) -> None:
        """Use the symbols of the market watch for the measurement."""
        rows: Sequence[Any] = self._package.symbols_get() or ()
        self._symbols = [row.name for row in rows if getattr(row, "select", True)][:WATCHED_SYMBOLS]


def _row(row: Any) -> Json:
    """A named tuple of the package; its numbers are MetaTrader's own."""
    return dict(row._asdict())
