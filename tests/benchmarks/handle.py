"""What the handle costs beside a bare call of a Ray actor in the same run.

    python -m tests.benchmarks.handle [ROUNDS]

Prints medians over ROUNDS rounds (400 unless said otherwise), in which each question is asked once, so that whatever
else the machine does meets all of them alike: ``trading_allowed()`` and ``book()`` (target: at most 1.5 x a bare call),
a cached permission, a durable ``record_fill`` (target: at most 3 bare calls and one commit, which is measured beside it
in a bare loop on the same disk), and ``status()`` of a hundred instruments (target: under 50 ms).
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from actors.runtime.ray_environment import prepare

prepare(None)

import ray  # noqa: E402 - what prepare sets must be set before Ray is imported

import supervisor as package  # noqa: E402 - as above
from actors.messages import CycleReport, InstrumentHealth, Statistics  # noqa: E402 - as above
from actors.reconciliation.reconciliation_pass import Status  # noqa: E402 - as above
from actors.runtime import ray_backend, ray_client, ray_cluster  # noqa: E402 - as above
from actors.runtime.deployment import Deployment  # noqa: E402 - as above
from brokers.simulators.oanda import OandaSimulator  # noqa: E402 - as above
from supervisor.client import processes  # noqa: E402 - as above
from supervisor.config.loader import load  # noqa: E402 - as above
from supervisor.config.models import Configuration  # noqa: E402 - as above
from supervisor.supervision import specs  # noqa: E402 - as above
from supervisor.supervision.actor import Supervisor  # noqa: E402 - as above
from supervisor.tree.model import ChildKey, DesiredChanged, Discovered, Kind  # noqa: E402 - as above
from tests.benchmarks.form import Figure, show  # noqa: E402 - as above

ACCOUNT_ID, TOKEN = "101-001-0000001-001", "benchmark-token"
FLEET = 100
WARM_UP = 30


class Bare:
    """An actor that answers with what it is given."""

    async def echo(self, value: object) -> object:
        """The same."""
        return value


class Fleet(Supervisor):
    """The supervisor with a hundred instruments whose reports it has, and nothing that runs."""

    async def _run(self) -> None:
        """Start nobody."""

    async def fill(self) -> None:
        """Have the reports, of actors that are up."""
        now = datetime.now(UTC)
        wanted = specs.children(self._desired.configuration)
        self._tree.handle(Discovered(tuple(spec.key for spec in wanted)), 0.0)
        self._tree.handle(DesiredChanged(wanted), 0.0)
        book: dict[str, Any] = {
            "legs": [{"leg": "long", "quantity": "100", "average_price": "1.1"}],
            "open_orders": [],
        }
        broker: dict[str, Any] = dict.fromkeys(("positions", "orders", "fills"), "COMPLETE")
        for symbol in self._desired.symbols("fx"):
            report = CycleReport("fx", symbol, Status.SUCCESS, None, now, 1.0, 1, book, broker, verified_at=now)
            key = ChildKey(Kind.INSTRUMENT, f"fx/{symbol}")
            self._healths.keep(key, 1, InstrumentHealth(report, Statistics(), 1.0, False, 3, 1))


def _took_ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


def _commits(directory: Path) -> Callable[[], object]:
    connection = sqlite3.connect(directory / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, payload TEXT)")

    def commit() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO records (payload) VALUES (?)", ("x" * 600,))
        connection.execute("COMMIT")

    return commit


def _configuration(directory: Path, rest_url: str, names: list[str]) -> Configuration:
    path = directory / f"accounts{len(names)}.yaml"
    path.write_text(
        "ray: {address: local, namespace: handle-benchmark}\n"
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "defaults: {interval_s: 600}\n"
        f"accounts: [{{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: {TOKEN}, rest_url: '{rest_url}', "
        f"instruments: [{', '.join(names)}]}}]\n"
    )
    return load(path)


def _measure(directory: Path, rounds: int) -> dict[str, float]:
    remote: Any = ray.remote(Bare)
    bare = remote.options(num_cpus=0, max_concurrency=1000).remote()
    names = [f"PAIR_{number:03d}" for number in range(FLEET)]
    many = _configuration(directory, "http://127.0.0.1:9", names)
    fleet = Deployment(
        "fleet", Fleet, (many, ray_backend.RayRuntime("empty"), ray_cluster.RayCluster("empty")), begin="fill"
    )
    asyncio.run(ray_cluster.RayCluster("handle-benchmark").create(fleet, 30.0))
    client = ray_client.Client("handle-benchmark")
    with package.connect(directory / "accounts1.yaml") as sup:
        eur = sup.instrument("fx", "EUR_USD")
        while not eur.trading_allowed():
            time.sleep(0.1)
        # The check that follows each report is no part of the report, and would run beside the next question.
        sup.pause("fx", "EUR_USD")
        commit = _commits(directory)
        counter = iter(range(10**9))

        def fill() -> None:
            now, number = datetime.now(UTC), next(counter)
            side: Literal["BUY", "SELL"] = "SELL" if number % 2 else "BUY"  # so that the book stays as small as it is
            recorded = eur.record_fill(fill_id=f"f{number}", side=side, quantity=1, price="1.1", time=now)
            assert recorded.news

        questions: dict[str, Callable[[], object]] = {
            "bare": lambda: ray.get(bare.echo.remote(1), timeout=5),
            "trading_allowed": eur.trading_allowed,
            "cached": lambda: eur.trading_allowed(max_age_s=60.0),
            "book": eur.book,
            "record_fill": fill,
            "commit": commit,
            "status": lambda: client.call("fleet", "status", timeout_s=5),
        }
        samples: dict[str, list[float]] = {name: [] for name in questions}
        for number in range(rounds + WARM_UP):
            for name, question in questions.items():
                took_ms = _took_ms(question)
                if number >= WARM_UP:
                    samples[name].append(took_ms)
    ray_cluster.kill("fleet", "handle-benchmark")
    return {name: statistics.median(found) for name, found in samples.items()}


def figures(*, quick: bool = False, rounds: int = 400) -> Iterator[Figure]:
    """Each of a strategy's calls."""
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=["EUR_USD"])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        configuration = _configuration(directory, simulator.start(), ["EUR_USD"])
        try:
            with processes.started(configuration, detach=False, on_step=lambda _: None, dashboard=False):
                found = _measure(directory, 60 if quick else rounds)
        finally:
            simulator.close()
    bare, commit = found["bare"], found["commit"]
    call = "a bare actor call"
    yield Figure("trading_allowed()", found["trading_allowed"], "ms", bare, call, "1.5 x")
    yield Figure("trading_allowed(max_age_s=60)", found["cached"], "ms", bare, call)
    yield Figure("book()", found["book"], "ms", bare, call, "1.5 x")
    yield Figure("record_fill(), durable", found["record_fill"], "ms", 3 * bare + commit, "3 calls and a commit", "1 x")
    yield Figure(f"status() of {FLEET} instruments", found["status"], "ms", bare, call, "50 ms")


def main(rounds: int) -> None:
    """Measure and print."""
    show(figures(rounds=rounds))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
