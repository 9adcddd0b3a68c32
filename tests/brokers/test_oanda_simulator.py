"""The simulated OANDA account: its REST paths through the SDK, its script, its faults, and that it leaves nothing."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import oandapyV20
import psutil
import pytest
import requests
from oandapyV20.endpoints import accounts, orders, positions, trades, transactions
from oandapyV20.exceptions import V20Error
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS

from brokers.model import Side
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.following import PATIENCE_S

D = Decimal
ACCOUNT = "101-001-1-001"
TOKEN = "a-token-of-tests"


@pytest.fixture
def sim() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT, TOKEN, instruments=["EUR_USD"])
    simulator.start()
    yield simulator
    simulator.close()


def ask(sim: OandaSimulator, endpoint: Any, token: str = TOKEN, timeout_s: float = PATIENCE_S) -> Any:
    url = sim.start()
    TRADING_ENVIRONMENTS[url] = {"api": url, "stream": url}
    with oandapyV20.API(token, environment=url, request_params={"timeout": timeout_s}) as api:
        return api.request(endpoint)


def status(sim: OandaSimulator, endpoint: Any, token: str = TOKEN) -> int:
    with pytest.raises(V20Error) as caught:
        ask(sim, endpoint, token)
    assert "errorMessage" in json.loads(str(caught.value))
    return int(caught.value.code)


def changes(sim: OandaSimulator, since: int) -> dict[str, list[Any]]:
    answer = ask(sim, accounts.AccountChanges(ACCOUNT, params={"sinceTransactionID": since}))
    return {key: rows for key, rows in answer["changes"].items() if rows}


def last(sim: OandaSimulator) -> int:
    return int(ask(sim, accounts.AccountSummary(ACCOUNT))["lastTransactionID"])


def test_it_meets_the_protocol_of_all_simulators(sim: OandaSimulator) -> None:
    as_protocol: Simulator = sim
    assert as_protocol.positions() == {}


def test_every_path_answers_the_sdk_with_numbers_in_strings(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", Side.BUY, D(100))
    order_id = sim.place_limit("EUR_USD", Side.BUY, D(5), D("0.5"), "mine")
    answers = {
        "list": ask(sim, accounts.AccountList())["accounts"][0]["id"],
        "details": ask(sim, accounts.AccountDetails(ACCOUNT))["account"]["positions"][0]["long"]["units"],
        "summary": ask(sim, accounts.AccountSummary(ACCOUNT))["account"]["openTradeCount"],
        "instruments": ask(sim, accounts.AccountInstruments(ACCOUNT))["instruments"][0]["name"],
        "orders": ask(sim, orders.OrderList(ACCOUNT))["orders"][0]["units"],
        "all orders": len(ask(sim, orders.OrderList(ACCOUNT, params={"state": "ALL"}))["orders"]),
        "pending": ask(sim, orders.OrdersPending(ACCOUNT))["orders"][0]["clientExtensions"]["id"],
        "order": ask(sim, orders.OrderDetails(ACCOUNT, "@mine"))["order"]["id"],
        "open positions": len(ask(sim, positions.OpenPositions(ACCOUNT))["positions"]),
        "positions": len(ask(sim, positions.PositionList(ACCOUNT))["positions"]),
        "open trades": ask(sim, trades.OpenTrades(ACCOUNT))["trades"][0]["currentUnits"],
        "trade": ask(sim, trades.TradeDetails(ACCOUNT, "3"))["trade"]["id"],
        "since": len(ask(sim, transactions.TransactionsSinceID(ACCOUNT, {"id": 1}))["transactions"]),
        "range": len(ask(sim, transactions.TransactionIDRange(ACCOUNT, {"from": 1, "to": 2}))["transactions"]),
        "transaction": ask(sim, transactions.TransactionDetails(ACCOUNT, "3"))["transaction"]["orderID"],
        "cancel": ask(sim, orders.OrderCancel(ACCOUNT, order_id))["orderCancelTransaction"]["reason"],
    }
    assert answers == {
        "list": ACCOUNT,
        "details": "100",
        "summary": 1,
        "instruments": "EUR_USD",
        "orders": "5",
        "all orders": 2,
        "pending": "mine",
        "order": order_id,
        "open positions": 1,
        "positions": 1,
        "open trades": "100",
        "trade": "3",
        "since": 3,
        "range": 2,
        "transaction": "2",
        "cancel": "CLIENT_REQUEST",
    }


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        (orders.OrderDetails(ACCOUNT, "99"), 404),
        (orders.OrderCancel(ACCOUNT, "99"), 404),
        (trades.TradeDetails(ACCOUNT, "99"), 404),
        (transactions.TransactionDetails(ACCOUNT, "99"), 404),
        (accounts.AccountDetails("101-9"), 403),
        (accounts.AccountChanges(ACCOUNT, params={"sinceTransactionID": 99}), 416),
        (accounts.AccountChanges(ACCOUNT, params={"sinceTransactionID": 0}), 416),
        (accounts.AccountChanges(ACCOUNT, params={"sinceTransactionID": "x"}), 400),
        (transactions.TransactionsSinceID(ACCOUNT, {"id": 99}), 416),
        (transactions.TransactionIDRange(ACCOUNT, {"from": 1, "to": 99}), 416),
    ],
    ids=str,
)
def test_what_is_not_there_is_an_error_as_v20_words_it(sim: OandaSimulator, endpoint: Any, code: int) -> None:
    assert status(sim, endpoint) == code


def test_another_token_is_unauthorized(sim: OandaSimulator) -> None:
    assert status(sim, accounts.AccountDetails(ACCOUNT), "another") == 401


def test_flat_positions_stay_listed_as_at_oanda(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", Side.BUY, D(100))
    sim.close_by_hand("EUR_USD")
    account = ask(sim, accounts.AccountDetails(ACCOUNT))["account"]
    assert (account["openPositionCount"], len(account["positions"])) == (0, 1)
    assert "averagePrice" not in account["positions"][0]["long"]


def test_opposite_orders_close_the_oldest_trades_first(sim: OandaSimulator) -> None:
    for price in ("1.1", "1.3"):
        sim.set_price("EUR_USD", D(price))
        sim.trade("EUR_USD", Side.BUY, D(10))
    sim.trade("EUR_USD", Side.SELL, D(15))
    (trade,) = ask(sim, trades.OpenTrades(ACCOUNT))["trades"]
    assert (trade["price"], trade["currentUnits"], trade["initialUnits"]) == ("1.3", "5", "10")
    fill = ask(sim, transactions.TransactionsSinceID(ACCOUNT, {"id": last(sim) - 1}))["transactions"][0]
    assert ([part["units"] for part in fill["tradesClosed"]], fill["tradeReduced"]["units"]) == (["-10"], "-5")


STEPS: dict[str, tuple[Callable[[OandaSimulator, str], object], set[str]]] = {
    "trade": (
        lambda sim, _: sim.trade("EUR_USD", Side.BUY, D(1)),
        {"transactions", "ordersCreated", "ordersFilled", "tradesOpened", "positions"},
    ),
    "place": (
        lambda sim, _: sim.place_limit("EUR_USD", Side.BUY, D(1), D(1)),
        {"transactions", "ordersCreated"},
    ),
    "fill": (
        lambda sim, order: sim.fill_order(order, D(5)),
        {"transactions", "ordersFilled", "tradesReduced", "positions"},
    ),
    "end": (lambda sim, order: sim.end_order(order, "EXPIRED"), {"transactions", "ordersCancelled"}),
    "replace": (
        lambda sim, order: sim.replace_order(order, D(2)),
        {"transactions", "ordersCancelled", "ordersCreated"},
    ),
    "set": (
        lambda sim, _: sim.set_position("EUR_USD", "long", D(3), D(1)),
        {"transactions", "tradesOpened", "tradesClosed", "positions"},
    ),
    "remove": (
        lambda sim, _: sim.set_position("EUR_USD", "long", D(0), D(1)),
        {"transactions", "tradesClosed", "positions"},
    ),
    "close": (
        lambda sim, _: sim.close_by_hand("EUR_USD"),
        {"transactions", "ordersCreated", "ordersFilled", "tradesClosed", "positions"},
    ),
    "reject": (lambda sim, _: sim.reject("EUR_USD", Side.BUY, D(1)), {"transactions"}),
    "nothing": (lambda sim, _: None, set()),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_a_script_shows_in_the_changes(sim: OandaSimulator, step: str) -> None:
    sim.trade("EUR_USD", Side.BUY, D(100))
    order_id = sim.place_limit("EUR_USD", Side.SELL, D(50), D("1.2"))
    since = last(sim)
    action, shown = STEPS[step]
    action(sim, order_id)
    changed = changes(sim, since)
    assert set(changed) == shown
    assert [int(row["id"]) for row in changed.get("transactions", [])] == list(range(since + 1, last(sim) + 1))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda sim: sim.fill_order("99"), "does not rest"),
        (lambda sim: sim.end_order("99"), "does not rest"),
        (lambda sim: sim.end_order("99", "LOST"), "LOST"),
        (lambda sim: sim.forget_order("99"), "no order 99"),
        (lambda sim: sim.set_position("EUR_USD", "long", D(-1), D(1)), "cannot hold"),
        (lambda sim: sim.place_dependent("EUR_USD", "long", "STOP_LOSS", D(1)), "no open trade"),
        (lambda sim: sim.place_dependent("EUR_USD", "long", "LIMIT", D(1)), "LIMIT"),
    ],
)
def test_a_script_that_makes_no_sense_says_so(
    sim: OandaSimulator, action: Callable[[OandaSimulator], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        action(sim)


@pytest.mark.parametrize(
    ("leg", "quantity", "expected"),
    [
        ("long", D(5), {("EUR_USD", "long"): D(5)}),
        ("short", D(-5), {("EUR_USD", "short"): D(-5)}),
        ("", D(-5), {("EUR_USD", "short"): D(-5)}),
        ("net", D(5), {("EUR_USD", "long"): D(5)}),
        ("", D(0), {}),
        ("long", D(0), {}),
        ("short", D(0), {("EUR_USD", "long"): D(100)}),
    ],
)
def test_a_position_is_set_exactly(
    sim: OandaSimulator, leg: str, quantity: Decimal, expected: dict[tuple[str, str], Decimal]
) -> None:
    sim.trade("EUR_USD", Side.BUY, D(100))
    sim.set_position("EUR_USD", leg, quantity, D("1.1"))
    assert sim.positions() == expected


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (Fault.TIMEOUT, requests.exceptions.ReadTimeout),
        (Fault.LATE, requests.exceptions.ReadTimeout),
        (Fault.RESET, requests.exceptions.ConnectionError),
        (Fault.HTML, json.JSONDecodeError),
        (Fault.HALF_BODY, requests.exceptions.ChunkedEncodingError),
        (Fault.SERVER_ERROR, 500),
        (Fault.UNAVAILABLE, 503),
        (Fault.RATE_LIMITED, 429),
        (Fault.UNAUTHORIZED, 401),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_each_fault_looks_to_the_sdk_as_the_real_thing_does(
    sim: OandaSimulator, fault: Fault, seen: type[Exception] | int
) -> None:
    sim.faults.add(fault, match="AccountDetails")
    assert ask(sim, accounts.AccountSummary(ACCOUNT))
    if isinstance(seen, int):
        assert status(sim, accounts.AccountDetails(ACCOUNT)) == seen
    else:
        with pytest.raises(seen):
            ask(sim, accounts.AccountDetails(ACCOUNT), timeout_s=0.3 if "Timeout" in seen.__name__ else PATIENCE_S)
    assert ask(sim, accounts.AccountDetails(ACCOUNT))


def test_an_empty_answer_contradicts_its_own_counts(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", Side.BUY, D(100))
    sim.faults.add(Fault.EMPTY)
    account = ask(sim, accounts.AccountDetails(ACCOUNT))["account"]
    assert (account["positions"], account["trades"], account["openPositionCount"]) == ([], [], 1)


def test_a_malformed_answer_has_one_broken_row_even_where_there_are_none(sim: OandaSimulator) -> None:
    sim.faults.add(Fault.MALFORMED_ROW, times=2)
    (row,) = ask(sim, accounts.AccountDetails(ACCOUNT))["account"]["positions"]
    assert "instrument" not in row
    sim.trade("EUR_USD", Side.BUY, D(100))
    (row,) = ask(sim, positions.OpenPositions(ACCOUNT))["positions"]
    assert "instrument" not in row


@pytest.mark.parametrize("hedging", [False, True], ids=["netting", "hedging"])
def test_a_dump_brings_back_the_whole_account(hedging: bool) -> None:
    """FEATURES 7"""
    first, second = (OandaSimulator(ACCOUNT, TOKEN, hedging=hedging, seed=seed) for seed in (1, 2))
    try:
        first.trade("EUR_USD", Side.BUY, D("100.5"), "mine")
        first.trade("EUR_USD", Side.SELL, D(30))
        first.place_limit("GBP_JPY", Side.SELL, D(50), D("191.2"))
        first.place_dependent("EUR_USD", "long", "STOP_LOSS", D("0.5"))
        second.load(first.dump())
        assert second.dump() == first.dump()
        for endpoint in (accounts.AccountDetails(ACCOUNT), transactions.TransactionsSinceID(ACCOUNT, {"id": 1})):
            assert ask(second, endpoint) == ask(first, endpoint)
        order_id = second.trade("EUR_USD", Side.BUY, D(1))
        assert int(order_id) == last(first) + 1
    finally:
        first.close()
        second.close()


def test_prices_are_made_up_the_same_way_for_the_same_seed() -> None:
    prices = [OandaSimulator(ACCOUNT, TOKEN, seed=seed).price("GBP_JPY") for seed in (1, 1, 2)]
    assert prices[0] == prices[1] != prices[2]


def test_closing_leaves_no_thread_and_no_socket_whatever_clients_do() -> None:
    threads = set(threading.enumerate())
    sim = OandaSimulator(ACCOUNT, TOKEN)
    port = urlsplit(sim.start()).port
    assert port is not None
    clients = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(3)]
    head = {"Authorization": f"Bearer {TOKEN}"}
    clients[0].request("GET", "/v3/accounts", headers=head)
    assert clients[0].getresponse().status == 200  # kept alive, idle
    sim.faults.add(Fault.TIMEOUT, match="AccountDetails")
    clients[1].request("GET", f"/v3/accounts/{ACCOUNT}", headers=head)  # held up
    clients[2].connect()  # says nothing
    sim.close()
    sim.close()
    for client in clients:
        client.close()
    assert set(threading.enumerate()) <= threads
    listening = [c.laddr for c in psutil.Process().net_connections("tcp4") if c.status == psutil.CONN_LISTEN]
    assert not [address for address in listening if address[1] == port]
    again = sim.start(port)
    assert urlsplit(again).port == port
    sim.close()
