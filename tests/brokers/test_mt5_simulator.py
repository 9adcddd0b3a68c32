"""The simulated MT5 terminal: its books, its wire and its faults, seen through a bare REQ socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest
import zmq

from brokers.model import Side
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.mt5 import Mt5Simulator
from tests.brokers.following import PATIENCE_S

D = Decimal


class Client:
    """A bare client: one REQ socket."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.REQ)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.REQ_RELAXED, 1)
        self.socket.connect(endpoint)

    def send(self, **request: object) -> None:
        self.socket.send(json.dumps(request).encode())

    def raw(self, within_s: float, **request: object) -> bytes | None:
        self.send(**request)
        return self.socket.recv() if self.socket.poll(round(1000 * within_s)) else None

    def ask(self, **request: object) -> dict[str, object]:
        body = self.raw(PATIENCE_S, **request)
        assert body is not None
        reply = json.loads(body)
        assert isinstance(reply, dict)
        return reply

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def simulator() -> Iterator[Mt5Simulator]:
    made = Mt5Simulator(instruments=["EURUSD"])
    yield made
    made.close()


@pytest.fixture
def client(simulator: Mt5Simulator) -> Iterator[Client]:
    made = Client(simulator.start())
    yield made
    made.close()


def rows(reply: dict[str, object], key: str) -> list[dict[str, object]]:
    found = reply[key]
    assert isinstance(found, list)
    return found


def test_it_meets_the_protocol_of_all_simulators(simulator: Mt5Simulator) -> None:
    shared: Simulator = simulator
    assert shared.requests == ()


def test_the_documented_request_has_the_documented_reply(simulator: Mt5Simulator, client: Client) -> None:
    """FEATURES 16: the keys of the gateway's documentation."""
    simulator.set_position("EURUSD", "123456", D("-0.01"), D("1.0543"))
    reply = client.ask(action="GET_POSITIONS", symbol="*")
    (row,) = rows(reply, "positions")
    assert reply["status"] == "SUCCESS"
    assert set(row) == {"ticket", "identifier", "symbol", "type", "volume", "price_open", "profit", "time"}
    assert (row["ticket"], row["type"], row["volume"], row["price_open"]) == (123456, "sell", 0.01, 1.0543)
    assert client.ask(action="GET_POSITIONS", symbol="GBPUSD")["positions"] == []
    assert simulator.requests == ("GET_POSITIONS", "GET_POSITIONS")


def test_the_extension_answers_with_its_documented_keys(simulator: Mt5Simulator, client: Client) -> None:
    ticket = simulator.place_limit("EURUSD", Side.BUY, D("0.3"), D("1.0"), "mine")
    simulator.fill_order(ticket, D("0.1"))
    (order,) = rows(client.ask(action="GET_ORDERS", symbol="*", ticket=int(ticket)), "orders")
    assert (order["type"], order["state"], order["volume_initial"], order["volume_current"]) == (
        "buy_limit",
        "PARTIAL",
        0.3,
        0.2,
    )
    (deal,) = rows(client.ask(action="GET_DEALS", symbol="EURUSD", since=0), "deals")
    assert (deal["order"], deal["position_id"], deal["entry"], deal["volume"]) == (int(ticket), int(ticket), "in", 0.1)
    assert client.ask(action="GET_DEALS", symbol="*", since=2**40)["deals"] == []
    account = client.ask(action="GET_ACCOUNT", request_id="r1")
    assert (account["login"], account["margin_mode"], account["request_id"]) == (5001, "hedging", "r1")
    assert set(client.ask(action="PING")) == {"status", "time"}
    assert client.ask(action="DANCE") == {"status": "ERROR", "error": "unknown action DANCE"}


def test_a_base_gateway_knows_positions_only_and_may_echo_nothing() -> None:
    simulator = Mt5Simulator(base_only=True, echo_request_id=False)
    client = Client(simulator.start())
    try:
        assert client.ask(action="GET_POSITIONS", symbol="*", request_id="1") == {"status": "SUCCESS", "positions": []}
        assert client.ask(action="GET_ORDERS", symbol="*")["error"] == "unknown action GET_ORDERS"
    finally:
        client.close()
        simulator.close()


def test_a_hedging_account_opens_a_position_for_each_trade(simulator: Mt5Simulator) -> None:
    first = simulator.trade("EURUSD", Side.BUY, D("0.3"))
    second = simulator.trade("EURUSD", Side.SELL, D("0.1"))
    assert simulator.positions() == {("EURUSD", first): D("0.3"), ("EURUSD", second): D("-0.1")}
    simulator.close_position(first, D("0.2"))
    assert simulator.positions()["EURUSD", first] == D("0.1")
    simulator.close_by_hand("EURUSD")
    assert simulator.positions() == {}


@pytest.mark.parametrize(
    ("trades", "quantity", "price", "entries"),
    [
        ([("BUY", "1", "10"), ("BUY", "1", "20")], "2", "15", ["in", "in"]),
        ([("BUY", "2", "10"), ("SELL", "1", "20")], "1", "10", ["in", "out"]),
        ([("BUY", "1", "10"), ("SELL", "3", "20")], "-2", "20", ["in", "inout"]),
        ([("SELL", "1", "10"), ("BUY", "1", "20")], None, None, ["in", "out"]),
    ],
    ids=["increase averages", "reduction keeps the price", "reversal", "flat"],
)
def test_a_netting_account_keeps_one_position_a_symbol(
    trades: list[tuple[str, str, str]], quantity: str | None, price: str | None, entries: list[str]
) -> None:
    simulator = Mt5Simulator(margin_mode="netting")
    client = Client(simulator.start())
    try:
        for side, lots, at in trades:
            simulator.set_price("EURUSD", D(at))
            simulator.trade("EURUSD", Side(side), D(lots))
        expected = {("EURUSD", "net"): D(quantity)} if quantity else {}
        assert simulator.positions() == expected
        shown = rows(client.ask(action="GET_POSITIONS", symbol="*"), "positions")
        assert [row["price_open"] for row in shown] == ([float(price)] if price else [])
        assert [row["entry"] for row in rows(client.ask(action="GET_DEALS", since=0), "deals")] == entries
    finally:
        client.close()
        simulator.close()


def test_a_position_can_be_set_changed_and_taken_away_without_a_trace(simulator: Mt5Simulator) -> None:
    leg = simulator.set_position("EURUSD", "", D("0.3"), D("1.1"))
    assert simulator.set_position("EURUSD", leg, D("-0.2"), D("1.1")) == leg
    assert simulator.positions() == {("EURUSD", leg): D("-0.2")}
    simulator.set_position("EURUSD", leg, D("0"), D("0"))
    assert simulator.positions() == {}


@pytest.mark.parametrize(
    ("how", "state"), [("CANCELLED", "CANCELED"), ("EXPIRED", "EXPIRED"), ("REJECTED", "REJECTED")]
)
def test_an_order_ends_once_and_can_be_forgotten(simulator: Mt5Simulator, client: Client, how: str, state: str) -> None:
    ticket = simulator.place_limit("EURUSD", Side.SELL, D("0.3"), D("2"))
    simulator.end_order(ticket, how)
    assert rows(client.ask(action="GET_ORDERS", symbol="*"), "orders")[0]["state"] == state
    with pytest.raises(KeyError):
        simulator.fill_order(ticket)
    simulator.forget_order(ticket)
    assert client.ask(action="GET_ORDERS", symbol="*")["orders"] == []


def test_no_more_is_filled_than_remains(simulator: Mt5Simulator) -> None:
    ticket = simulator.place_limit("EURUSD", Side.BUY, D("0.3"), D("1"))
    with pytest.raises(ValueError, match="remains"):
        simulator.fill_order(ticket, D("0.4"))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.SERVER_ERROR, b'"ERROR"'),
        (Fault.UNAVAILABLE, b"no connection"),
        (Fault.RATE_LIMITED, b"too many requests"),
        (Fault.UNAUTHORIZED, b"unauthorized"),
        (Fault.HTML, b"<html>"),
        (Fault.HALF_BODY, b'{"status": '),
        (Fault.EMPTY, b'"positions": []'),
        (Fault.MALFORMED_ROW, b'"positions": [{'),
        (Fault.TIMEOUT, None),
        (Fault.RESET, None),
        (Fault.LATE, None),
    ],
)
def test_it_misbehaves_once_as_asked_and_then_behaves(
    simulator: Mt5Simulator, client: Client, fault: Fault, expected: bytes | None
) -> None:
    simulator.set_position("EURUSD", "7", D("0.1"), D("1.1"))
    healthy = client.raw(PATIENCE_S, action="GET_POSITIONS", symbol="*")
    simulator.faults.add(fault, match="POSITIONS")
    assert client.ask(action="PING")["status"] == "SUCCESS"
    found = client.raw(0.2 if expected is None else PATIENCE_S, action="GET_POSITIONS", symbol="*")
    assert found != healthy
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert expected in found
    fresh = Client(simulator.start())
    try:
        assert fresh.raw(PATIENCE_S, action="GET_POSITIONS", symbol="*") == healthy
    finally:
        fresh.close()


def test_a_late_reply_meets_the_next_request_of_a_careless_client(simulator: Mt5Simulator, client: Client) -> None:
    """PEERS 7: without correlation the previous answer is taken for the present one."""
    simulator.faults.add(Fault.LATE)
    assert client.raw(0.2, action="GET_POSITIONS", symbol="*", request_id="old") is None
    assert client.ask(action="GET_POSITIONS", symbol="*", request_id="new")["request_id"] == "old"


def test_its_state_survives_a_dump_and_a_load(simulator: Mt5Simulator) -> None:
    simulator.trade("EURUSD", Side.BUY, D("0.3"), "c1")
    resting = simulator.place_limit("USDJPY", Side.SELL, D("0.2"), D("150"))
    other = Mt5Simulator()
    other.load(simulator.dump())
    assert other.dump() == simulator.dump()
    assert other.positions() == simulator.positions()
    other.fill_order(resting)
    assert len(other.positions()) == 2


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"prices": 1}', "half a"])
def test_a_state_that_is_none_is_rejected_and_changes_nothing(simulator: Mt5Simulator, text: str) -> None:
    simulator.trade("EURUSD", Side.BUY, D("0.3"))
    before = simulator.dump()
    with pytest.raises(ValueError, match="no state"):
        simulator.load(text)
    assert simulator.dump() == before


def test_the_price_of_an_instrument_is_made_up_the_same_way_each_time() -> None:
    assert Mt5Simulator(seed=3).price("EURUSD") == Mt5Simulator(seed=3).price("EURUSD") > 0


def test_closing_leaves_no_thread_and_it_starts_again_on_its_port(simulator: Mt5Simulator) -> None:
    before = threading.active_count()
    endpoint = simulator.start()
    assert simulator.start() == endpoint
    simulator.close()
    simulator.close()
    assert threading.active_count() == before
    assert simulator.start(int(endpoint.rpartition(":")[2])) == endpoint


def test_garbage_is_answered_in_words(client: Client) -> None:
    client.socket.send(b"\xff not json")
    assert json.loads(client.socket.recv())["status"] == "ERROR"
    client.socket.send(b"[]")
    assert json.loads(client.socket.recv())["status"] == "ERROR"
