"""A page with a supervisor that lives: real actors with a fake broker, in real time, in a thread of its own, behind a
real server on loopback."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from actors.reconciliation.own_reports import Report
from supervisor.changes.applied_configuration import Run
from supervisor.client import run_file
from supervisor.client.run_file import RunFile
from supervisor.console.desk import Away, RunningDesk
from supervisor.console.serve import address_of, listening, server
from supervisor.console.users import Role, add
from supervisor.supervision.actor import Supervisor
from supervisor.supervision.local_door import new_door, remove
from tests.unit.hall import Hall

T = TypeVar("T")
PATIENCE_S = 60.0
PEOPLE = (("vic", Role.VIEWER), ("ann", Role.OPERATOR), ("bob", Role.APPROVER))
ACCOUNTS = """
  - name: fx
    broker: oanda
    simulator: true
    four_eyes: true
    correct: alert
    instruments: [EUR_USD, GBP_JPY]
"""


class HallWithDoor(Hall):
    """A hall whose supervisor is found by a run file and asked by its local socket, as that of `start` is."""

    def __init__(self, directory: Path) -> None:
        door = new_door()
        assert door is not None
        self.door = door
        super().__init__(directory, ACCOUNTS)
        run = RunFile("127.0.0.1:1", None, "test", os.getpid(), False, door.path, door.token.hex())
        run_file.write(self.configuration, run)

    def new_supervisor(self, run: Run = Run()) -> Supervisor:  # noqa: B008 - it is frozen
        return super().new_supervisor(replace(run, door=self.door))


class SomeDesk(RunningDesk):
    """The desk of the product; ``away`` is why the supervisor does not answer."""

    away: str | None = None

    async def look(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if self.away is not None:
            raise Away(self.away)
        return await super().look()


class LivingHouse:
    """Begins with its constructor; :meth:`close` ends it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._up = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="house", daemon=True)
        self._thread.start()
        assert self._up.wait(PATIENCE_S)
        assert self._failed is None

    async def _live(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self.hall = HallWithDoor(self._directory)
            configuration = self.hall.configuration
            await self.hall.up()
            self.tokens = {name: add(configuration.console_tokens, name, role) for name, role in PEOPLE}
            self.desk = SomeDesk(configuration)
            with listening(configuration, 0) as taken:
                self._server, _ = server(configuration, taken, self.desk)
                self.address = address_of(configuration, taken)
                self._up.set()
                await self._server.serve(sockets=[taken])
            await self.hall.supervisor.stop()
            remove(self.hall.door.path)
        except BaseException as error:
            self._failed = error
            self._up.set()
            raise

    def report(self, symbol: str, report: Report) -> None:
        """Have our side say something of an instrument."""
        asyncio.run_coroutine_threadsafe(self.hall.supervisor.record("fx", {symbol: (report,)}), self._loop).result(
            PATIENCE_S
        )

    def broker(self, work: Callable[[Any], T]) -> T:
        """Do something at the broker, between two moments of the actors."""

        async def done() -> T:
            return work(self.hall.brokers["fx"])

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(PATIENCE_S)

    def close(self) -> None:
        """End all of it."""
        self._server.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
