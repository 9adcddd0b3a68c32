"""One connection to TWS or IB Gateway, through ib_async.

The laws of this module:

* Every wait is bounded. One request is under way at a time: requests of a kind share one future in ib_async, and a
  second one would leave the first waiting for ever.
* After a time-out the connection is spent: the late end of one list would end the next one early.
* Nothing is read from ib_async's own state. A list is the rows received between its request and its end, so neither a
  disconnect (after which everything looks flat) nor a row of an earlier list is taken for the broker's answer.
* While TWS reports that its own connection is lost (1100), a connection answers nothing, however alive its socket is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

from ib_async import IB, RequestError
from ib_async import Contract as IbContract

from brokers.frozen import dataclass
from brokers.ib import wire
from brokers.ib.row_decoder import Heard, Listener
from brokers.ib.wire import Notice
from brokers.kit.foreign_row import BadRow
from brokers.kit.port_probe import spoken, unreached

_LARGEST_GREETING_BYTES = 4096
_CLOSE_S = 1.0

CONNECTIVITY_LOST = frozenset({1100, 2110})
CONNECTIVITY_BACK = frozenset({1101, 1102})
PORT_MOVED = 1300
CLIENT_ID_IN_USE = 326
_DATA_FARM_NOTICES = frozenset({2103, 2104, 2105, 2106, 2107, 2108, 2119, 2157, 2158})
"""TWS API documentation, message codes. Market data says nothing about an account."""


class NoAnswer(Exception):
    """A request that was not answered to its end; the text says what came instead."""


class Ended(NoAnswer):
    """A request whose connection had ended, or ended before the answer was whole."""


class Declined(Exception):
    """A request that TWS refused in words."""


class Obstacle(Enum):
    """What prevented a connection."""

    NOBODY = auto()  # nothing accepts the connection
    SILENT = auto()  # something accepted it, and sent no greeting
    CLOSED = auto()  # something accepted it, and closed it without a whole greeting
    FOREIGN = auto()  # what answers is not a TWS
    OLD = auto()  # a TWS too old for this protocol
    NOT_LOGGED_ON = auto()  # TWS greeted us, and went no further
    BUSY = auto()  # the client id is in use


@dataclass(frozen=True, slots=True)
class NotOpened:
    """Why no connection to this port came about, and what was found instead."""

    obstacle: Obstacle
    found: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request by its name, the call that sends it, and the kinds of rows that answer it."""

    name: str
    send: Callable[[IB], Awaitable[Any]]
    kinds: frozenset[int]


POSITIONS = Request("reqPositions", lambda ib: ib.reqPositionsAsync(), frozenset({wire.POSITION}))
OPEN_ORDERS = Request(
    "reqAllOpenOrders", lambda ib: ib.reqAllOpenOrdersAsync(), frozenset({wire.OPEN_ORDER, wire.ORDER_STATUS})
)
COMPLETED_ORDERS = Request(
    "reqCompletedOrders", lambda ib: ib.reqCompletedOrdersAsync(apiOnly=False), frozenset({wire.COMPLETED_ORDER})
)
EXECUTIONS = Request("reqExecutions", lambda ib: ib.reqExecutionsAsync(), frozenset({wire.EXECUTION}))


def contract_details(con_id: int) -> Request:
    """The details of one contract."""
    return Request(
        "reqContractDetails",
        lambda ib: ib.reqContractDetailsAsync(IbContract(conId=con_id)),
        frozenset({wire.CONTRACT_DETAILS}),
    )


def contract_of_name(sec_type: str, local_symbol: str) -> Request:
    """The contracts of a type with this localSymbol."""
    return Request(
        "reqContractDetails",
        lambda ib: ib.reqContractDetailsAsync(IbContract(secType=sec_type, localSymbol=local_symbol)),
        frozenset({wire.CONTRACT_DETAILS}),
    )


def matching_symbols(pattern: str) -> Request:
    """The contracts whose symbol is like this one; one row holds all of them."""
    return Request(
        "reqMatchingSymbols", lambda ib: ib.reqMatchingSymbolsAsync(pattern), frozenset({wire.SYMBOL_SAMPLES})
    )


CURRENT_TIME = Request("reqCurrentTime", lambda ib: ib.reqCurrentTimeAsync(), frozenset({wire.TIME}))


class Link:
    """One connection from its opening to its end. ``live`` is called with each row that no request asked for, and with
    ``None`` when the connection has ended or what came over it is in doubt."""

    def __init__(
        self, host: str, port: int, client_id: int, messages_per_s: int, live: Callable[[Heard | None], None]
    ) -> None:
        self.port = port
        self.client_id = client_id
        self.lost: str | None = None
        self.moved_to: int | None = None
        self.spent = False
        self.errors: dict[int, Notice] = {}
        self._host = host
        self._live = live
        self._request: Request | None = None
        self._rows: list[Heard] = []
        self._said: deque[str] = deque(maxlen=3)
        self._greeting = b""
        self._greeted = False  # kept here, as ib_async forgets the version when the connection ends
        self._closed = False
        self._not_opened: NotOpened | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ib = self._make()
        self._client: Any = self._ib.client  # it and the wrapper have untyped methods
        self._client.MaxRequests = messages_per_s
        self._opened = False

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        return self._ib.isConnected() and not self._ended.done() and not self.spent and not self._closed

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts of the login, as TWS listed them when the connection was made."""
        return tuple(self._ib.client.getAccounts())

    async def open(self, timeout_s: float) -> NotOpened | None:
        """Log on; ``None`` when that worked. Requests no list: ib_async's default connect would, and with client id 0
        would bind orders that were placed by hand."""
        self._ib.wrapper.clientId = self.client_id
        connecting = asyncio.ensure_future(self._client.connectAsync(self._host, self.port, self.client_id, timeout=0))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({connecting, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._not_opened = self._not_opened or self._unanswered(timeout_s)
        finally:
            failure = await _outcome(connecting)
        if self._not_opened is not None:
            return self._not_opened
        if isinstance(failure, OSError) and not isinstance(failure, ConnectionResetError):
            return NotOpened(Obstacle.NOBODY, unreached(failure))
        if failure is not None and not isinstance(failure, OSError):
            return NotOpened(Obstacle.NOBODY, f"no connection came about ({_words(failure)})")
        if not self.alive:
            return self._ended_early()
        self._opened = True
        return None

    def _unanswered(self, timeout_s: float) -> NotOpened:
        if self._client.conn.transport is None:
            return NotOpened(Obstacle.NOBODY, f"nothing there took the connection within {timeout_s:g} s")
        if self._greeted:
            found = f"TWS greeted us and did not log us on: no answer within {timeout_s:g} s{self._also_said()}"
            return NotOpened(Obstacle.NOT_LOGGED_ON, found)
        found = f"something takes connections there, and no answer within {timeout_s:g} s"
        return NotOpened(Obstacle.SILENT, found)

    def _ended_early(self) -> NotOpened:
        if self._greeted:
            found = f"TWS greeted us and closed the connection before logging us on{self._also_said()}"
            return NotOpened(Obstacle.NOT_LOGGED_ON, found)
        found = "it closed the connection before logging us on"
        if self._greeting:
            return NotOpened(Obstacle.CLOSED, f"{found}, in the middle of its greeting")
        return NotOpened(Obstacle.CLOSED, f"{found}, without a word")

    async def ask(self, request: Request, timeout_s: float) -> list[Heard]:
        """The rows that answer a request, once its end was received. Raises :class:`NoAnswer` or :class:`Declined`."""
        if not self.alive:
            raise Ended(f"{request.name}: the connection has ended")
        self._request, self._rows = request, []
        self._said.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await request.send(self._ib)
        except TimeoutError:
            self.spent = True
            raise NoAnswer(f"{request.name}: no answer within {timeout_s:g} s{self._also_said()}") from None
        except RequestError as error:
            raise Declined(f"{request.name}: TWS said {error.code}: {error.message}") from None
        except OSError as error:
            self.spent = True
            raise Ended(f"{request.name}: the connection ended ({_words(error)}){self._also_said()}") from None
        except BaseException:
            self.spent = True  # given up in the middle, so its end is still to come
            raise
        finally:
            rows, self._rows, self._request = self._rows, [], None
        return rows

    def follow_portfolio(self, account_id: str) -> None:
        """Subscribe to the portfolio's rows; they come for as long as the connection lasts. Raises ``OSError``."""
        self._client.reqAccountUpdates(True, account_id)

    async def cancel(self, order_id: int, timeout_s: float) -> Notice | str:
        """Send one cancellation and wait for TWS's response: a notice about that order, or the order's status.
        Raises :class:`NoAnswer`."""
        if not self.alive:
            raise NoAnswer("cancelOrder: the connection has ended")
        response: asyncio.Future[Notice | str] = asyncio.get_running_loop().create_future()
        live = self._live

        def listen(row: Heard | None) -> None:
            answer = None if row is None else _response_on(row, order_id, self.client_id)
            if answer is not None and not response.done():
                response.set_result(answer)
            live(row)

        self._live = listen
        try:
            async with asyncio.timeout(timeout_s):
                self._client.cancelOrder(order_id)
                return await response
        except TimeoutError:
            raise NoAnswer(f"cancelOrder: TWS did not say within {timeout_s:g} s what became of it") from None
        except OSError as error:
            raise NoAnswer(f"cancelOrder: the connection ended ({_words(error)})") from None
        finally:
            self._live = live

    async def close(self) -> None:
        """End it and wait until its socket is closed. May be called twice."""
        self._closed = True
        transport = self._client.conn.transport
        wrapper: Any = self._ib.wrapper
        with contextlib.suppress(OSError, RuntimeError):
            self._client.disconnect()
        if transport is not None:
            transport.abort()  # what has not been sent by now must not be sent any more
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._gone
        wrapper.reset()

    # -- what is received ------------------------------------------------------------------------------------------

    def _make(self) -> IB:
        ib = IB()
        ib.RaiseRequestErrors = True
        # On 1102 ib_async would request a summary of the account that nobody awaits.
        ib.errorEvent -= ib._onError  # noqa: SLF001 - no public way to have it stop
        ib.client.decoder = Listener(ib.wrapper, self._receive)
        # Its log repeats our errors, and shows rows that are not for everybody. Without a level each row would be made
        # a record of, which nobody takes.
        quiet = logging.Logger("ib_async", logging.CRITICAL + 1)
        ib._logger = ib.client._logger = ib.wrapper._logger = quiet  # noqa: SLF001 - no public way to set it
        ib.client.conn.hasData += self._on_bytes
        ib.client.conn.disconnected += self._on_disconnected
        ib.client.apiError += self._on_api_error
        return ib

    def _on_bytes(self, data: bytes) -> None:
        self._greeted = self._greeted or bool(self._ib.client.serverVersion())
        if self._greeted or len(self._greeting) >= _LARGEST_GREETING_BYTES:
            return
        self._greeting += data
        length = int.from_bytes(self._greeting[:4], "big")
        # ib_async has had these bytes already: a first frame from which it took no version is not a TWS's.
        whole = len(self._greeting) >= 4 + length
        if len(self._greeting) >= 4 and (whole or length > _LARGEST_GREETING_BYTES):
            self._fail(NotOpened(Obstacle.FOREIGN, foreign(spoken(self._greeting))))

    def _on_disconnected(self, _: str) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        if not self._ended.done():
            self._ended.set_result(None)
            if self._opened and not self._closed:
                self._live(None)

    def _on_api_error(self, text: str) -> None:
        if "version must be" in text:
            self._fail(NotOpened(Obstacle.OLD, text))

    def _fail(self, why: NotOpened) -> None:
        self._not_opened = self._not_opened or why
        if not self._ended.done():
            self._ended.set_result(None)

    def _receive(self, row: Heard) -> None:
        if row.kind == wire.NOTICE and row.trouble is None:
            self._note(row)
        if self._answers(row):
            self._rows.append(row)
        elif self._ib.isConnected() and not self._closed:
            self._live(row)

    def _answers(self, row: Heard) -> bool:
        request = self._request
        if request is None or row.kind == wire.NOTICE:
            return False
        if row.kind == wire.EXECUTION and len(row.fields) > 1 and row.fields[1] == "-1":
            return False  # one that has just happened
        # A row of an unknown kind may be one of those requested; beside the time, which is no list, it was pushed.
        unknown = row.kind == 0 and row.trouble is not None
        return row.kind in request.kinds or (unknown and request is not CURRENT_TIME)

    def _note(self, row: Heard) -> None:
        try:
            notice = wire.notice(row.fields)
        except BadRow:
            return
        text = f"{notice.code}: {notice.text}"
        if notice.code in CONNECTIVITY_LOST:
            self.lost = text
        elif notice.code in CONNECTIVITY_BACK:
            self.lost = None
        elif notice.code == PORT_MOVED:
            self.moved_to = _port_in(notice.text)
        elif notice.code == CLIENT_ID_IN_USE:
            self._fail(NotOpened(Obstacle.BUSY, f"TWS said {text}"))
        elif notice.request_id > 0:
            self.errors[notice.request_id] = notice
        if notice.code not in _DATA_FARM_NOTICES:
            self._said.append(text)

    def _also_said(self) -> str:
        return "; TWS said " + "; ".join(self._said) if self._said else ""


def foreign(does: str) -> str:
    """What answers where a TWS was expected, in words; ``does`` is what it was seen to do."""
    return f"something that is no TWS answers there: {does}"


async def _outcome(task: asyncio.Future[Any]) -> BaseException | None:
    """How a task ended; one still running is cancelled. ``None`` for success or our own cancellation."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    return None if task.cancelled() else task.exception()


def _response_on(row: Heard, order_id: int, client_id: int) -> Notice | str | None:
    """What a row reports of one order of ours."""
    try:
        if row.kind == wire.NOTICE:
            notice = wire.notice(row.fields)
            return notice if notice.request_id == order_id else None
        if row.kind == wire.ORDER_STATUS:
            state = wire.order_state(row.fields)
            return state.status if (state.order_id, state.client_id) == (order_id, client_id) else None
    except BadRow:
        return None
    return None


def _port_in(text: str) -> int | None:
    """The new port of a notice 1300, which stands at its end."""
    found = re.search(r"([0-9]{1,5})\D*$", text)
    port = int(found.group(1)) if found else 0
    return port if 0 < port < 65_536 else None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
