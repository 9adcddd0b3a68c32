"""Calls the running supervisor for the pages: on behalf of the person signed in, and never on the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar

from actors.book.break_work import BreakAction, Sides
from actors.book.trading_permission import Halted
from actors.runtime.ports import CallError
from brokers.versions import program_version
from supervisor.changes.asking import Asked, Via, process_words
from supervisor.client.processes import Running, find
from supervisor.config.models import Configuration
from supervisor.errors import NotRunning

ASK_TIMEOUT_S = 3.0
T = TypeVar("T")


class Away(Exception):
    """No supervisor answers: ``found`` is what was tried, and the result."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return self.found


class Desk(Protocol):
    """What the pages need of a supervisor. Every method raises :class:`Away`, and the supervisor's own exceptions."""

    async def look(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The document of ``status --json``, and the open breaks, the most urgent first."""

    async def work_on_break(
        self,
        who: Asked,
        action: BreakAction,
        break_id: str,
        *,
        reason: str | None,
        note: str | None,
        until: datetime | None,
        owner: str | None,
        sides: Sides | None,
    ) -> dict[str, Any]:
        """Apply an action to an open break; returns its new row."""

    async def halt(self, who: Asked, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        """Stop trading in an instrument, an account or everything."""

    async def resume_trading(self, who: Asked, account: str | None, instrument: str | None) -> Halted:
        """End halts."""


def who(name: str) -> Asked:
    """A person signed in at this page, in the journal's form."""
    return Asked(f"{name}@{socket.gethostname()}", Via.PAGE.value, program_version(), process_words())


class RunningDesk:
    """The supervisor that holds a configuration's journal; it is searched again after each call without an answer."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._running: Running | None = None

    async def look(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """See :class:`Desk`, here and below."""

        def both(running: Running) -> tuple[dict[str, Any], list[dict[str, Any]]]:
            return running.status(timeout_s=ASK_TIMEOUT_S), running.breaks(timeout_s=ASK_TIMEOUT_S)

        return await self._asked(both)

    async def work_on_break(self, who: Asked, action: BreakAction, break_id: str, **terms: Any) -> dict[str, Any]:
        """Apply an action to an open break."""
        return await self._asked(lambda running: running.on_behalf_of(who).work_on_break(action, break_id, **terms))

    async def halt(self, who: Asked, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        """Stop trading."""
        return await self._asked(lambda running: running.on_behalf_of(who).halt(account, instrument, reason))

    async def resume_trading(self, who: Asked, account: str | None, instrument: str | None) -> Halted:
        """End halts."""
        return await self._asked(lambda running: running.on_behalf_of(who).resume_trading(account, instrument))

    async def _asked(self, question: Callable[[Running], T]) -> T:
        def ask() -> T:
            if self._running is None:
                self._running = find(self._configuration)
            return question(self._running)

        try:
            return await asyncio.to_thread(ask)
        except (NotRunning, CallError) as error:
            self._running = None
            raise Away(str(error)) from error
