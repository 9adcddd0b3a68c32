"""A page with a supervisor that lives: real actors with a fake broker, in real time, in a thread of its own, behind a
real server on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from actors.book.break_work import BreakAction, BreakRequest
from actors.book.trading_permission import Halted
from actors.reconciliation.own_reports import Report
from supervisor.changes.asking import Asked
from supervisor.console.desk import Away
from supervisor.console.serve import address_of, listening, server
from supervisor.console.users import Role, add
from tests.unit.test_supervisor import Hall

T = TypeVar("T")
PEOPLE = (("vic", Role.VIEWER), ("ann", Role.OPERATOR), ("bob", Role.APPROVER))
ACCOUNTS = """
  - name: fx
    broker: oanda
    simulator: true
    four_eyes: true
    correct: alert
    instruments: [EUR_USD, GBP_JPY]
"""


class HallDesk:
    """Asks the supervisor of a hall. ``away`` is why it does not answer."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self.away: str | None = None

    async def look(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if self.away is not None:
            raise Away(self.away)
        return await self._hall.supervisor.status(), await self._hall.supervisor.breaks()

    async def work_on_break(self, who: Asked, action: BreakAction, break_id: str, **terms: Any) -> dict[str, Any]:
        request = BreakRequest(action, who.by, via=who.via, program=who.program, **terms)
        return await self._hall.supervisor.work_on_break(break_id, request)

    async def halt(self, who: Asked, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        return await self._hall.supervisor.halt(account, instrument, reason, who)

    async def resume_trading(self, who: Asked, account: str | None, instrument: str | None) -> Halted:
        return await self._hall.supervisor.resume_trading(account, instrument, who)


class LivingHouse:
    """Begins with its constructor; :meth:`close` ends it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._up = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="house", daemon=True)
        self._thread.start()
        assert self._up.wait(30)
        assert self._failed is None

    async def _live(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self.hall = Hall(self._directory, ACCOUNTS)
            configuration = self.hall.configuration
            await self.hall.up()
            self.tokens = {name: add(configuration.console_tokens, name, role) for name, role in PEOPLE}
            self.desk = HallDesk(self.hall)
            with listening(configuration, 0) as taken:
                self._server, _ = server(configuration, taken, self.desk)
                self.address = address_of(configuration, taken)
                self._up.set()
                await self._server.serve(sockets=[taken])
            await self.hall.supervisor.stop()
        except BaseException as error:
            self._failed = error
            self._up.set()
            raise

    def report(self, symbol: str, report: Report) -> None:
        """Have our side say something of an instrument."""
        asyncio.run_coroutine_threadsafe(self.hall.supervisor.record("fx", {symbol: (report,)}), self._loop).result(5)

    def broker(self, work: Callable[[Any], T]) -> T:
        """Do something at the broker, between two moments of the actors."""

        async def done() -> T:
            return work(self.hall.brokers["fx"])

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(5)

    def close(self) -> None:
        """End all of it."""
        self._server.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
