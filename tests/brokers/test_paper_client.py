"""The paper adapter: what it reports, what it keeps, and who may change it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from brokers.errors import Malformed, Refused, Unreachable
from brokers.ib.client import IbBroker
from brokers.kite.client import KiteBroker
from brokers.model import Complete, Failed, OrderQuery, OrderStatus, Side, Snapshot, rows_of
from brokers.mt5 import Mt5Broker
from brokers.oanda import OandaBroker
from brokers.paper import venue as venue_module
from brokers.paper.client import PaperBroker
from brokers.paper.prices import Market
from brokers.port import NewOrder, OrderEntry, StreamState
from brokers.registry import SimulatedBroker
from tests.brokers.following import PATIENCE_S
from tests.brokers.paper import killed

D = Decimal
S = OrderStatus
EURUSD = "EURUSD"
PRICE = (D("1.10"), D("1.11"))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Desk:
    """Adapters over one state file; whatever is not closed by the test is closed after it."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "var" / "rehearsal.paper.json"
        self.clock = Clock()
        self.made: list[PaperBroker] = []

    def open(
        self, *markets: Market, account: str = "rehearsal", lively: bool = True, symbols: tuple[str, ...] = (EURUSD,)
    ) -> PaperBroker:
        broker = PaperBroker(account, self.file, self.clock, symbols=symbols, markets=markets, lively=lively)
        self.made.append(broker)
        return broker

    async def kill(self, broker: PaperBroker) -> None:
        """As SIGKILL: the lock goes, and nothing more is written."""
        await killed(broker)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for broker in made.made:
        await killed(broker)


def order(client: str = "c1", quantity: str = "100", kind: str = "MARKET", limit: str | None = None) -> NewOrder:
    return NewOrder(EURUSD, client, Side.BUY, D(quantity), kind, None if limit is None else D(limit))


def said(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.positions, snapshot.orders, snapshot.fills, snapshot.fills_cursor


async def test_a_new_account_is_completely_known_to_hold_nothing(desk: Desk) -> None:
    broker = desk.open()
    await broker.connect()
    snapshot = await broker.snapshot(None)
    assert said(snapshot) == (Complete(), Complete(), Complete(), 0)
    assert snapshot.whole
    assert broker.calls == 2


async def test_what_was_traded_is_in_all_three_sections(desk: Desk) -> None:
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    await broker.submit(order("c2", kind="LIMIT", limit="1.0"))
    snapshot = await broker.snapshot(0)
    assert [row.quantity for row in rows_of(snapshot.positions)] == [100]
    assert [(row.broker_order_id, row.status) for row in rows_of(snapshot.orders)] == [("P1", S.FILLED), ("P2", S.OPEN)]
    assert [row.fill_id for row in rows_of(snapshot.fills)] == ["F1"]
    assert snapshot.fills_cursor == 1
    assert rows_of((await broker.snapshot(1)).fills) == ()
    assert rows_of((await broker.snapshot(None)).fills) == (), "complete from now on"
    assert await broker.prices() == {EURUSD: PRICE}


async def test_a_fill_after_a_snapshot_is_later_than_it_though_the_clock_stands(desk: Desk) -> None:
    """PEERS 11"""
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    before = await broker.snapshot(0)
    await broker.submit(order("c2"))
    first, second = rows_of((await broker.snapshot(0)).fills)
    assert first.time <= before.as_of < second.time


async def test_what_was_accepted_is_there_after_a_kill(desk: Desk) -> None:
    """FEATURES 7, PEERS 15"""
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    await broker.submit(order("c2", kind="LIMIT", limit="1.0"))
    await broker.cancel("P2")
    before = said(await broker.snapshot(0))
    await desk.kill(broker)
    again = desk.open()
    await again.connect()
    assert said(await again.snapshot(0)) == before
    assert await again.submit(order()) == "P1"
    assert said(await again.snapshot(0)) == before, "sent again after the crash it is still one order"
    assert stat.S_IMODE(desk.file.stat().st_mode) == 0o600


async def test_prices_alone_are_kept_now_and_then_and_at_the_end(desk: Desk) -> None:
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    assert not desk.file.exists()
    desk.clock.pass_s(11)
    await broker.feed(EURUSD, D(2), D(2))
    assert desk.file.exists()
    await broker.feed(EURUSD, D(3), D(3))
    await broker.close()
    await broker.close()
    again = desk.open()
    await again.connect()
    assert await again.prices() == {EURUSD: (D(3), D(3))}


async def test_one_process_changes_a_venue_and_others_may_look(desk: Desk) -> None:
    """Law 8"""
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    with pytest.raises(Unreachable, match="another process"):
        await desk.open().connect()
    onlooker = desk.open(lively=False)
    await onlooker.connect()
    assert said(await onlooker.snapshot(0)) == (Complete(), Complete(), Complete(), 0)
    await broker.submit(order())
    assert said(await onlooker.snapshot(0)) == said(await broker.snapshot(0))
    (answer,) = await onlooker.find_orders([OrderQuery(EURUSD, None, "c1")])
    assert answer.order is not None
    with pytest.raises(Unreachable, match="another process"):
        await onlooker.submit(order("c2"))
    await broker.close()
    assert await onlooker.submit(order("c2")) == "P2", "it goes on from what the other one left"
    assert [row.fill_id for row in rows_of((await onlooker.snapshot(0)).fills)] == ["F1", "F2"]


async def test_looking_leaves_no_file(desk: Desk) -> None:
    onlooker = desk.open(Market(EURUSD, start=D(1)), lively=False)
    await onlooker.connect()
    await onlooker.snapshot(None)
    await onlooker.close()
    assert not desk.file.parent.exists()


def _change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


DAMAGE = {
    "empty": lambda file: file.write_text(""),
    "cut off": lambda file: file.write_text(file.read_text()[:-20]),
    "another format": lambda file: _change(file, format=2),
    "a quantity that is none": lambda file: file.write_text(file.read_text().replace('"100"', '"many"', 1)),
    "a quantity that fills the memory": lambda file: file.write_text(file.read_text().replace('"100"', '"1E+999999"')),
    "a time that is none": lambda file: _change(file, clock="9984-01-05T09:00:00Z"),
    "a time of no zone": lambda file: _change(file, clock="2026-01-05T09:00:00"),
    "orders beyond the last": lambda file: _change(file, last_order=0),
    "fills that are lacking": lambda file: _change(file, last_fill=9),
    "filled beyond its quantity": lambda file: file.write_text(file.read_text().replace('"100"', '"5"', 1)),
    "an ended order that works": lambda file: file.write_text(file.read_text().replace('"ended":[', '"working":[', 1)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("lively", [True, False], ids=["running", "looking"])
async def test_a_damaged_state_is_said_and_never_taken_for_a_new_account(
    desk: Desk, damage: object, lively: bool
) -> None:
    """PEERS 1"""
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    await broker.close()
    sound = desk.file.read_text()
    damage(desk.file)  # type: ignore[operator]  # a function of the table above
    damaged = desk.file.read_text()
    again = desk.open(lively=lively)
    with pytest.raises(Malformed, match=r"rehearsal\.paper\.json cannot be read"):
        await again.connect()
    assert desk.file.read_text() == damaged
    desk.file.write_text(sound)
    await again.connect()
    assert len(rows_of((await again.snapshot(0)).orders)) == 1


async def test_the_state_of_another_account_is_refused(desk: Desk) -> None:
    """PEERS 2"""
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    await broker.close()
    with pytest.raises(Refused, match="that of account rehearsal"):
        await desk.open(account="other").connect()


async def test_a_venue_that_lost_its_state_is_not_an_empty_account_to_a_book_that_knows_its_fills(desk: Desk) -> None:
    """PEERS 1"""
    broker = desk.open(Market(EURUSD, start=D(1)))
    await broker.connect()
    with pytest.raises(Malformed, match="fill F7, and the newest of the venue is F0"):
        await broker.snapshot(7)
    assert not desk.file.exists(), "what may be put back is not written over"
    await broker.connect()
    assert said(await broker.snapshot(0)) == (Complete(), Complete(), Complete(), 0)


async def test_a_change_that_cannot_be_written_has_not_happened(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 2, for the venue"""
    broker = desk.open()
    heard: list[str | None] = []
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    stream = broker.stream()
    assert stream is not None
    stream.start(heard.append)
    heard.clear()
    before = said(await broker.snapshot(0))
    draft = desk.file.with_name(f"{desk.file.name}.{os.getpid()}.tmp")
    draft.mkdir()
    with pytest.raises(Unreachable, match=r"could not write .*directory"):
        await broker.submit(order("c2"))
    assert (said(await broker.snapshot(0)), heard) == (before, [])
    draft.rmdir()
    assert await broker.submit(order("c2")) == "P2"
    assert [row.fill_id for row in rows_of((await broker.snapshot(0)).fills)] == ["F1", "F2"]
    assert heard == [EURUSD]


async def test_a_refusal_costs_no_price_and_an_order_whose_time_was_over_expires_all_the_same(desk: Desk) -> None:
    broker = desk.open()
    await broker.connect()
    until = desk.clock.now + timedelta(seconds=5)
    await broker.submit(NewOrder(EURUSD, "c1", Side.BUY, D(1), "LIMIT", D(1), expires_at=until))
    await broker.feed(EURUSD, *PRICE)
    desk.clock.pass_s(6)
    with pytest.raises(Refused, match="which is another order"):
        await broker.submit(NewOrder(EURUSD, "c1", Side.SELL, D(1), "LIMIT", D(1)))
    assert await broker.prices() == {EURUSD: PRICE}
    await desk.kill(broker)
    again = desk.open(lively=False)
    await again.connect()
    (row,) = rows_of((await again.snapshot(0)).orders)
    assert row.status is S.EXPIRED


REFUSED = {
    "a float": (NewOrder(EURUSD, "c1", Side.BUY, 0.1, "MARKET"), "0.1 is a float"),  # type: ignore[arg-type]  # bad input
    "no number": (NewOrder(EURUSD, "c1", Side.BUY, D("NaN"), "MARKET"), "NaN is not a number"),
    "no client order id": (NewOrder(EURUSD, " ", Side.BUY, D(1), "MARKET"), "text is needed"),
}


@pytest.mark.parametrize(("bad", "found"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_order_is_refused(desk: Desk, bad: NewOrder, found: str) -> None:
    broker = desk.open()
    await broker.connect()
    with pytest.raises(Refused, match=found):
        await broker.submit(bad)
    assert (await broker.snapshot(None)).orders == Complete()


async def test_what_is_no_price_is_refused(desk: Desk) -> None:
    broker = desk.open()
    await broker.connect()
    with pytest.raises(Refused, match="not among the instruments"):
        await broker.feed("XAUUSD", *PRICE)
    with pytest.raises(Refused, match=r"1\.1 is a float"):
        await broker.feed(EURUSD, 1.1, D(2))  # type: ignore[arg-type]  # bad input


async def test_orders_are_found_by_either_id_with_their_fills(desk: Desk) -> None:
    """FEATURES 23"""
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    await broker.submit(order())
    queries = [
        OrderQuery(EURUSD, "P1", None),
        OrderQuery(EURUSD, None, "c1"),
        OrderQuery(EURUSD, "P2", "c1"),
        OrderQuery(EURUSD, None, "c2"),
        OrderQuery("GBPUSD", "P1", None),
    ]
    answers = await broker.find_orders(queries)
    assert [(answer.order is not None, len(answer.fills)) for answer in answers] == [
        (True, 1),
        (True, 1),
        (False, 0),
        (False, 0),
        (False, 0),
    ]
    assert not any(answer.failure for answer in answers)


async def test_what_is_no_longer_kept_is_unknown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEERS 12"""
    monkeypatch.setattr(venue_module, "FILLS_KEPT", 1)
    monkeypatch.setattr(venue_module, "ENDED_KEPT", 1)
    broker = desk.open()
    await broker.connect()
    await broker.feed(EURUSD, *PRICE)
    for number in range(3):
        await broker.submit(order(f"c{number}"))
    snapshot = await broker.snapshot(0)
    assert isinstance(snapshot.fills, Failed)
    assert snapshot.fills_cursor == 3
    (answer,) = await broker.find_orders([OrderQuery(EURUSD, "P1", None)])
    assert "too long ago" in (answer.failure or "")


async def test_a_stale_order_is_cancelled_once(desk: Desk) -> None:
    """FEATURES 6"""
    broker = desk.open()
    await broker.connect()
    await broker.submit(order(kind="LIMIT", limit="1"))
    await broker.cancel_order(OrderQuery(EURUSD, None, "c1"))
    with pytest.raises(Refused, match="no such working order"):
        await broker.cancel_order(OrderQuery(EURUSD, "P9", None))
    (row,) = rows_of((await broker.snapshot(None)).orders)
    assert row.status is S.CANCELLED


async def test_the_stream_reports_orders_and_fills_and_no_prices(desk: Desk) -> None:
    """FEATURES 24"""
    broker = desk.open(symbols=(EURUSD, "GBPUSD"))
    await broker.connect()
    stream = broker.stream()
    assert stream is not None
    assert stream.state is StreamState.CLOSED
    heard: list[str | None] = []
    stream.start(heard.append)
    assert (stream.state, heard) == (StreamState.LIVE, [None])
    await broker.feed(EURUSD, *PRICE)
    await broker.feed("GBPUSD", *PRICE)
    await broker.submit(order(kind="LIMIT", limit="1.0"))
    await broker.feed(EURUSD, D("0.9"), D("0.9"))
    assert heard == [None, EURUSD, EURUSD]
    assert stream.last_heard_at == desk.clock.now
    stream.close()
    await broker.submit(order("c2"))
    assert (stream.state, len(heard)) == (StreamState.CLOSED, 3)


async def test_prices_walk_while_somebody_follows(desk: Desk) -> None:
    """FEATURES 24"""
    broker = desk.open(Market(EURUSD, start=D("1"), tick=D("0.1"), seed=1, step_s=0.05))
    await broker.connect()
    await broker.submit(order(kind="LIMIT", limit="0.9"))
    stream = broker.stream()
    assert stream is not None
    filled = asyncio.Event()
    stream.start(lambda instrument: filled.set() if instrument == EURUSD else None)
    async with asyncio.timeout(PATIENCE_S):
        await filled.wait()
    stream.close()
    assert [row.price for row in rows_of((await broker.snapshot(0)).fills)] == [D("0.9")]


def test_no_other_adapter_takes_orders() -> None:
    """FEATURES 22: the supervisor never trades on a live account."""
    entry = {"submit", "cancel", "feed", "prices"}
    assert isinstance(PaperBroker("r", Path("none"), Clock()), OrderEntry)
    for other in (OandaBroker, KiteBroker, IbBroker, Mt5Broker, SimulatedBroker):
        assert not entry & set(dir(other)), other
