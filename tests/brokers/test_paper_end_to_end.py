"""A rehearsal from the configuration to the book: venue, account actor, instrument actor, journal, in one process."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.account.actor import Account
from actors.events import EventType
from actors.instrument.actor import Instrument
from actors.journal.actor import Audit
from actors.messages import CycleReport
from actors.names import AUDIT
from actors.reconciliation.own_reports import OrderReport, PositionReport
from actors.runtime.ports import ActorUnavailable, CallTimeout, LocalRuntime
from brokers.errors import Refused, Unreachable
from brokers.model import OrderQuery, OrderStatus, Side, rows_of
from brokers.paper.client import PaperBroker
from brokers.simulators.oanda import OandaSimulator
from supervisor.cli import in_process
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import exit_status
from supervisor.supervision import specs
from tests.brokers.paper import killed
from tests.unit.fakes import FakeBroker, found, quantities

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
EURUSD = "EURUSD"
NAME = f"rehearsal/{EURUSD}"
T0 = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)
QUICK = "confirm_gap_ms: 20, settle_ms: 60, timeout_ms: 2000"
PAPER = "{name: rehearsal, broker: paper, instruments: [EURUSD], prices: {EURUSD: {liquidity: 60}}}"
LIVE = PAPER.replace("broker: paper", "broker: paper, mode: live")
TOKEN = "0123456789abcdef-fedcba9876543210"


def configured(directory: Path, account: str = PAPER, defaults: str = QUICK) -> Configuration:
    file = directory / "accounts.yaml"
    journal = f"journal: {{url: 'sqlite:///{directory}/journal.db'}}"
    file.write_text(f"{journal}\ndefaults: {{{defaults}}}\naccounts:\n  - {account}\n")
    return load(file, {"TOKEN": TOKEN})


class Post:
    """Carries messages, reports each that arrived, and loses what a test wants lost."""

    def __init__(self) -> None:
        self.lose: dict[str, str] = {}
        self.arrived = asyncio.Event()
        self.sent: list[str] = []

    async def __call__(self, actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        how = self.lose.pop(method, None)
        if how == "request":
            raise ActorUnavailable(actor, method, "its process has ended")
        self.sent.append(method)
        answer = await send()
        self.arrived.set()
        if how == "answer":
            raise CallTimeout(actor, method, "no answer")
        return answer

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            self.arrived.clear()  # before each look: what arrives during it may have come too late to be seen
            while not await holds():
                await self.arrived.wait()
                self.arrived.clear()


class House:
    """One account and its instrument, as the configuration makes them."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.post = Post()
        chance = random.Random(5).random  # noqa: S311 - the same each time
        self.runtime = LocalRuntime(lambda: datetime.now(UTC), time.monotonic, chance, self.post)
        self.audit = Audit(configuration.journal_url)
        self.brokers: list[Any] = []

    async def open(self) -> None:
        await self.audit.open()
        self.runtime.register(AUDIT, self.audit)
        self.make_account()
        self.make_instrument()

    def make_account(self) -> None:
        (account,) = self.configuration.accounts
        settings, make, runtime = specs.account_actor(self.configuration, account.name, self.runtime)

        def made() -> Any:
            self.brokers.append(make())
            return self.brokers[-1]

        self.account = Account(settings, made, runtime)
        self.runtime.register(account.name, self.account)

    def make_instrument(self, symbol: str | None = None) -> None:
        (account,) = self.configuration.accounts
        name = symbol or account.symbols[0]
        self.symbol = name
        self.instrument = Instrument(*specs.instrument_actor(self.configuration, account.name, name, self.runtime))
        self.runtime.register(f"{account.name}/{name}", self.instrument)

    async def crash_account(self) -> None:
        """SIGKILL: nothing is closed, its lock goes with its process, and another one takes its place."""
        (account,) = self.configuration.accounts
        await self.runtime.kill(account.name)
        for broker in self.brokers:
            await killed(broker)
        self.make_account()

    async def feed(self, bid: str, ask: str | None = None) -> None:
        await self.account.venue_feed(EURUSD, D(bid), D(ask or bid))

    async def record(self, client: str = "c1", quantity: str = "100", kind: str = "MARKET", **more: Any) -> int:
        return await self.instrument.record([order(client, quantity, kind, **more)])

    async def verdict(self) -> CycleReport:
        return await self.instrument.reconcile_now()

    async def kinds(self) -> list[EventType]:
        return [r.event.type for r in await self.audit.records(stream=NAME, limit=10_000)]

    async def close(self) -> None:
        await self.instrument.stop()
        await self.account.close()
        await self.audit.close()
        for broker in self.brokers:
            await broker.close()


def order(client: str, quantity: str = "100", kind: str = "MARKET", **more: Any) -> OrderReport:
    given = {"side": BUY, "limit_price": None, "status": OrderStatus.PENDING_SUBMIT, "submitted_at": T0, **more}
    symbol = given.pop("instrument", EURUSD)
    return OrderReport(symbol, client, None, quantity=D(quantity), order_type=kind, **given)


def rows(report: CycleReport) -> list[tuple[str, str, str]]:
    open_orders: Any = report.book["open_orders"]
    return [(row["broker_order_id"], row["status"], row["filled_quantity"]) for row in open_orders]


@asynccontextmanager
async def a_house(directory: Path, account: str = PAPER, defaults: str = QUICK) -> AsyncIterator[House]:
    house = House(configured(directory, account, defaults))
    await house.open()
    try:
        yield house
        assert (await house.audit.verify()).ok
    finally:
        await house.close()


@pytest.fixture(params=[PAPER, LIVE], ids=["mode paper", "mode live"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path, request.param) as made:
        yield made


async def test_a_recorded_order_rests_fills_in_part_and_fills(house: House) -> None:
    """FEATURES 5, FEATURES 18, FEATURES 19: fills move the book in paper mode too"""
    await house.feed("1.10", "1.11")
    assert await house.record(kind="LIMIT", limit_price=D("1.05")) == 1
    report = await house.verdict()
    assert (rows(report), quantities(report)) == ([("P1", "OPEN", "0")], {})
    await house.feed("1.04", "1.05")
    report = await house.verdict()
    assert (rows(report), quantities(report)) == ([("P1", "PARTIALLY_FILLED", "60")], {"net": "60"})
    await house.feed("1.03", "1.04")
    report = await house.verdict()
    assert (report.status, rows(report), quantities(report)) == ("SUCCESS", [], {"net": "100"})
    assert (await house.kinds()).count(EventType.ORDER_FILLED) == 2
    before = await house.kinds()
    assert found(await house.verdict()) == []
    assert await house.kinds() == before


async def test_an_order_that_fills_before_the_first_look_is_in_the_book_once(house: House) -> None:
    """FEATURES 23"""
    await house.feed("1.10", "1.11")
    await house.record(quantity="50")
    report = await house.verdict()
    assert (report.status, quantities(report)) == ("SUCCESS", {"net": "50"})


async def test_a_cancelled_order_is_cancelled_in_the_book(house: House) -> None:
    """FEATURES 18"""
    await house.feed("1.10")
    await house.record(kind="LIMIT", limit_price=D(1))
    await house.verdict()
    assert await house.account.venue_cancel("P1")
    assert await house.account.venue_cancel("P1")
    report = await house.verdict()
    assert (report.status, rows(report)) == ("SUCCESS", [])
    assert EventType.ORDER_CANCELLED in await house.kinds()


async def test_an_order_that_is_rejected_is_said_so(house: House) -> None:
    """FEATURES 18"""
    await house.record()
    report = await house.verdict()
    assert (rows(report), found(report)) == ([], ["ORDER_REJECTED"])
    kinds = await house.kinds()
    assert {EventType.ORDER_REJECTED, EventType.RECONCILIATION_DISCREPANCY} <= set(kinds)
    records = await house.audit.records(stream=NAME, limit=100)
    assert any("no price of EURUSD yet" in str(record.event.payload) for record in records)


async def test_an_order_is_sent_once_however_often_it_is_reported(house: House) -> None:
    """PEERS 15"""
    await house.feed("1.10")
    for _ in range(2):
        await house.record(quantity="50")
        house.make_instrument()
    await house.crash_account()
    await house.record(quantity="50")
    report = await house.verdict()
    await house.record(quantity="50")
    assert quantities(report) == quantities(await house.verdict()) == {"net": "50"}
    assert house.post.sent.count("venue_submit") == 3, "not once more when the book knows what became of it"
    assert [fill.fill_id for fill in rows_of((await house.brokers[-1].snapshot(0)).fills)] == ["F1"]


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_lost_hand_over_is_no_lost_report_and_reporting_again_mends_it(house: House, lost: str) -> None:
    """PEERS 12"""
    await house.feed("1.10")
    house.post.lose["venue_submit"] = lost
    assert await house.record(quantity="50") == 1
    assert await house.record(quantity="50") == 0
    report = await house.verdict()
    assert (report.status, quantities(report)) == ("SUCCESS", {"net": "50"})


async def test_an_order_that_never_reached_its_venue_is_given_up_with_proof_and_not_sent_later(house: House) -> None:
    """Law 4: a crash between the record and the hand-over"""
    await house.feed("1.10")
    house.post.lose["venue_submit"] = "request"
    await house.record()
    house.make_instrument()
    report = await house.verdict()
    assert (report.status, rows(report), found(report)) == ("SUCCESS", [], ["ORDER_MISSING"])
    assert report.passes > 1
    await house.record()
    report = await house.verdict()
    assert (rows(report), quantities(report)) == ([], {})
    assert house.post.sent.count("venue_submit") == 0


async def test_what_the_journal_did_not_take_is_not_sent(house: House) -> None:
    """Law 2: durable first"""
    await house.feed("1.10")
    house.post.lose["append"] = "request"
    with pytest.raises(Exception, match="journal"):
        await house.record()
    assert "venue_submit" not in house.post.sent


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"status": OrderStatus.OPEN}, "it was sent elsewhere"),
        ({"status": OrderStatus.FILLED}, "it is over"),
    ],
    ids=["open", "filled"],
)
async def test_only_an_order_that_is_about_to_be_sent_is_handed_over(
    house: House, more: dict[str, Any], why: str
) -> None:
    await house.feed("1.10")
    await house.record(**more)
    assert "venue_submit" not in house.post.sent, why


async def test_a_restart_of_the_venue_changes_nothing_that_is_believed(house: House) -> None:
    """FEATURES 7, PEERS 15"""
    await house.feed("1.10", "1.11")
    await house.record("c1", "50")
    await house.record("c2", kind="LIMIT", limit_price=D("1.0"))
    before = await house.verdict()
    await house.crash_account()
    after = await house.verdict()
    assert (after.status, after.book) == ("SUCCESS", before.book)
    assert found(after) == []
    await house.feed("0.99")
    report = await house.verdict()
    assert quantities(report) == {"net": "110"}


async def test_a_venue_without_its_state_is_no_empty_account(tmp_path: Path) -> None:
    """PEERS 1"""
    async with a_house(tmp_path, LIVE) as house:
        await house.feed("1.10")
        await house.record(quantity="50")
        before = await house.verdict()
        (tmp_path / "journal.db.rehearsal.paper.json").unlink()
        await house.crash_account()
        for _ in range(2):
            report = await house.verdict()
            assert (report.status, report.book) == ("DEGRADED", before.book)
            assert "its state was lost or set back" in (report.error or "")


@pytest.mark.parametrize(
    ("account", "expected", "status"),
    [(PAPER, {"net": "70"}, []), (LIVE, {"net": "50"}, ["POSITION_MISMATCH"])],
    ids=["mode paper", "mode live"],
)
async def test_positions_are_reconciled_in_live_mode_alone(
    tmp_path: Path, account: str, expected: dict[str, str], status: list[str]
) -> None:
    """FEATURES 19"""
    async with a_house(tmp_path, account) as house:
        await house.feed("1.10")
        await house.record(quantity="50")
        await house.verdict()
        await house.instrument.record([PositionReport(EURUSD, "net", D(70), D("1.10"))])
        report = await house.verdict()
        assert (quantities(report), found(report)) == (expected, status)


async def test_a_fill_wakes_its_instrument_at_once(tmp_path: Path) -> None:
    """FEATURES 24: long before the interval is over"""
    async with a_house(tmp_path, defaults=f"{QUICK}, interval_s: 3600") as house:
        await house.account.start()
        await house.feed("1.10")
        await house.instrument.start()
        await house.record(kind="LIMIT", limit_price=D("1.0"))

        async def rests() -> bool:
            return EventType.ORDER_UPDATED in await house.kinds()

        async def filled() -> bool:
            return EventType.ORDER_FILLED in await house.kinds()

        await house.post.until(rests)
        assert not await filled()
        await house.feed("0.9")
        await house.post.until(filled)
        assert quantities(await house.verdict()) == {"net": "60"}, "what one price has room for"


async def test_a_walk_fills_what_rests_without_anybody_feeding_prices(tmp_path: Path) -> None:
    """FEATURES 19"""
    walk = '{start: "1.0", tick: "0.1", seed: 1, step_s: 0.05}'
    account = f"{{name: rehearsal, broker: paper, instruments: [EURUSD], prices: {{EURUSD: {walk}}}}}"
    async with a_house(tmp_path, account) as house:
        await house.account.start()
        await house.instrument.start()
        await house.record(kind="LIMIT", limit_price=D("0.9"))

        async def filled() -> bool:
            return EventType.ORDER_FILLED in await house.kinds()

        await house.post.until(filled)
        assert quantities(await house.verdict()) == {"net": "100"}


OANDA = (
    '{name: fx, broker: oanda, account_id: 101-001-1-001, token: "${TOKEN}", rest_url: "ADDRESS", '
    "instruments: [EUR_USD]}"
)
REHEARSED = "{name: fx, broker: paper, mode: live, instruments: [EUR_USD], prices: {EUR_USD: {start: 1.1}}}"


@pytest.mark.parametrize("broker", ["oanda", "paper"])
async def test_one_strategy_runs_on_paper_and_live_by_the_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: str
) -> None:
    """FEATURES 19, FEATURES 22: it records its order, and sends it itself where its account is live"""
    monkeypatch.setenv("TOKEN", TOKEN)
    simulator = OandaSimulator("101-001-1-001", TOKEN, instruments=["EUR_USD"])
    simulator.set_price("EUR_USD", D("1.1"))

    async def strategy(house: House) -> None:
        await house.instrument.record([order("c1", "50", instrument="EUR_USD")])
        if house.configuration.account("fx").broker != "paper":
            simulator.trade("EUR_USD", BUY, D(50), "c1")

    try:
        account = REHEARSED if broker == "paper" else OANDA.replace("ADDRESS", simulator.start())
        async with a_house(tmp_path, account) as house:
            await house.verdict()
            await strategy(house)
            report = await house.verdict()
            legs: Any = report.book["legs"]
            assert [(leg["quantity"], D(leg["average_price"])) for leg in legs] == [("50", D("1.1"))]
            assert (report.status, rows(report)) == ("SUCCESS", [])
            assert ("venue_submit" in house.post.sent) == (broker == "paper")
    finally:
        simulator.close()


class NeverThere(FakeBroker):
    """A broker that goes on being waited for."""

    def __init__(self) -> None:
        super().__init__(lambda: T0)
        self.asked = asyncio.Event()

    async def connect(self) -> None:
        self.connects += 1
        self.asked.set()
        await asyncio.Event().wait()


async def test_no_other_account_takes_an_order_and_its_broker_is_not_even_asked(tmp_path: Path) -> None:
    """FEATURES 22"""
    live = "{name: cfd, broker: mt5, endpoint: 'tcp://127.0.0.1:9', instruments: [EURUSD]}"
    async with a_house(tmp_path, live) as house:
        broker = NeverThere()
        settings, _, runtime = specs.account_actor(house.configuration, "cfd", house.runtime)
        house.account = Account(settings, lambda: broker, runtime)
        house.runtime.register("cfd", house.account)
        waiting = asyncio.create_task(house.account.cancel_order(OrderQuery(EURUSD, "1", None)))
        await broker.asked.wait()
        asked: list[Awaitable[object]] = [
            house.account.venue_submit(EURUSD, "c1", BUY, D(1), "MARKET"),
            house.account.venue_cancel("P1"),
            house.account.venue_feed(EURUSD, D(1), D(1)),
            house.account.venue_prices(),
        ]
        for call in asked:
            with pytest.raises(Refused, match="an account at mt5, and only a paper account has a venue"):
                await call
        assert not waiting.done(), "nobody waited for what the broker is doing"
        assert broker.calls == 1
        waiting.cancel()
        await house.record()
        assert not any(method.startswith("venue") for method in house.post.sent)


async def test_a_second_process_learns_that_the_venue_runs_elsewhere(tmp_path: Path) -> None:
    """Law 8"""
    async with a_house(tmp_path) as house:
        await house.feed("1.10")
        other = PaperBroker("rehearsal", tmp_path / "journal.db.rehearsal.paper.json", house.runtime.now)
        with pytest.raises(Unreachable, match="another process runs this paper venue"):
            await other.connect()


# The one-process commands

ALL = "{name: rehearsal, broker: paper, instruments: all, prices: {EURUSD: {start: 1.1}}}"


async def test_recording_without_a_supervisor_hands_over_too_and_all_instruments_are_found(tmp_path: Path) -> None:
    """FEATURES 1, FEATURES 19"""
    configuration = configured(tmp_path, ALL)
    reports = {EURUSD: [order("c1", "50")], "GBPUSD": [order("c2", instrument="GBPUSD")]}
    assert await in_process.record(configuration, "rehearsal", reports) == 2
    assert await in_process.record(configuration, "rehearsal", reports) == 0
    made = await in_process.reconcile(configuration, in_process.Selection(), dry_run=False)
    ((health, verdicts),) = made
    by_name = {report.instrument: report for report in verdicts}
    assert quantities(by_name[EURUSD]) == {"net": "50"}
    assert found(by_name["GBPUSD"]) == ["ORDER_REJECTED"]
    assert (exit_status(made), health.error) == (0, None)


async def test_the_least_configuration_of_a_rehearsal_just_works(tmp_path: Path) -> None:
    """FEATURES 1"""
    configuration = configured(tmp_path, "{name: rehearsal, broker: paper, mode: paper, instruments: [EURUSD]}")
    made = await in_process.reconcile(configuration, in_process.Selection(), dry_run=False)
    ((health, (report,)),) = made
    assert (report.status, exit_status(made), health.connection) == ("SUCCESS", 0, "CONNECTED")
    # Mode paper compares orders and not positions, and says so.
    assert report.broker == {"positions": "UNSUPPORTED", "orders": "COMPLETE", "fills": "COMPLETE"}
