"""The simulated Kite account: its routes through the SDK, its script, its faults, and that it leaves nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import kiteconnect.exceptions as ex
import psutil
import pytest
import requests
from kiteconnect import KiteConnect

from brokers.model import LegScheme, Side
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.demonstration import KINDS, Demonstration
from brokers.simulators.http import RawReply
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.kite_http import (
    DATA_NULL,
    GATEWAY_TIMEOUT,
    NO_CONTENT_TYPE,
    NO_ERROR_TYPE,
    TOO_MANY,
)
from tests.brokers.following import PATIENCE_S

D = Decimal
KEY, TOKEN, USER = "api-key", "a-token-of-tests", "AB1234"
INFY = "NSE:INFY"
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY])
    simulator.start()
    yield simulator
    simulator.close()


def kite(sim: KiteSimulator, token: str = TOKEN, timeout_s: float = PATIENCE_S) -> Any:
    return KiteConnect(KEY, token, root=sim.start(), timeout=timeout_s)


def test_it_meets_the_protocol_of_all_simulators(sim: KiteSimulator) -> None:
    as_protocol: Simulator = sim
    assert as_protocol.positions() == {}


def test_every_route_answers_the_sdk(sim: KiteSimulator) -> None:
    sim.set_price(INFY, D("1500.25"))
    bought = sim.trade(INFY, BUY, D(100), "mine")
    resting = sim.place_limit(INFY, SELL, D(5), D("1600.5"), product="CNC")
    sim.set_holding("BSE:BHEL", D(11), D("56.35"), t1=D(1))
    sdk = kite(sim)
    (net,) = [row for row in sdk.positions()["net"] if row["product"] == "MIS"]
    (holding,) = sdk.holdings()
    first, second = sdk.orders()
    (trade,) = sdk.trades()
    assert sdk.profile()["user_id"] == USER
    assert (net["quantity"], net["average_price"], net["day_buy_quantity"], net["multiplier"]) == (100, 1500.25, 100, 1)
    assert (holding["quantity"], holding["t1_quantity"], holding["opening_quantity"]) == (11, 1, 12)
    assert (first["order_id"], first["status"], first["tag"], first["filled_quantity"]) == (
        bought,
        "COMPLETE",
        "mine",
        100,
    )
    assert (second["order_id"], second["status"], second["price"], second["product"]) == (
        resting,
        "OPEN",
        1600.5,
        "CNC",
    )
    assert sdk.order_history(bought)[-1]["status"] == "COMPLETE"
    assert (trade["order_id"], trade["average_price"], len(trade["order_timestamp"])) == (bought, 1500.25, 8)
    assert sdk.order_trades(bought) == [trade]
    assert sdk.cancel_order("regular", resting) == resting
    assert sdk.orders()[1]["status"] == "CANCELLED"


def test_an_order_is_placed_by_the_sdk(sim: KiteSimulator) -> None:
    sdk = kite(sim)
    market = sdk.place_order("regular", "NSE", "INFY", "BUY", 3, "CNC", "MARKET", tag="m")
    limit = sdk.place_order("regular", "NSE", "INFY", "SELL", 2, "CNC", "LIMIT", price=9999.5)
    assert [row["order_id"] for row in sdk.orders()] == [market, limit]
    assert sim.positions() == {(INFY, "CNC"): D(3)}
    with pytest.raises(ex.InputException):
        sdk.place_order("regular", "NSE", "INFY", "HOLD", 3, "CNC", "MARKET")


@pytest.mark.parametrize(
    ("ask", "seen"),
    [
        (lambda sdk: sdk.order_history("99"), ex.OrderException),
        (lambda sdk: sdk.order_trades("99"), ex.OrderException),
        (lambda sdk: sdk.cancel_order("regular", "99"), ex.OrderException),
        (lambda sdk: sdk.margins(), ex.GeneralException),
    ],
    ids=["history", "trades", "cancel", "no such route"],
)
def test_what_is_not_there_is_an_error_in_the_envelope(
    sim: KiteSimulator, ask: Callable[[Any], object], seen: type[Exception]
) -> None:
    with pytest.raises(seen):
        ask(kite(sim))


def test_a_session_ends_when_another_token_is_issued(sim: KiteSimulator) -> None:
    sdk, over = kite(sim), []
    sdk.set_session_expiry_hook(lambda: over.append(True))
    assert sdk.profile()
    sim.renew_token("tomorrow")
    with pytest.raises(ex.TokenException) as caught:
        sdk.profile()
    assert caught.value.code == 403
    assert over == [True]
    assert kite(sim, "tomorrow").profile()


def test_flat_rows_stay_listed_as_at_kite(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(10))
    sim.close_by_hand(INFY)
    (row,) = kite(sim).positions()["net"]
    assert (row["quantity"], row["day_buy_quantity"], row["day_sell_quantity"], row["average_price"]) == (0, 10, 10, 0)
    assert sim.positions() == {}


def test_the_average_price_is_weighted_and_a_turn_begins_anew(sim: KiteSimulator) -> None:
    averages = []
    for side, quantity, price in ((BUY, 10, 100), (BUY, 10, 110), (SELL, 5, 120), (SELL, 25, 130), (BUY, 4, 90)):
        sim.set_price(INFY, D(price))
        sim.trade(INFY, side, D(quantity))
        averages.append(kite(sim).positions()["net"][0]["average_price"])
    assert averages == [100, 105, 105, 130, 130]


STEPS: dict[str, tuple[Callable[[KiteSimulator, str], object], str, int]] = {
    "partial fill": (lambda sim, order: sim.fill_order(order, D(20)), "OPEN", 20),
    "fill": (lambda sim, order: sim.fill_order(order), "COMPLETE", 50),
    "cancel": (lambda sim, order: sim.end_order(order), "CANCELLED", 0),
    "expire": (lambda sim, order: sim.end_order(order, "EXPIRED"), "CANCELLED", 0),
    "reject": (lambda sim, order: sim.end_order(order, "REJECTED"), "REJECTED", 0),
    "status": (lambda sim, order: sim.set_status(order, "MODIFY PENDING"), "MODIFY PENDING", 0),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_a_script_shows_in_the_list_and_in_the_history(sim: KiteSimulator, step: str) -> None:
    order_id = sim.place_limit(INFY, SELL, D(50), D("1.2"))
    action, status, filled = STEPS[step]
    action(sim, order_id)
    sdk = kite(sim)
    (listed,) = sdk.orders()
    last = sdk.order_history(order_id)[-1]
    assert (
        (listed["status"], listed["filled_quantity"]) == (last["status"], last["filled_quantity"]) == (status, filled)
    )
    if status == "CANCELLED":  # both, as at Kite
        assert listed["pending_quantity"] == listed["cancelled_quantity"] == 50


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda sim: sim.fill_order("99"), "does not rest"),
        (lambda sim: sim.end_order("99"), "does not rest"),
        (lambda sim: sim.end_order("99", "LOST"), "LOST"),
        (lambda sim: sim.forget_order("99"), "no order 99"),
    ],
)
def test_a_script_that_makes_no_sense_says_so(
    sim: KiteSimulator, action: Callable[[KiteSimulator], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        action(sim)


@pytest.mark.parametrize(
    ("instrument", "leg", "expected"),
    [(INFY, "CNC", "CNC"), (INFY, "net", "MIS"), (INFY, "", "MIS"), ("NFO:NIFTY25NOVFUT", "net", "NRML")],
)
def test_a_position_is_set_exactly_and_its_row_adds_up(
    sim: KiteSimulator, instrument: str, leg: str, expected: str
) -> None:
    sim.trade(instrument, BUY, D(100), product=expected)
    assert sim.set_position(instrument, leg, D(-7), D("1.1")) == expected
    (row,) = kite(sim).positions()["net"]
    assert sim.positions() == {(instrument, expected): D(-7)}
    assert row["quantity"] == row["overnight_quantity"] + row["day_buy_quantity"] - row["day_sell_quantity"] == -7
    sim.set_position(instrument, leg, D(0), D(0))
    assert sim.positions() == {}


def test_the_night_empties_the_day_and_delivers_what_was_bought(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(3), product="CNC")
    sim.trade("NFO:NIFTY25NOVFUT", SELL, D(75))
    sim.place_limit(INFY, BUY, D(1), D(1))
    sim.next_day()
    sdk = kite(sim)
    assert (sdk.orders(), sdk.trades()) == ([], [])
    (row,) = sdk.positions()["net"]
    assert (row["quantity"], row["overnight_quantity"], row["day_sell_quantity"]) == (-75, -75, 0)
    assert [(held["quantity"], held["t1_quantity"]) for held in sdk.holdings()] == [(0, 3)]
    sim.next_day()
    assert [(held["quantity"], held["t1_quantity"]) for held in sdk.holdings()] == [(3, 0)]


def test_its_clock_is_in_the_date_header_and_in_every_time(sim: KiteSimulator) -> None:
    sim.set_clock(7200)
    sim.trade(INFY, BUY, D(1))
    session = {"Authorization": f"token {KEY}:{TOKEN}"}
    answer = requests.get(f"{sim.start()}/trades", headers=session, timeout=PATIENCE_S)
    ahead = parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)
    assert abs(ahead - timedelta(hours=2)) < timedelta(seconds=30)
    stamped = datetime.fromisoformat(answer.json()["data"][0]["fill_timestamp"] + "+05:30")
    assert abs(stamped - datetime.now(UTC) - timedelta(hours=2)) < timedelta(seconds=30)


SEEN: list[tuple[Fault | RawReply, type[Exception], int | None]] = [
    (Fault.TIMEOUT, requests.exceptions.ReadTimeout, None),
    (Fault.LATE, requests.exceptions.ReadTimeout, None),
    (Fault.RESET, requests.exceptions.ConnectionError, None),
    (Fault.HALF_BODY, requests.exceptions.ChunkedEncodingError, None),
    (Fault.HTML, ex.DataException, 502),
    (Fault.SERVER_ERROR, ex.GeneralException, 500),
    (Fault.UNAVAILABLE, ex.NetworkException, 503),
    (Fault.RATE_LIMITED, ex.NetworkException, 429),
    (Fault.UNAUTHORIZED, ex.TokenException, 403),
    (GATEWAY_TIMEOUT, ex.DataException, 502),
    (TOO_MANY, ex.NetworkException, 429),
    (NO_CONTENT_TYPE, KeyError, None),
    (NO_ERROR_TYPE, TypeError, None),
    (DATA_NULL, UnboundLocalError, None),
]


@pytest.mark.parametrize(("lie", "seen", "code"), SEEN, ids=lambda value: getattr(value, "name", None))
def test_each_fault_looks_to_the_sdk_as_the_real_thing_does(
    sim: KiteSimulator, lie: Fault | RawReply, seen: type[Exception], code: int | None
) -> None:
    if isinstance(lie, Fault):
        sim.faults.add(lie, match="orders GET")
    else:
        sim.answer_with(lie, match="orders GET")
    assert kite(sim).positions()
    with pytest.raises(seen) as caught:
        kite(sim, timeout_s=0.3 if seen is requests.exceptions.ReadTimeout else PATIENCE_S).orders()
    assert getattr(caught.value, "code", None) == code
    assert kite(sim).orders() == []


def test_an_empty_answer_and_a_spoiled_row_are_well_formed(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(1))
    sim.faults.add(Fault.EMPTY)
    assert kite(sim).positions() == {"net": [], "day": []}
    sim.faults.add(Fault.MALFORMED_ROW)
    (row,) = kite(sim).trades()
    assert (row["quantity"], row.get("tradingsymbol")) == ("abc", None)


def test_a_crash_loses_nothing(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(100), "mine")
    order_id = sim.place_limit(INFY, SELL, D(50), D("1.2"), product="CNC")
    sim.fill_order(order_id, D(20))
    sim.set_holding(INFY, D(3), D(1))
    other = KiteSimulator(KEY, TOKEN, USER, seed=9)
    other.load(sim.dump())
    assert (other.dump(), other.positions()) == (sim.dump(), sim.positions())
    other.fill_order(order_id)
    assert other.positions()[(INFY, "CNC")] == D(-50)


def test_it_can_be_traded_by_itself_like_the_others() -> None:
    """FEATURES 29"""
    simulator = KiteSimulator(KEY, TOKEN, USER)
    rng = random.Random(1)  # noqa: S311 - a reproducible script
    script = Demonstration(simulator, (INFY, "NFO:NIFTY25NOVFUT"), LegScheme.NET, rng, lot=D(1))
    script.seed_world()
    assert {script.step().partition(":")[0] for _ in range(18)} == set(KINDS)


def test_the_ticker_sends_every_change_to_the_session_and_refuses_another(sim: KiteSimulator) -> None:
    url = sim.start_ticker().replace("ws://", "http://")
    answer = requests.get(f"{url}/", params={"api_key": KEY, "access_token": "another"}, timeout=PATIENCE_S)
    assert answer.status_code == 403
    assert sim.start_ticker() == sim.start_ticker()


def test_closing_leaves_no_thread_and_no_socket_whatever_is_held_up() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    simulator = KiteSimulator(KEY, TOKEN, USER)
    simulator.start_ticker()
    url = simulator.start()
    port = int(url.rsplit(":", 1)[1])
    simulator.faults.add(Fault.TIMEOUT)
    failed = threading.Event()

    def hang() -> None:
        try:
            requests.get(f"{url}/orders", timeout=30)
        except requests.exceptions.RequestException:
            failed.set()

    waiting = threading.Thread(target=hang)
    waiting.start()
    while not simulator.requests:
        pass
    simulator.close()
    simulator.close()
    waiting.join(PATIENCE_S)
    assert failed.is_set()
    assert {thread.ident for thread in threading.enumerate()} <= before
    listening = {c.laddr.port for c in psutil.Process().net_connections() if c.status == "LISTEN"}
    assert port not in listening
