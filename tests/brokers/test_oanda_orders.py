"""Single orders of an OANDA account, and those that depend on a trade."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from brokers.errors import Malformed, Refused
from brokers.model import (
    OrderQuery,
    OrderStatus,
)
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.at_oanda import ACCOUNT, BUY, SELL, TOKEN, D, broker, held_account, query
from tests.brokers.listeners import answering, http_answer
from tests.brokers.reading import Time, calls_have_ended, orders

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    calls_have_ended("oanda-")


@pytest.fixture
def sim() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT, TOKEN, instruments=["EUR_USD", "GBP_JPY"])
    simulator.start()
    yield simulator
    simulator.close()


# -- orders --------------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[Callable[[OandaSimulator, str], object], OrderStatus, int]] = {
    "filled": (lambda sim, order: sim.fill_order(order), OrderStatus.FILLED, 50),
    "replaced": (lambda sim, order: sim.replace_order(order, D("191.5")), OrderStatus.CANCELLED, 0),
}


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.replace(" ", "-"))
async def test_an_order_that_ended_is_still_shown_when_the_account_is_read_whole_again(
    sim: OandaSimulator, how: str
) -> None:
    """FEATURES 5, FEATURES 18"""
    end, status, filled = ENDS[how]
    order_id = held_account(sim)
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.snapshot(None)
        end(sim, order_id)
        (answer,) = await adapter.find_orders([query(order_id)])
        shown = [orders(await adapter.snapshot(None))[order_id] for _ in range(2)]
        time.passes(1000)
        shown.append(orders(await adapter.snapshot(None))[order_id])
    assert answer.failure is None
    assert [answer.order] * 3 == shown
    assert (shown[0].status, shown[0].filled_quantity, shown[0].quantity) == (status, D(filled), D(50))
    assert (shown[0].average_fill_price is None) is (filled == 0)
    assert (shown[0].replaced_by is not None) is (how == "replaced")
    assert [row.quantity for row in answer.fills] == ([D(filled)] if filled else [])


async def test_an_order_is_found_by_client_id_however_it_is_written(sim: OandaSimulator) -> None:
    names = ["plain", "a/b?c=#1 %41 é", "@at"]
    ids = [sim.place_limit("EUR_USD", BUY, D(1), D("1.1"), name) for name in names]
    async with broker(sim) as adapter:
        answers = await adapter.find_orders([query(None, name) for name in names])
    assert [answer.order and answer.order.broker_order_id for answer in answers] == ids


async def test_an_id_that_is_none_is_the_id_of_no_order(sim: OandaSimulator) -> None:
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([query("no number")])
    assert (answer.order, answer.failure) == (None, None)


async def test_an_order_refused_at_creation_is_found_and_shown_as_rejected(sim: OandaSimulator) -> None:
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        number = sim.reject("EUR_USD", BUY, D(5), "refused")
        (by_id,) = await adapter.find_orders([query(number)])
        shown = orders(await adapter.snapshot(None))[number]
        (by_name,) = await adapter.find_orders([query(None, "refused")])
        assert shown.status is OrderStatus.REJECTED
        assert shown == by_id.order == by_name.order


async def test_an_order_refused_while_nobody_looked_is_found_and_shown_as_rejected(sim: OandaSimulator) -> None:
    """FEATURES 5: after a restart the transactions since the cursor are all that shows it."""
    held_account(sim)
    async with broker(sim) as before:
        cursor = (await before.snapshot(None)).fills_cursor
    number = sim.reject("EUR_USD", BUY, D(5), "refused")
    async with broker(sim) as adapter:
        shown = orders(await adapter.snapshot(cursor))[number]
        (answer,) = await adapter.find_orders([query(None, "refused")])
    assert (shown.status, shown.client_order_id) == (OrderStatus.REJECTED, "refused")
    assert shown.reason
    assert answer.order == shown


async def test_an_order_refused_before_anybody_ever_looked_is_found_by_its_client_id(sim: OandaSimulator) -> None:
    """FEATURES 23"""
    sim.reject("EUR_USD", BUY, D(5), "refused")
    held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        (answer,) = await adapter.find_orders([query(None, "refused")])
        assert answer.order is not None
        assert answer.order.status is OrderStatus.REJECTED
        before = adapter.calls
        (unknown,) = await adapter.find_orders([query(None, "another")])
        assert (unknown.order, unknown.failure) == (None, None)
        assert adapter.calls - before == 1, "what was before is read once"


async def test_where_the_transactions_before_cannot_be_read_nothing_is_said_of_an_unknown_order(
    sim: OandaSimulator,
) -> None:
    """PEERS 12"""
    held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        sim.faults.add(Fault.SERVER_ERROR, times=9, match="sinceid")
        (answer,) = await adapter.find_orders([query(None, "another")])
        assert answer.failure is not None


NO_SUCH = json.dumps({"errorMessage": "The transaction ID specified does not exist"}).encode()


@contextmanager
def ended_order(transaction: bytes, **fields: object) -> Iterator[str]:
    """A broker with one order that has ended, and this answer to the question how."""
    row = {"id": "20", "type": "LIMIT", "instrument": "EUR_USD", "units": "100", "price": "1.1", **fields}
    found = http_answer(json.dumps({"order": row, "lastTransactionID": "30"}).encode())
    with answering(lambda request: iter([transaction if b"/transactions/" in request else found])) as url:
        yield url


ENDED = {
    "filled, transaction gone": ({"state": "FILLED", "fillingTransactionID": "21"}, OrderStatus.FILLED, 100),
    "filled, no transaction": ({"state": "FILLED"}, OrderStatus.FILLED, 100),
    "cancelled, transaction gone": ({"state": "CANCELLED", "cancellingTransactionID": "21"}, OrderStatus.CANCELLED, 0),
    "cancelled, no transaction": ({"state": "CANCELLED"}, OrderStatus.CANCELLED, 0),
}


@pytest.mark.parametrize("how", ENDED, ids=lambda how: how.replace(" ", "-"))
async def test_an_order_that_ended_without_a_transaction_is_answered_by_its_own_word(how: str) -> None:
    """FEATURES 5"""
    fields, status, filled = ENDED[how]
    with ended_order(http_answer(NO_SUCH, "404 Not Found"), **fields) as url:
        async with broker(url) as adapter:
            (answer,) = await adapter.find_orders([query("20")])
    assert (answer.failure, answer.fills) == (None, ())
    assert answer.order is not None
    assert (answer.order.status, answer.order.filled_quantity) == (status, D(filled))
    assert (answer.order.average_fill_price, answer.order.reason) == (None, None)


@pytest.mark.parametrize("end", [{"fillingTransactionID": "21"}, {"cancellingTransactionID": "21"}], ids=str)
@pytest.mark.parametrize(
    ("status", "body"), [("500 Oops", NO_SUCH), ("404 Not Found", b"<html>")], ids=["server error", "no word of it"]
)
async def test_how_an_order_ended_is_not_known_while_the_transaction_cannot_be_read(
    end: dict[str, str], status: str, body: bytes
) -> None:
    """PEERS 12"""
    state = "FILLED" if "fillingTransactionID" in end else "CANCELLED"
    with ended_order(http_answer(body, status), state=state, **end) as url:
        async with broker(url) as adapter:
            (answer,) = await adapter.find_orders([query("20")])
    assert answer.failure is not None
    assert answer.order is None


async def test_how_much_of_its_trade_an_order_closed_is_not_guessed() -> None:
    trade = {"id": "5", "instrument": "EUR_USD", "initialUnits": "100", "currentUnits": "0"}
    row = {"id": "20", "type": "TAKE_PROFIT", "tradeID": "5", "state": "FILLED", "price": "1.1"}

    def answer(request: bytes) -> Iterator[bytes]:
        yield http_answer(json.dumps({"trade": trade} if b"/trades/" in request else {"order": row}).encode())

    with answering(answer) as url:
        async with broker(url) as adapter:
            (found,) = await adapter.find_orders([query("20")])
    assert found.failure is not None
    assert found.order is None


@pytest.mark.parametrize(
    ("body", "proves"),
    [
        (b'{"errorCode": "NO_SUCH_ORDER", "errorMessage": "The order specified does not exist"}', True),
        (b'{"errorCode": "ORDER_DOESNT_EXIST"}', True),
        (b'{"errorMessage": "The order ID specified does not exist"}', True),
        (b"", False),
        (b"<html>nginx</html>", False),
        (b"[]", False),
        (b'"errorMessage"', False),
        (b"{}", False),
        (b'{"message": "no route"}', False),
        (b'{"errorMessage": ""}', False),
        (b'{"errorMessage": 5}', False),
    ],
)
@pytest.mark.parametrize("asked", [query("20"), query(None, "mine")], ids=["id", "name"])
async def test_only_the_brokers_own_words_prove_that_it_has_no_such_order(
    asked: OrderQuery, body: bytes, proves: bool
) -> None:
    """PEERS 12: a proxy says 404, too."""
    with answering(lambda _: iter([http_answer(body, "404 Not Found")])) as url:
        async with broker(url) as adapter:
            (answer,) = await adapter.find_orders([asked])
            with pytest.raises(Refused if proves else Malformed):
                await adapter.cancel_order(asked)
    assert answer.order is None
    assert (answer.failure is None) is proves


async def test_orders_that_depend_on_a_trade_follow_it_to_its_end(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", BUY, D(100))
    stop = sim.place_dependent("EUR_USD", "long", "STOP_LOSS", D("0.5"))
    take = sim.place_dependent("EUR_USD", "long", "TAKE_PROFIT", D("2.5"))
    async with broker(sim) as adapter:
        first = orders(await adapter.snapshot(None))
        sim.trade("EUR_USD", SELL, D(40))
        second = orders(await adapter.snapshot(None))
        sim.fill_order(take)
        third = orders(await adapter.snapshot(None))
        answers = await adapter.find_orders([query(stop), query(take)])
        assert adapter.calls <= 3 + 2 + 3
    assert [(row[stop].instrument, row[stop].side, row[stop].quantity) for row in (first, second)] == [
        ("EUR_USD", SELL, D(100)),
        ("EUR_USD", SELL, D(60)),
    ]
    assert (third[stop].status, third[stop].reason) == (OrderStatus.CANCELLED, "LINKED_TRADE_CLOSED")
    assert (third[take].status, third[take].filled_quantity) == (OrderStatus.FILLED, D(60))
    assert [answer.order and answer.order.status for answer in answers] == [OrderStatus.CANCELLED, OrderStatus.FILLED]
