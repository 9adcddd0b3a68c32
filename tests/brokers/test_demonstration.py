"""The account that trades by itself."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from loguru import logger

from brokers.model import Complete, LegScheme, rows_of
from brokers.mt5 import Mt5Broker
from brokers.simulators.demonstration import KINDS, Demonstration
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.following import until

INSTRUMENTS = ("EURUSD", "GBPUSD", "USDJPY")
LOT = Decimal("0.01")
MODES = [("hedging", LegScheme.TICKET), ("netting", LegScheme.NET)]


def demonstration(
    simulator: Mt5Simulator, legs: LegScheme, seed: int = 0, file: Path | None = None, interval_s: float = 0.001
) -> Demonstration:
    rng = random.Random(seed)  # noqa: S311 - a reproducible script, no secret
    return Demonstration(
        simulator, INSTRUMENTS, legs, rng, lot=LOT, interval_s=(interval_s, interval_s), state_file=file
    )


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    yield said
    logger.remove(sink)


@pytest.mark.parametrize(("mode", "legs"), MODES)
@pytest.mark.parametrize("seed", range(10))
def test_every_kind_of_thing_happens_within_a_minute_of_steps(mode: str, legs: LegScheme, seed: int) -> None:
    """FEATURES 29: a newcomer who watches for a minute, a step every four seconds, sees all of them."""
    script = demonstration(Mt5Simulator(margin_mode=mode), legs, seed)
    script.seed_world()
    assert {script.step().partition(":")[0] for _ in range(15)} == set(KINDS)


@pytest.mark.parametrize(("mode", "legs"), MODES)
def test_it_stays_bounded_and_sensible_for_ever(mode: str, legs: LegScheme) -> None:
    simulator = Mt5Simulator(margin_mode=mode)
    script = demonstration(simulator, legs)
    script.seed_world()
    for _ in range(1000):
        line = script.step()
        assert line.isprintable()
        assert "\n" not in line
        for (instrument, _), quantity in simulator.positions().items():
            assert instrument in INSTRUMENTS
            assert quantity % LOT == 0
            assert LOT <= abs(quantity) <= 40 * LOT
        assert len(simulator.positions()) <= 15
    assert len(simulator.dump()) < 1_000_000


def test_at_oanda_an_order_that_was_filled_in_part_is_over_and_not_filled_again() -> None:
    simulator = OandaSimulator("101-001-1-001", "token", instruments=["EUR_USD"])
    rng = random.Random(0)  # noqa: S311 - as above
    script = Demonstration(simulator, ["EUR_USD"], LegScheme.SIDED, rng, lot=Decimal(100))
    script.seed_world()
    steps = [script.step() for _ in range(100)]  # one that fills what does not rest raises
    assert len(steps) == 100
    assert all(steps)


def test_the_same_seed_is_the_same_script() -> None:
    lines = []
    for _ in range(2):
        script = demonstration(Mt5Simulator(), LegScheme.TICKET, seed=5)
        script.seed_world()
        lines.append([script.step() for _ in range(30)])
    assert lines[0] == lines[1]


def test_a_world_that_holds_something_is_not_seeded_again() -> None:
    simulator = Mt5Simulator()
    script = demonstration(simulator, LegScheme.TICKET)
    script.seed_world()
    seeded = simulator.positions()
    assert seeded
    script.seed_world()
    assert simulator.positions() == seeded


def test_without_instruments_there_is_nothing_to_trade() -> None:
    with pytest.raises(ValueError, match="at least one instrument"):
        Demonstration(Mt5Simulator(), (), LegScheme.NET, random.Random(0), lot=LOT)  # noqa: S311 - as above


@pytest.mark.parametrize(("mode", "legs"), MODES)
async def test_the_adapter_sees_what_the_script_did(mode: str, legs: LegScheme) -> None:
    """PEERS 6, PEERS 14: after every step the snapshot is the account, in the legs the script was given."""
    simulator = Mt5Simulator(margin_mode=mode)
    script = demonstration(simulator, legs)
    script.seed_world()
    broker = Mt5Broker("cfd", simulator.start(), 5001, 1.0, lambda: datetime.now(UTC))
    try:
        await broker.connect()
        cursor = (await broker.snapshot(None)).fills_cursor
        for _ in range(60):
            script.step()
            snapshot = await broker.snapshot(cursor)
            cursor = snapshot.fills_cursor
            assert isinstance(snapshot.positions, Complete)
            assert {(p.instrument, p.leg): p.quantity for p in rows_of(snapshot.positions)} == simulator.positions()
            assert snapshot.conventions.legs is legs
    finally:
        await broker.close()
        simulator.close()


class Watched(Mt5Simulator):
    """Says when it has been dumped a few times."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = threading.Event()
        self._dumps = 0

    def dump(self) -> str:
        self._dumps += 1
        if self._dumps > 5:
            self.kept.set()
        return super().dump()


def test_killed_and_started_again_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """FEATURES 7: what the simulated broker knew outlives the process that served it."""
    file = tmp_path / "deep" / "cfd.json"
    simulator = Watched()
    script = demonstration(simulator, LegScheme.TICKET, file=file)
    script.start()
    try:
        assert simulator.kept.wait(20)
    finally:
        script.close()
        script.close()
    restored = Mt5Simulator()
    successor = demonstration(restored, LegScheme.TICKET, seed=9, file=file)
    successor.restore()
    assert restored.dump() == simulator.dump()
    assert list(file.parent.iterdir()) == [file]
    for _ in range(30):
        successor.step()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"simulator": "{}", "resting": {}, "orders": 1}', "\x00"])
def test_a_broken_state_file_is_named_and_a_new_world_made(tmp_path: Path, warnings: list[str], text: str) -> None:
    file = tmp_path / "cfd.json"
    file.write_text(text)
    simulator = Mt5Simulator()
    script = demonstration(simulator, LegScheme.TICKET, file=file)
    script.restore()
    assert simulator.positions()
    assert any("starting anew" in line for line in warnings)
    again = Mt5Simulator()
    demonstration(again, LegScheme.TICKET, file=file).restore()
    assert again.dump() == simulator.dump()


def test_a_step_that_fails_is_logged_and_the_next_goes_on(warnings: list[str]) -> None:
    """FEATURES 21: an order forgotten behind its back does not stop the script."""
    simulator = Watched()
    script = demonstration(simulator, LegScheme.TICKET)
    script.seed_world()
    for row in json.loads(simulator.dump())["orders"]:
        simulator.forget_order(str(row["ticket"]))
    stop = threading.Event()
    thread = threading.Thread(target=script.run, args=(stop,))
    thread.start()
    try:
        until(lambda: bool(warnings))
        failed = simulator.dump()
        until(lambda: simulator.dump() != failed)
        assert any("a step failed" in line for line in warnings)
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join()
