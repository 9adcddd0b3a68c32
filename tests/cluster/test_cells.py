"""Instruments that share a process on a real cluster: each found, restarted and ended alone, and all with theirs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from actors.events import EventType
from actors.journal.store import Journal
from actors.names import cell_account
from actors.runtime import ray_backend, ray_client
from supervisor.client import processes
from supervisor.client.processes import Running
from supervisor.config.loader import load
from tests.cluster.conftest import CONFIGURATION, actors, all_verified, instruments, until

NAMESPACE = "test"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Running]:
    """The supervisor of the other tests, with all instruments of an account in one process."""
    path = tmp_path / "accounts.yaml"
    text = CONFIGURATION.format(directory=tmp_path)
    path.write_text(text.replace("interval_s: 1,", "interval_s: 1, instruments_per_actor: 20,"))
    with processes.started(load(path), detach=False, on_step=lambda _: None) as running:
        yield running


def _cells() -> set[str]:
    named = [row["name"] for row in ray.util.list_named_actors(True) if row["namespace"] == NAMESPACE]
    return {name for name in named if cell_account(name)}


def _starts(name: str, directory: Path) -> int:
    """How often an actor was started, by the journal."""
    journal = Journal.open(f"sqlite:///{directory}/journal.db", read_only=True)
    try:
        records = journal.records(stream="supervisor", types=[EventType.ACTOR_STARTED])
        return sum(record.event.payload["actor"] == name for record in records)
    finally:
        journal.close()


async def _reaches_whoever_has_taken_the_place(shared: Running, account: str) -> None:
    """What a cell does for those it carries: calls that travel together are sent again to a new incarnation."""
    cell = ray_backend.RayRuntime(NAMESPACE)
    [(well, _)] = await cell.call_many(account, "health", [()], 10)
    assert well
    os.kill(actors(shared.status())[account]["pid"], signal.SIGKILL)
    await asyncio.to_thread(until, shared, lambda s: actors(s)[account]["restarts"] == 1, "it is restarted")
    assert [well for well, _ in await cell.call_many(account, "health", [(), ()], 10)] == [True, True]


def test_those_of_one_account_share_a_process_and_each_is_found_restarted_and_brought_back(
    shared: Running, tmp_path: Path
) -> None:
    status = until(shared, all_verified, "everything comes up")
    rows = instruments(status)
    assert set(rows) == {"fx/GBP_JPY", "fx/EUR_USD", "cfd/EURUSD"}
    assert _cells() == {"fx~1", "cfd~1"}
    pid = rows["fx/GBP_JPY"]["health"]["pid"]
    assert rows["fx/EUR_USD"]["health"]["pid"] == pid != rows["cfd/EURUSD"]["health"]["pid"]

    asyncio.run(_reaches_whoever_has_taken_the_place(shared, "fx"))
    status = until(shared, all_verified, "the account is back")

    strategy = ray_client.Client(NAMESPACE)
    assert strategy.call("fx/EUR_USD", "trading_allowed", timeout_s=10).account == "fx"

    cycles = rows["fx/GBP_JPY"]["health"]["cycles"]
    before = _starts("fx/EUR_USD", tmp_path)
    assert shared.restart("fx/EUR_USD")
    until(shared, lambda _: _starts("fx/EUR_USD", tmp_path) > before, "the one restarts")
    status = until(
        shared,
        lambda s: all_verified(s) and instruments(s)["fx/EUR_USD"]["health"]["cycles"] > 0,
        "the one is in step again",
    )
    assert instruments(status)["fx/GBP_JPY"]["health"]["cycles"] >= cycles, "and its neighbour goes on"
    assert instruments(status)["fx/EUR_USD"]["health"]["pid"] == pid

    os.kill(pid, signal.SIGKILL)
    status = until(
        shared,
        lambda s: all_verified(s) and all(actors(s)[f"fx/{one}"]["restarts"] == 1 for one in ("GBP_JPY", "EUR_USD")),
        "all that it carried come back",
    )
    assert instruments(status)["fx/GBP_JPY"]["health"]["pid"] not in (None, pid)
    assert actors(status)["cfd/EURUSD"]["restarts"] == 0
    assert strategy.call("fx/EUR_USD", "trading_allowed", timeout_s=10).account == "fx", "found where it is now"

    os.kill(shared.pid(), signal.SIGKILL)
    again = until(shared, all_verified, "a supervisor that was killed finds them in their cells")
    assert instruments(again)["fx/GBP_JPY"]["health"]["pid"] == instruments(status)["fx/GBP_JPY"]["health"]["pid"]

    os.kill(instruments(again)["cfd/EURUSD"]["health"]["pid"], signal.SIGSTOP)
    until(shared, lambda s: actors(s)["cfd/EURUSD"]["restarts"] == 1 and all_verified(s), "a hung cell is replaced")
