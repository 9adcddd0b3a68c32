"""The Interactive Brokers adapter over real sockets: ib_async against the simulated TWS, and against what is none."""

from __future__ import annotations

import asyncio
import pickle
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import IbBroker
from brokers.model import (
    Complete,
    Conventions,
    CostBasis,
    Failed,
    LegScheme,
    OrderQuery,
    OrderStatus,
    Side,
    StreamedFill,
    problems_of,
    rows_of,
)
from brokers.port import Broker
from brokers.simulators import ib_wire
from brokers.simulators.base import Fault
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_wire import SimContract
from tests.brokers.at_ib import (
    EARLIER,
    OPTION,
    OPTION_ON_MSFT,
    SHORT_TIMEOUT_S,
    TIMEOUT_S,
    D,
    completeness,
    connected,
    simulated,
)
from tests.brokers.following import eventually
from tests.brokers.reading import fill_ids, held, now


@pytest.fixture
def tws() -> Iterator[IbSimulator]:
    with simulated() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    threads = set(threading.enumerate())
    yield
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}
    assert {thread.name for thread in set(threading.enumerate()) - threads if thread.name != "ib-simulator"} == set()


def test_it_meets_the_port() -> None:
    broker: Broker = IbBroker("options", "127.0.0.1", 1, 1, "DU1", None, 1, now)
    assert broker.calls == 0
    assert repr(broker) == "IbBroker('options', 'DU1')"


# -- the connection ----------------------------------------------------------------------------------------------


async def test_connecting_asks_for_no_list_and_binds_no_orders(tws: IbSimulator) -> None:
    """A default connect of the SDK returns normally with positions that never came, and with client id 0 binds manual
    orders."""
    async with connected(tws, client_id=0) as broker:
        await eventually(lambda: tws.requests == ("connect", "startApi", "reqAccountUpdates"))
        assert broker.calls == 2


@pytest.mark.parametrize(
    ("fault", "match", "kind", "words"),
    [
        (Fault.TIMEOUT, "connect", Unreachable, "no answer within"),
        (Fault.RESET, "connect", Unreachable, "before logging us on"),
        (Fault.HTML, "connect", Malformed, "it speaks HTTP"),
        (Fault.HALF_BODY, "connect", Unreachable, "before logging us on"),
        (Fault.TIMEOUT, "startApi", Unreachable, "no answer within"),
        (Fault.RESET, "startApi", Unreachable, "before logging us on"),
        (Fault.UNAUTHORIZED, "startApi", Refused, "TWS said 326"),
        (Fault.RATE_LIMITED, "startApi", Unreachable, "100: Max rate"),
    ],
)
async def test_a_connection_that_does_not_come_about_says_why(
    tws: IbSimulator, fault: Fault, match: str, kind: type[BrokerError], words: str
) -> None:
    tws.faults.add(fault, match=match)
    async with connected(
        tws, timeout_s=SHORT_TIMEOUT_S if fault is Fault.TIMEOUT else TIMEOUT_S, connect=False
    ) as broker:
        with pytest.raises(kind, match=words) as caught:
            await broker.connect()
        assert "options" in str(caught.value)
        assert str(tws.port) in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own
        await broker.connect()  # may be called again


@pytest.mark.parametrize(
    ("greeting", "kind", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", Malformed, "something that is no TWS answers there"),
        (b"\x15\x03\x03\x00\x02\x02\x46", Malformed, "something that is no TWS answers there"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Malformed, "something that is no TWS answers there"),
        (ib_wire.frame(["one", "two", "three"]), Malformed, "something that is no TWS answers there"),
        (ib_wire.frame(["150", "20200101"]), Refused, "Update TWS"),
        (b"", Unreachable, "no answer within"),
    ],
    ids=["web server", "TLS alert", "ssh", "another protocol", "a TWS too old", "silence"],
)
async def test_something_else_on_the_port_is_distinguished(
    greeting: bytes, kind: type[BrokerError], words: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    broker = IbBroker(
        "options", "127.0.0.1", port, 17, "DU1", None, SHORT_TIMEOUT_S if not greeting else TIMEOUT_S, now
    )
    try:
        with pytest.raises(kind, match=words):
            await broker.connect()
    finally:
        await broker.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


async def test_an_account_that_the_login_does_not_have_is_refused_by_both_names() -> None:
    with simulated(accounts=("DU8", "DU9")) as simulator:
        async with connected(simulator, connect=False) as broker:
            with pytest.raises(Refused, match="has DU8, DU9, and DU1 is configured"):
                await broker.connect()


async def test_a_client_id_in_use_is_refused_at_first_and_passes_at_a_reconnect(tws: IbSimulator) -> None:
    """FEATURES 26: one connection; error 326 is fatal on the first connect and transient later."""
    async with connected(tws, client_id=17) as broker, connected(tws, client_id=17, connect=False) as second:
        with pytest.raises(Refused, match=r"client 17 already: give this account a client_id of its own"):
            await second.connect()
        tws.faults.add(Fault.UNAUTHORIZED, times=2, match="startApi")
        await broker.connect()
        assert completeness(await broker.snapshot(None)) == "COMPLETE COMPLETE COMPLETE"
        tws.faults.add(Fault.UNAUTHORIZED, times=9, match="startApi")
        with pytest.raises(Unreachable, match="tried again by itself"):
            await broker.connect()


# -- a snapshot --------------------------------------------------------------------------------------------------


async def test_a_snapshot_holds_stocks_options_futures_orders_and_fills() -> None:
    """FEATURES 24: the periodic full snapshot."""
    with simulated() as tws:
        tws.trade("AAPL", Side.BUY, D(10), "c1")
        tws.set_position("ESZ6", "net", D(-2), D("6302.295"))
        tws.set_position(OPTION, "net", D(3), D("5.123"))
        resting = tws.place_limit("AAPL", Side.SELL, D(4), D(300), "c2")
        tws.fill_order(resting, D(1))
        async with connected(tws) as broker:
            first = await broker.snapshot(None)
            assert completeness(first) == "COMPLETE COMPLETE COMPLETE"
            assert first.conventions == Conventions(
                LegScheme.NET, CostBasis.WEIGHTED, commission_in_average=True, unique_client_ids=True
            )
            assert held(first) == tws.positions()
            prices = {row.instrument: row.average_price for row in rows_of(first.positions)}
            assert (prices["ESZ6"], prices[OPTION]) == (D("6302.295"), D("5.123"))
            shown = {order.broker_order_id: order for order in rows_of(first.orders)}
            assert shown[resting].status is OrderStatus.PARTIALLY_FILLED
            assert (shown[resting].filled_quantity, shown[resting].average_fill_price) == (D(1), D(300))
            assert {order.client_order_id for order in shown.values()} == {"c1", "c2"}
            assert rows_of(first.fills) == ()
            last = tws.fill_order(resting)
            second = await broker.snapshot(first.fills_cursor)
            assert fill_ids(second) == [last]
            (fill,) = rows_of(second.fills)
            assert (fill.side, fill.quantity, fill.price, fill.broker_order_id) == (Side.SELL, D(3), D(300), resting)
            assert first.fills_cursor is not None
            assert second.fills_cursor is not None
            assert second.fills_cursor > first.fills_cursor
            assert fill.time > first.as_of - timedelta(seconds=1)


async def test_what_the_first_positions_contain_is_not_dated_after_them() -> None:
    """A book begins with these positions: a fill dated after them would be applied on top."""
    with simulated(clock=now) as tws:
        tws.trade("AAPL", Side.BUY, D(1))
        async with connected(tws) as broker:
            first = await broker.snapshot(None)
            again = await broker.snapshot((first.fills_cursor or 0) - 1)
            (fill,) = rows_of(again.fills)
            assert fill.time <= first.as_of


@pytest.mark.parametrize("orders_by", [None, 5, 17], ids=["by hand", "by another client", "by this client"])
async def test_orders_of_everybody_are_shown_working_and_completed(orders_by: int | None) -> None:
    """PEERS 14: manual or other-client orders and closes are seen while running."""
    with simulated(orders_by=orders_by) as tws:
        async with connected(tws) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            resting, filled = tws.place_limit("AAPL", Side.BUY, D(2), D(9)), tws.trade("AAPL", Side.BUY, D(3))
            snapshot = await broker.snapshot(cursor)
            shown = {order.broker_order_id: order.status for order in rows_of(snapshot.orders)}
            assert shown == {resting: OrderStatus.OPEN, filled: OrderStatus.FILLED}
            assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [filled]


@pytest.mark.parametrize(
    ("sec_types", "expected"),
    [
        (None, {"AAPL", "ESZ6", OPTION}),
        (("STK",), {"AAPL"}),
        (("OPT", "STK"), {"AAPL", OPTION}),
    ],
)
async def test_only_the_security_types_looked_after_are_shown(
    tws: IbSimulator, sec_types: tuple[str, ...] | None, expected: set[str]
) -> None:
    """FEATURES 25: filters by security type."""
    for name in ("AAPL", "ESZ6", OPTION):
        tws.trade(name, Side.BUY, D(1))
        tws.place_limit(name, Side.BUY, D(1), D(1))
    async with connected(tws, sec_types=sec_types) as broker:
        snapshot = await broker.snapshot(EARLIER)
        assert {row.instrument for row in rows_of(snapshot.positions)} == expected
        assert {row.instrument for row in rows_of(snapshot.orders)} == expected
        assert completeness(await broker.snapshot(snapshot.fills_cursor)) == "COMPLETE COMPLETE COMPLETE"


def sold_again(tws: IbSimulator) -> str:
    tws.trade("AAPL", Side.BUY, D(1))
    return tws.trade("AAPL", Side.SELL, D(1))


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (lambda tws: tws.set_position("AAPL", "net", D(100), D(1)), "there is a position of it"),
        (lambda tws: tws.place_limit("AAPL", Side.BUY, D(1), D(1)), "there is a working order of it"),
        (sold_again, "there is an order of today of it"),
        (lambda tws: None, None),
    ],
    ids=["position", "order", "execution", "nothing"],
)
@pytest.mark.parametrize("full_every_s", [0, 60], ids=["read whole", "carried on"])
async def test_an_instrument_of_which_the_filter_leaves_a_row_out_is_named_and_its_orders_are_not_denied(
    tws: IbSimulator, does: Callable[[IbSimulator], object], words: str | None, full_every_s: float
) -> None:
    """FEATURES 25: what a filter leaves out is never flat."""
    sec_types, instruments = ("OPT",), ("AAPL", OPTION_ON_MSFT)
    async with connected(tws, sec_types=sec_types, instruments=instruments, full_every_s=full_every_s) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        does(tws)
        tws.trade(OPTION_ON_MSFT, Side.BUY, D(2))
        for _ in range(3):
            snapshot = await broker.snapshot(cursor)
            assert held(snapshot) == {(OPTION_ON_MSFT, "net"): D(2)}
            assert OPTION_ON_MSFT not in snapshot.left_out
            assert (words or "nothing") in snapshot.left_out.get("AAPL", "nothing")
        query = OrderQuery("AAPL", "12345", None)
        (answer,) = await broker.find_orders([query])
        assert (answer.failure is None) is (words is None or "a position" in words)
        assert words is None or "Add STK to `sec_types`, or take AAPL from the instruments" in snapshot.left_out["AAPL"]


async def test_what_the_filter_left_out_is_flat_when_no_row_of_it_is_left(tws: IbSimulator) -> None:
    tws.set_position("AAPL", "net", D(100), D(1))
    async with connected(tws, sec_types=("OPT",), instruments=("AAPL",), full_every_s=60) as broker:
        assert "AAPL" in (await broker.snapshot(EARLIER)).left_out
        tws.set_position("AAPL", "net", D(0), D(0))
        snapshot = await broker.snapshot(EARLIER)
        assert dict(snapshot.left_out) == {}
        assert snapshot.positions == Complete()


async def test_one_contract_under_two_configured_names_is_unknown_under_both(tws: IbSimulator) -> None:
    tws.set_position("AAPL", "net", D(100), D(1))
    con_id = str(ib_wire.contract_named("AAPL").con_id)
    async with connected(tws, instruments=("AAPL", con_id)) as broker:
        snapshot = await broker.snapshot(EARLIER)
        assert held(snapshot) == {}
        problems = problems_of(snapshot.positions)
        assert {problem.instrument for problem in problems} == {"AAPL", con_id}
        assert all(f"{con_id} and AAPL are configured" in problem.text for problem in problems)


async def test_a_tws_that_has_just_started_and_shows_nothing_yet_is_not_believed_at_once(tws: IbSimulator) -> None:
    """PEERS 1: an empty answer after an error."""
    tws.trade("AAPL", Side.BUY, D(3))
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.drop()
        tws.faults.add(Fault.EMPTY, times=2, match="reqPositions")
        assert isinstance((await broker.snapshot(cursor)).positions, Failed)
        assert held(await broker.snapshot(cursor)) == {("AAPL", "net"): D(3)}
        tws.set_position("AAPL", "net", D(0), D(0))
        assert (await broker.snapshot(cursor)).positions == Complete()


async def test_rows_go_by_the_names_configured(tws: IbSimulator) -> None:
    tws.describe("first", SimContract(41, "AAPL", local_symbol="AAPL"))
    tws.describe("second", SimContract(42, "MSFT", local_symbol="MSFT"))
    tws.describe("third", SimContract(43, "ES", "FUT", multiplier="50", local_symbol="ESZ6"))
    for name in ("first", "second", "third"):
        order = tws.place_limit(name, Side.BUY, D(2), D(10))
        tws.fill_order(order, D(1))
    async with connected(tws, instruments=("AAPL", "42", "ESZ6")) as broker:
        snapshot = await broker.snapshot(EARLIER)
        names = [{row.instrument for row in rows} for rows in (rows_of(snapshot.positions), rows_of(snapshot.orders))]
        assert names == [{"AAPL", "42", "ESZ6"}] * 2


async def test_rows_of_the_logins_other_accounts_are_left_out_readable_or_not() -> None:
    with simulated(accounts=("DU1", "DU2")) as tws:
        foreign = tws.contract("MSFT").fields()
        tws.add_row("reqPositions", ["61", "3", "DU2", *foreign, "5", "1"])
        tws.add_row("reqPositions", ["61", "3", "DU2", *foreign, "n/a", "1"])
        async with connected(tws) as broker:
            assert (await broker.snapshot(None)).positions == Complete()


@pytest.mark.parametrize("version", [164, 176, 178])
async def test_it_speaks_with_older_servers_too(version: int) -> None:
    with simulated(server_version=version) as tws:
        tws.trade("AAPL", Side.BUY, D(3))
        tws.place_limit(OPTION, Side.SELL, D(1), D(9))
        async with connected(tws) as broker:
            snapshot = await broker.snapshot(None)
            assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"
            assert held(snapshot) == tws.positions()


async def test_positions_closed_since_are_gone_from_the_next_snapshot(tws: IbSimulator) -> None:
    """What ib_async keeps as ``positions()`` is never purged by a fresh request."""
    tws.trade("AAPL", Side.BUY, D(3))
    tws.trade("MSFT", Side.BUY, D(3))
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.set_position("MSFT", "net", D(0), D(0))
        assert held(await broker.snapshot(cursor)) == {("AAPL", "net"): D(3)}


# -- carried on by what is pushed --------------------------------------------------------------------------------


async def test_where_tws_pushed_all_that_changed_a_snapshot_takes_two_messages() -> None:
    with simulated(orders_by=17) as tws:
        tws.trade("MSFT", Side.SELL, D(1))
        async with connected(tws, full_every_s=60) as broker:
            first = await broker.snapshot(None)
            before = broker.calls
            still = await broker.snapshot(first.fills_cursor)
            assert (still.positions, still.orders, still.fills) == (first.positions, first.orders, Complete())
            working = tws.place_limit("AAPL", Side.BUY, D(5), D(9), "c1")
            last = tws.fill_order(working, D(2))
            second = await broker.snapshot(first.fills_cursor)
            assert fill_ids(second) == [last]
            assert held(second) == tws.positions()
            tws.fill_order(working)
            third = await broker.snapshot(second.fills_cursor)
            shown = {order.broker_order_id: order for order in rows_of(third.orders)}
            assert (shown[working].status, shown[working].average_fill_price) == (OrderStatus.FILLED, D(9))
            assert len(fill_ids(third)) == 1
            assert broker.calls - before - tws.requests.count("reqContractDetails") == 6
            assert tws.requests.count("reqContractDetails") == 1  # the hours of AAPL, by which a day order ends


async def test_a_conversion_of_currencies_is_explained_without_a_position_and_is_no_execution_for_a_book() -> None:
    streamed: list[StreamedFill] = []
    with simulated(orders_by=17) as tws:
        tws.trade("EUR.USD", Side.BUY, D(25_000))
        async with connected(tws, full_every_s=60) as broker:
            broker.on_fill = streamed.append
            first = await broker.snapshot(None)
            before = tws.requests.count("reqPositions")
            tws.convert("EUR.USD", Side.SELL, D(4_000))
            second = await broker.snapshot(first.fills_cursor)
            (fill,) = rows_of(second.fills)
            assert (fill.quantity, fill.combination) == (D(4_000), "EUR.USD")
            assert held(second) == {("EUR.USD", "net"): D(25_000)}
            assert (tws.requests.count("reqPositions") - before, streamed) == (0, [])


@pytest.mark.parametrize(
    "happens",
    [
        lambda tws, order: tws.set_position("AAPL", "net", D(9), D(1)),
        lambda tws, order: tws.set_position("MSFT", "net", D(0), D(0)),
        lambda tws, order: tws.send_row(["61", "3", "DU1", *tws.contract("MSFT").fields(), "", "1"]),
        lambda tws, order: tws.send_row(["garbage"]),
        lambda tws, order: tws.forget_order(order),
        lambda tws, order: tws.close_by_hand("MSFT"),
        lambda tws, order: tws.drop(),
        lambda tws, order: (tws.lose_connectivity(), tws.restore_connectivity()),
    ],
    ids=[
        "a position without an execution",
        "a position is gone without one",
        "a push that cannot be read",
        "garbage",
        "an order is gone without a word",
        "a trade by hand, which is not pushed",
        "the connection ended",
        "TWS lost its own",
    ],
)
async def test_in_any_doubt_about_the_pushes_everything_is_read(
    happens: Callable[[IbSimulator, str], object],
) -> None:
    events: list[str | None] = []
    with simulated(orders_by=17) as tws:
        tws.trade("MSFT", Side.SELL, D(1))
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(9))
        async with connected(tws, full_every_s=60, on_event=events.append) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            happens(tws, order)
            with suppress(BrokerError):  # where the connection has ended
                await broker.ping()  # what was pushed before its answer has been read
            before = tws.requests.count("reqPositions")
            snapshot = await broker.snapshot(cursor)
            assert tws.requests.count("reqPositions") > before
            assert held(snapshot) == tws.positions()
            assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"


# -- together ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full_every_s", [0, 60], ids=["read whole", "carried on"])
@pytest.mark.parametrize("seed", range(4))
async def test_a_random_walk_is_followed_to_the_digit(seed: int, full_every_s: int) -> None:
    walk = random.Random(seed)  # noqa: S311 - a walk is no secret
    names = ["AAPL", "MSFT", "ESZ6", OPTION, "EUR.USD"]
    applied: dict[str, Decimal] = dict.fromkeys(names, D(0))
    with simulated(orders_by=walk.choice([None, 17, 5])) as tws:
        resting: list[str] = []
        async with connected(tws, full_every_s=full_every_s) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            for _ in range(25):
                for _ in range(walk.randint(0, 3)):
                    name, side = walk.choice(names), walk.choice(list(Side))
                    kind = walk.random()
                    if kind < 0.4:
                        tws.trade(name, side, D(walk.randint(1, 90)) / 10)
                    elif kind < 0.7 or not resting:
                        resting.append(tws.place_limit(name, side, D(10), D(walk.randint(1, 999)) / 100))
                    elif kind < 0.9:
                        tws.fill_order(resting.pop(), D(walk.randint(1, 10)))
                    else:
                        tws.close_by_hand(name)
                if walk.random() < 0.15:
                    tws.drop()
                snapshot = await broker.snapshot(cursor)
                if isinstance(snapshot.fills, Failed) or isinstance(snapshot.positions, Failed):
                    continue
                assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"
                cursor = snapshot.fills_cursor
                assert held(snapshot) == tws.positions()
                for fill in rows_of(snapshot.fills):
                    applied[fill.instrument] += fill.side.sign * fill.quantity
                assert {n: q for n, q in applied.items() if q} == {n: q for (n, _), q in tws.positions().items()}
