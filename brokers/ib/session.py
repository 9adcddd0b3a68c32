"""The one connection of an account; it is made anew when it has ended, is spent, or TWS has moved.

The laws of this module: every new connection is checked for the configured account. A client id in use is a mistake at
the first connection, and temporary at a later one. An error says what was found and what a person can do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import stamina
from aiolimiter import AsyncLimiter

from brokers.errors import BrokerError, Malformed, Refused, Unreachable, with_remedy
from brokers.ib.link import Declined, Link, NoAnswer, NotOpened, Obstacle, Request, foreign
from brokers.ib.row_decoder import Heard
from brokers.ib.wire import Notice
from brokers.kit.port_probe import PROBE_S, probe

PATIENCE = 3
"""The time of a whole call, in time-outs."""
_ATTEMPTS = 3
GATEWAY = "Check that TWS or IB Gateway runs there, is logged in and lets API clients in (Settings, API)"
_PORTS = "TWS listens on 7496 (paper 7497), IB Gateway on 4001 (paper 4002), unless configured otherwise"
"""IBKR API documentation, "TWS settings": the default socket ports."""
_REMEDIES = {
    Obstacle.NOBODY: f"{GATEWAY}, and that `host` and `port` are its own: {_PORTS}",
    Obstacle.SILENT: "A TWS is silent while it starts, hangs, or waits for somebody to accept the connection: look at "
    "its window, or correct `host` and `port`",
    Obstacle.CLOSED: "TWS does so with clients that it does not let in: check Settings, API (socket clients, trusted "
    "IPs), or correct `host` and `port`",
    Obstacle.FOREIGN: f"Check `host` and `port`: {_PORTS}",
    Obstacle.OLD: "Update TWS or IB Gateway",
    Obstacle.NOT_LOGGED_ON: "Check that TWS is logged in and no dialog of it waits for an answer; it is tried again by "
    "itself",
    Obstacle.BUSY: "TWS may not have noticed yet that the last connection ended; it is tried again by itself",
}
_KINDS: dict[Obstacle, type[BrokerError]] = {Obstacle.FOREIGN: Malformed, Obstacle.OLD: Refused}
_IF_IT_GOES_ON = "It is requested again by itself; if it goes on, look at TWS and restart it"


class _Busy(Exception):
    """The client id is still in use."""

    def __init__(self, error: BrokerError) -> None:
        super().__init__(str(error))
        self.error = error


class Session:
    """Provides a connection that can take requests. ``live`` is called with each row that TWS pushes, and with ``None``
    after a reconnect and when the connection has ended. ``generation`` grows with every connection; ``errors`` are
    TWS's notices on orders of this client, by order id."""

    def __init__(
        self,
        account: str,
        host: str,
        port: int,
        client_id: int,
        account_id: str,
        timeout_s: float,
        backoff_s: float,
        messages_per_s: int,
        live: Callable[[Heard | None], None],
    ) -> None:
        self.calls = 0
        self.generation = 0
        self.errors: dict[int, Notice] = {}
        self.others: frozenset[str] = frozenset()
        self._account = account
        self._host = host
        self._port = port
        self._client_id = client_id
        self._account_id = account_id
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._live = live
        self._messages_per_s = messages_per_s
        # Four ninths at once and five ninths a second: never more than the limit in any second. The wait happens here,
        # so that it does not count as TWS's; ib_async's own limiter then has nothing to hold back.
        self._limiter = AsyncLimiter(messages_per_s * 4 / 9, 0.8)
        self._link: Link | None = None
        self._moved_to: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the connection can take requests, and TWS has not lost its own."""
        return self._link is not None and self._link.alive and self._link.lost is None

    def deadline(self) -> float:
        """When a call that begins now has to end, on the clock of :func:`time.monotonic`."""
        return time.monotonic() + PATIENCE * self._timeout_s

    def in_touch(self) -> None:
        """Raise ``Unreachable`` while TWS reports that it has lost its own connection."""
        if self._link is not None and self._link.alive and self._link.lost is not None:
            raise Unreachable(
                "read the account",
                self._account,
                f"the connectivity between TWS and IB is lost (TWS said {self._link.lost})",
                "What TWS shows meanwhile may be old: the account counts as unverified until TWS says that it is back",
            )

    async def linked(self) -> Link:
        """A connection that can take requests, a new one where there is none."""
        self.in_touch()
        link = self._link if self._link is not None and self._link.alive else await self.renew()
        self.in_touch()
        return link

    async def renew(self) -> Link:
        """Replace the connection by a new one. Raises as :meth:`brokers.port.Broker.connect` does."""
        await self.close()
        try:
            async for attempt in stamina.retry_context(
                on=_Busy,
                attempts=_ATTEMPTS if self.generation else 1,
                timeout=PATIENCE * self._timeout_s,
                wait_initial=self._backoff_s,
                wait_max=self._timeout_s,
                wait_jitter=self._backoff_s,
            ):
                with attempt:
                    link = await self._open()
        except _Busy as error:
            raise error.error from None
        self._link = link
        self.others = frozenset(link.accounts) - {self._account_id}
        self.generation += 1
        if self.generation > 1:
            self._live(None)
        return link

    async def ask(self, request: Request, ends_at: float) -> list[Heard]:
        """The rows that answer a request. Raises ``NoAnswer``, ``Declined``, and what :meth:`linked` raises."""
        link = await self.linked()
        await self._limiter.acquire()
        left_s = min(self._timeout_s, ends_at - time.monotonic())
        if left_s <= 0:
            raise NoAnswer(f"{request.name}: not sent, as its time was used up")
        self.calls += 1
        try:
            return await link.ask(request, left_s)
        finally:
            self.errors.update(link.errors)

    async def asked(self, request: Request, ends_at: float) -> list[Heard] | str:
        """Like :meth:`ask`, but a failure becomes a reason in words: one list must not take the others with it."""
        try:
            return await self.ask(request, ends_at)
        except (NoAnswer, Declined) as error:
            return with_remedy(str(error), _IF_IT_GOES_ON)
        except BrokerError as error:
            return f"{request.name}: {with_remedy(error.found, error.remedy)}"

    async def cancel(self, order_id: int) -> Notice | str:
        """Like :meth:`brokers.ib.link.Link.cancel`, over the present connection."""
        link = await self.linked()
        await self._limiter.acquire()
        self.calls += 1
        return await link.cancel(order_id, self._timeout_s)

    async def close(self) -> None:
        """End the connection. May be called twice."""
        old, self._link = self._link, None
        if old is not None:
            self._moved_to = old.moved_to or self._moved_to
            await old.close()

    # -- opening ---------------------------------------------------------------------------------------------------

    async def _open(self) -> Link:
        link = Link(self._host, self._moved_to or self._port, self._client_id, self._messages_per_s, self._live)
        self.calls += 1
        why_not: NotOpened | None = None
        opened = False
        try:
            why_not = await link.open(self._timeout_s)
            if why_not is None:
                self._prove(link)
                self._follow_portfolio(link)
                opened = True
        finally:
            if not opened:
                self._moved_to = None  # the next attempt goes where the configuration says
                await link.close()
        if why_not is None:
            return link
        error = self._not_opened(await self._identified(why_not, link.port), link.port)
        raise _Busy(error) if why_not.obstacle is Obstacle.BUSY else error

    async def _identified(self, why: NotOpened, port: int) -> NotOpened:
        """The same, or that what listens there is not a TWS. A port where a TWS was met is not probed: that TWS may
        hang, and others may be using it."""
        if self.generation or why.obstacle not in (Obstacle.SILENT, Obstacle.CLOSED):
            return why
        found = await probe(self._host, port, min(self._timeout_s, PROBE_S))
        # An unknown protocol may still be a TWS that answers what it does not understand.
        return why if found.protocol is None else NotOpened(Obstacle.FOREIGN, foreign(found.words))

    def _follow_portfolio(self, link: Link) -> None:
        """Position rows come by themselves once they were requested; the portfolio's rows show changes as well."""
        self.calls += 1
        with contextlib.suppress(OSError):  # the next request notices a connection that has ended
            link.follow_portfolio(self._account_id)

    def _prove(self, link: Link) -> None:
        if self._account_id not in link.accounts:
            held = ", ".join(link.accounts) or "no account"
            raise Refused(
                f"connect to account {self._account_id}",
                self._account,
                f"the login at {self._host}:{link.port} has {held}, and {self._account_id} is configured",
                "Log TWS in to the account configured, or correct account_id or port",
            )

    def _not_opened(self, why: NotOpened, port: int) -> BrokerError:
        attempted = f"connect to TWS at {self._host}:{port} as client {self._client_id}"
        if why.obstacle is Obstacle.BUSY and not self.generation:
            remedy = f"Another program is client {self._client_id} already: give this account a client_id of its own"
            return Refused(attempted, self._account, why.found, remedy)
        kind = _KINDS.get(why.obstacle, Unreachable)
        return kind(attempted, self._account, why.found, _REMEDIES[why.obstacle])
