"""A supervisor with its actors in one process, as the tests of supervision run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from actors.delta.sink_actor import SinkActor
from actors.events import EventType
from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.journal.store import Journal
from actors.runtime.cell import Cell
from actors.runtime.deployment import ONLY_NODE, LocalCluster
from actors.runtime.nodes import Node
from actors.runtime.ports import LocalRuntime
from brokers.spec import BrokerSpec
from brokers.versions import PROGRAM
from supervisor.changes.applied_configuration import Run
from supervisor.config.loader import load
from supervisor.supervision.actor import SUPERVISOR, Supervisor
from tests.unit.fakes import Clock, FakeBroker, in_this_thread

TWO_ACCOUNTS = """
  - {name: fx, broker: oanda, simulator: true, instruments: [EUR_USD, GBP_JPY]}
  - {name: cfd, broker: mt5, simulator: true, instruments: [EURUSD]}
"""
ALL_OF_FX = "[{name: fx, broker: oanda, simulator: true, instruments: all}]"
EVERYBODY = {"audit", "fx", "cfd", "fx/EUR_USD", "fx/GBP_JPY", "cfd/EURUSD"}
Status = dict[str, Any]


PER_ACTOR = {"now": "1"}


class Hall:
    """A supervisor on the local cluster, and a fake broker for each account. ``program`` is what it runs."""

    program = PROGRAM

    def __init__(
        self,
        directory: Path,
        accounts: str,
        make_sink: Callable[..., SinkActor] = SinkActor,
        nodes: tuple[Node, ...] = (ONLY_NODE,),
        sections: str = "",
    ) -> None:
        self.make_sink = make_sink
        self.has_room_for_audit = True
        path = directory / "accounts.yaml"
        path.write_text(
            f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
            "defaults: {interval_s: 1, settle_ms: 0, confirm_gap_ms: 100, timeout_ms: 1000, "
            f"instruments_per_actor: {PER_ACTOR['now']}}}\n"
            "supervision: {intensity: 3, period_s: 60, backoff_s: [0.1, 1]}\n"
            f"{sections}accounts: {accounts}"
        )
        self.configuration = load(path)
        self.clock = Clock()
        self.brokers = {account.name: FakeBroker(self.clock) for account in self.configuration.accounts}
        self.runtime = LocalRuntime(self.clock, asyncio.get_running_loop().time, lambda: 0.5)
        self.cluster = LocalCluster(self.runtime, nodes)
        self.supervisor = self.new_supervisor()

    def new_supervisor(self, run: Run = Run()) -> Supervisor:  # noqa: B008 - it is frozen
        def make_broker(spec: BrokerSpec, **_: object) -> FakeBroker:
            return self.brokers[spec.account]

        def make_audit(url: str, head_file: str | None, evidence: EvidenceSettings) -> Audit:
            if not self.has_room_for_audit:
                raise RuntimeError("no room for another process")
            return Audit(url, head_file, evidence, run_blocking=in_this_thread)

        to_make = (make_broker, make_audit, run, self.make_sink, self.program)
        made = Supervisor(self.configuration, self.runtime, self.cluster, *to_make)
        self.runtime.register(SUPERVISOR, made)
        self.supervisor = made
        return made

    async def until(self, holds: Callable[[Status], bool], what: str) -> Status:
        for _ in range(1_000):
            status = await self.supervisor.status()
            if holds(status):
                return status
            await asyncio.sleep(0.1)
        raise AssertionError(f"{what}: {status}")

    async def up(self) -> Status:
        return await self.until(lambda s: s["status"] == "SUCCESS", "everything is in step")

    def actor(self, name: str) -> Any:
        carrier = next((one for one in self.carriers() if one.carries(name)), self.runtime)
        return carrier.actor(name)

    def carriers(self) -> list[Cell]:
        actors = (self.runtime.actor(one) for one in self.runtime.names())
        return [one for one in actors if isinstance(one, Cell)]

    def lives(self, name: str) -> bool:
        return name in self.runtime.names() or any(one.carries(name) for one in self.carriers())

    def events(self, *kinds: EventType) -> list[tuple[str, Any]]:
        journal = Journal.open(self.configuration.journal_url, read_only=True)
        try:
            assert journal.verify().ok
            return [(r.event.type, r.event.payload.get("actor")) for r in journal.records() if r.event.type in kinds]
        finally:
            journal.close()


@asynccontextmanager
async def a_hall(directory: Path, accounts: str = TWO_ACCOUNTS, **made_of: Any) -> AsyncIterator[Hall]:
    hall = Hall(directory, accounts, **made_of)
    try:
        yield hall
    finally:
        await hall.supervisor.stop()


def states(status: Status) -> dict[str, str]:
    return {row["name"]: row["state"] for row in status["supervisor"]["actors"]}


def restarts(status: Status, name: str) -> int:
    return next(int(row["restarts"]) for row in status["supervisor"]["actors"] if row["name"] == name)


def rows(status: Status) -> dict[str, Any]:
    return {f"{a['account']}/{i['instrument']}": i for a in status["accounts"] for i in a["instruments"]}


def verdicts(status: Status) -> dict[str, str]:
    return {name: row["status"] for name, row in rows(status).items()}
