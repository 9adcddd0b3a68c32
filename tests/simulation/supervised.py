"""The real supervisor in the simulated house: what it creates and ends, and how it is brought back itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from actors.account.actor import AccountSettings
from actors.instrument.settings import InstrumentSettings
from actors.journal.client import JOURNAL_TIMEOUT_S
from actors.names import AUDIT
from actors.runtime.cell import Seats
from actors.runtime.deployment import ONLY_NODE, Carried, Deployment
from actors.runtime.nodes import Nodes
from actors.runtime.ports import CallTimeout
from supervisor.changes.applied_configuration import Run
from supervisor.config.loader import load
from supervisor.supervision.actor import Supervisor
from tests.simulation.broker import TIMEOUT_S
from tests.simulation.clocks import Process

if TYPE_CHECKING:
    from tests.simulation.house import House, Venue

UP_WITHIN_S = 300.0
ASK_EVERY_S = 1.0
UP_FOR_S = JOURNAL_TIMEOUT_S + 5.0
"""Longer than a supervisor takes to read what happened before it, where the last fault was that its journal answers as
late as it is waited for."""


class SimulatedCluster:
    """Meets :class:`actors.runtime.deployment.Cluster`: each actor in a process of its own, with its own clock."""

    at_once = 8

    def __init__(self, house: House) -> None:
        self._house = house
        self._seats = Seats()

    async def create(self, deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        """A new actor in the place of whatever bears its name."""
        house = self._house
        await house.end(deployment.name)
        await asyncio.sleep(house.faults.random.random() * 0.5)
        if house.faults.strikes("start fails", 0.05):
            raise RuntimeError("no process could be started")
        if deployment.carried is not None:
            await self._host(deployment, deployment.carried, timeout_s, may_begin)
            return
        self._make(deployment)
        if may_begin is not None:
            await may_begin.wait()
        if deployment.begin is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                begun = house.runtime.call(
                    deployment.name, deployment.begin, *deployment.begin_with, timeout_s=timeout_s
                )
                await begun
        except TimeoutError:
            raise CallTimeout(deployment.name, deployment.begin, f"not up within {timeout_s:g} s") from None

    async def _host(
        self, deployment: Deployment, carried: Carried, timeout_s: float, may_begin: asyncio.Event | None
    ) -> None:
        """In a cell, which is made for the first that it carries."""
        self._look_at_cells()
        cell = self._seats.take(deployment.name, carried.group, carried.size)
        if cell not in self._house.cells():
            self._house.cell(cell)
        if may_begin is not None:
            await may_begin.wait()
        try:
            async with asyncio.timeout(timeout_s):
                await self._house.carry(cell, deployment, timeout_s)
        except TimeoutError:
            raise CallTimeout(deployment.name, "host", f"not up within {timeout_s:g} s") from None

    def _look_at_cells(self) -> None:
        """Who sits where, as one sees who knows nothing of it."""
        self._seats = Seats()
        for cell, names in self._house.cells().items():
            self._seats.found(cell, names)

    def _make(self, deployment: Deployment) -> None:
        match deployment.args:
            case (AccountSettings() as settings, *_):
                self._house.account(settings)
            case (InstrumentSettings() as settings, *_):
                self._house.instrument(settings)
            case _:
                assert deployment.name == AUDIT
                self._house.audit()

    async def kill(self, name: str) -> None:
        """End it, if there is one."""
        await self._house.end(name)

    async def living(self) -> tuple[str, ...]:
        """Who lives."""
        if self._house.faults.strikes("cluster does not answer", 0.1):
            raise RuntimeError("the cluster does not answer")
        return self._house.names()

    async def drain(self, node: str) -> None:
        """It has one machine."""
        raise AssertionError(f"nobody drains {node}")

    async def renew(self, name: str) -> None:
        """It runs one version."""
        raise AssertionError(f"nobody renews {name}")

    async def ended(self, name: str) -> None:
        """Heard of at once, or never."""
        if self._house.faults.strikes("death not heard of", 0.2):
            await asyncio.Event().wait()
        await self._house.ended(name)

    async def nodes(self) -> Nodes:
        """One machine."""
        return Nodes((ONLY_NODE,))

    async def node_of(self, name: str) -> str | None:
        """There is but one."""
        del name
        return ONLY_NODE.name

    async def everybody_is_up(self) -> None:
        """As the supervisor says, for so long that one that replaced another has read by now whom that had put into
        quarantine. A person ends every quarantine."""
        up_for = 0
        for _ in range(int(UP_WITHIN_S / ASK_EVERY_S)):
            supervisor = self._house.supervisor
            assert supervisor is not None
            rows = (await supervisor.status())["supervisor"]["actors"]
            for row in rows:
                if row["state"] == "QUARANTINED":
                    await supervisor.restart(row["name"])
            up_for = up_for + 1 if rows and all(row["state"] == "UP" for row in rows) else 0
            if up_for * ASK_EVERY_S > UP_FOR_S:
                return
            await asyncio.sleep(ASK_EVERY_S)
        raise AssertionError(f"not everybody is up within {UP_WITHIN_S:g} s: {rows}")


def a_supervisor(house: House, process: Process) -> Supervisor:
    """A supervisor of this house, the first or the next one, by the file that it was first given."""
    path = house.directory / "accounts.yaml"
    if not path.exists():
        path.write_text(_configuration(house))
    configuration = load(path)

    def made_by_the_cluster(*_: Any, **__: Any) -> Any:
        raise AssertionError("the cluster makes it")

    run = Run("simulated", began_at=house.begin)
    return Supervisor(configuration, process, house.cluster, made_by_the_cluster, made_by_the_cluster, run)


def _configuration(house: House) -> str:
    accounts = "\n".join(_account(house, venue) for venue in house.venues.values())
    return (
        f"journal: {{url: 'sqlite:///{house.directory}/journal.db'}}\n"
        f"defaults: {{interval_s: {house.interval_s}, settle_ms: {house.settle_s * 1000}, "
        f"timeout_ms: {TIMEOUT_S * 1000:g}, unverified_s: {house.interval_s + TIMEOUT_S + 5}, "
        f"instruments_per_actor: {house.instruments_per_actor}}}\n"
        "supervision: {intensity: 5, period_s: 60, backoff_s: [0.1, 5]}\n"
        f"accounts:\n{accounts}\n"
    )


def _account(house: House, venue: Venue) -> str:
    instruments = "all" if venue.takes_all else list(venue.market.traded)
    retire = f", retire_after_s: {house.retire_after_s}" if venue.takes_all else ""
    return f"  - {{name: {venue.name}, broker: oanda, simulator: true, instruments: {instruments}{retire}}}"
