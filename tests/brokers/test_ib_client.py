"""The Interactive Brokers adapter over real sockets: ib_async against the simulated TWS, and against what is none."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import IbBroker
from brokers.model import (
    Complete,
    Completeness,
    Conventions,
    Corrected,
    CostBasis,
    Failed,
    LegScheme,
    OrderQuery,
    OrderStatus,
    Partial,
    Side,
    Snapshot,
    problems_of,
    rows_of,
)
from brokers.port import Broker, OnEvent
from brokers.simulators import ib_wire
from brokers.simulators.base import Fault
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_books import COMMISSION
from brokers.simulators.ib_wire import SimContract

D = Decimal
TIMEOUT_S = 0.3
EARLIER = int(datetime(2026, 1, 5, 11, tzinfo=UTC).timestamp() * 1000)
OPTION = "AAPL  261218C00200000"
OPTION_ON_MSFT = "MSFT  261218C00200000"


def now() -> datetime:
    return datetime.now(UTC)


class Ticking:
    """A clock on which no two things happen in one second, so that nothing waits for a second to end."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def __call__(self) -> datetime:
        return datetime(2026, 1, 5, 12, tzinfo=UTC) + timedelta(seconds=next(self._seconds))


@contextmanager
def simulated(**settings: object) -> Iterator[IbSimulator]:
    given = {"seed": 1, "clock": Ticking(), **settings}
    simulator = IbSimulator(**given)  # type: ignore[arg-type]  # a test's own choice of keywords
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.close()


@asynccontextmanager
async def connected(
    simulator: IbSimulator,
    *,
    connect: bool = True,
    port: int | None = None,
    on_event: OnEvent | None = None,
    **settings: object,
) -> AsyncIterator[IbBroker]:
    given = {"client_id": 17, "account_id": "DU1", "sec_types": None, "timeout_s": TIMEOUT_S, "clock": now, **settings}
    broker = IbBroker(
        "options",
        "127.0.0.1",
        port or simulator.port,
        **{"backoff_s": 0.01, "messages_per_s": 9000, "full_every_s": 0, **given},  # type: ignore[arg-type]  # as above
    )
    broker.on_event = on_event
    try:
        if connect:
            await broker.connect()
        yield broker
    finally:
        await broker.close()


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


def held(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    return {(row.instrument, row.leg): row.quantity for row in rows_of(snapshot.positions)}


def completeness(snapshot: Snapshot) -> str:
    sections = (snapshot.positions, snapshot.orders, snapshot.fills)
    return " ".join(section.completeness.value for section in sections)


def fill_ids(snapshot: Snapshot) -> list[str]:
    return [fill.fill_id for fill in rows_of(snapshot.fills)]


async def eventually(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not done():
            await asyncio.sleep(0.002)


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
    async with connected(tws, connect=False) as broker:
        with pytest.raises(kind, match=words) as caught:
            await broker.connect()
        assert "options" in str(caught.value)
        assert str(tws.port) in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own
        await broker.connect()  # may be called again


async def test_nothing_listening_is_unreachable_with_a_remedy(tws: IbSimulator) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with connected(tws, connect=False, port=reserved.getsockname()[1]) as broker:
            with pytest.raises(Unreachable, match="Check that TWS or IB Gateway runs"):
                await broker.connect()


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
async def test_something_else_on_the_port_is_told_apart(greeting: bytes, kind: type[BrokerError], words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    broker = IbBroker("options", "127.0.0.1", port, 17, "DU1", None, TIMEOUT_S, now)
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


async def test_closing_twice_and_before_connecting_is_well(tws: IbSimulator) -> None:
    async with connected(tws, connect=False) as broker:
        await broker.close()
        await broker.connect()
        await broker.close()
        await broker.close()
        assert tws.requests.count("connect") == 1


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


async def test_at_rest_a_snapshot_takes_five_messages_for_however_many_instruments(tws: IbSimulator) -> None:
    for number in range(12):
        tws.trade(f"S{number}", Side.BUY, D(1))
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        before = broker.calls
        await broker.snapshot(cursor)
        assert broker.calls - before == 5


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
async def test_an_instrument_of_which_the_filter_leaves_a_row_out_is_told_and_its_orders_are_not_denied(
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
            assert broker.calls - before == 6


@pytest.mark.parametrize(
    "happens",
    [
        lambda tws, order: tws.set_position("AAPL", "net", D(9), D(1)),
        lambda tws, order: tws.set_position("MSFT", "net", D(0), D(0)),
        lambda tws, order: tws.tell(["61", "3", "DU1", *tws.contract("MSFT").fields(), "", "1"]),
        lambda tws, order: tws.tell(["garbage"]),
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
            await asyncio.sleep(0.02)
            before = tws.requests.count("reqPositions")
            snapshot = await broker.snapshot(cursor)
            assert tws.requests.count("reqPositions") > before
            assert held(snapshot) == tws.positions()
            assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"


# -- what goes wrong while it is read ----------------------------------------------------------------------------

_FAILED, _PARTIAL, _COMPLETE = "FAILED", "PARTIAL", "COMPLETE"


@pytest.mark.parametrize(
    ("fault", "match", "expected"),
    [
        (Fault.TIMEOUT, "reqPositions", "FAILED COMPLETE COMPLETE"),
        (Fault.TIMEOUT, "reqAllOpenOrders", "COMPLETE FAILED COMPLETE"),
        (Fault.TIMEOUT, "reqCompletedOrders", "COMPLETE PARTIAL COMPLETE"),
        (Fault.TIMEOUT, "reqExecutions", "COMPLETE COMPLETE FAILED"),
        (Fault.LATE, "reqPositions", "FAILED COMPLETE COMPLETE"),
        (Fault.LATE, "reqAllOpenOrders", "COMPLETE FAILED COMPLETE"),
        (Fault.LATE, "reqExecutions", "COMPLETE COMPLETE FAILED"),
        (Fault.RESET, "reqPositions", "FAILED COMPLETE COMPLETE"),
        (Fault.RESET, "reqExecutions", "COMPLETE COMPLETE FAILED"),
        (Fault.HALF_BODY, "reqPositions", "FAILED COMPLETE COMPLETE"),
        (Fault.HTML, "reqPositions", "FAILED COMPLETE COMPLETE"),
        (Fault.SERVER_ERROR, "reqExecutions", "COMPLETE COMPLETE FAILED"),
        (Fault.UNAUTHORIZED, "reqAllOpenOrders", "COMPLETE FAILED COMPLETE"),
        (Fault.RATE_LIMITED, "reqPositions", "FAILED COMPLETE COMPLETE"),
        (Fault.MALFORMED_ROW, "reqPositions", "PARTIAL COMPLETE COMPLETE"),
        (Fault.MALFORMED_ROW, "reqAllOpenOrders", "COMPLETE PARTIAL COMPLETE"),
        (Fault.MALFORMED_ROW, "reqCompletedOrders", "COMPLETE PARTIAL COMPLETE"),
        (Fault.MALFORMED_ROW, "reqExecutions", "COMPLETE COMPLETE PARTIAL"),
        (Fault.EMPTY, "reqPositions", "COMPLETE COMPLETE COMPLETE"),
        (Fault.EMPTY, "reqExecutions", "COMPLETE COMPLETE FAILED"),
    ],
)
async def test_a_fault_in_one_list_leaves_the_others_and_is_over_with_the_next(
    tws: IbSimulator, fault: Fault, match: str, expected: str
) -> None:
    """PEERS 1: an answer that failed or came back empty after an error is not flat."""
    tws.trade("AAPL", Side.BUY, D(5))
    tws.place_limit("MSFT", Side.BUY, D(5), D(1))
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.faults.add(fault, match=match)
        spoiled = await broker.snapshot(cursor)
        assert completeness(spoiled) == expected
        if isinstance(spoiled.positions, Complete):
            assert held(spoiled) == tws.positions()
        after = await broker.snapshot(spoiled.fills_cursor)
        assert completeness(after) == "COMPLETE COMPLETE COMPLETE"
        assert held(after) == tws.positions()


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.RESET, Fault.SERVER_ERROR])
async def test_when_nothing_is_learned_it_is_unreachable(tws: IbSimulator, fault: Fault) -> None:
    async with connected(tws) as broker:
        tws.faults.add(fault, times=20, match="req")
        with pytest.raises(Unreachable, match="options: could not read"):
            await broker.snapshot(None)


async def test_every_list_silent_is_unreachable_within_the_time_of_a_call(tws: IbSimulator) -> None:
    """PEERS 7: every wait is bounded."""
    async with connected(tws, timeout_s=0.1) as broker:
        for match in ("reqPositions", "reqAllOpenOrders", "reqCompletedOrders", "reqExecutions"):
            tws.faults.add(Fault.TIMEOUT, match=match)
        async with asyncio.timeout(2):
            with pytest.raises(Unreachable, match="reqPositions: no answer within"):
                await broker.snapshot(None)


async def test_a_position_row_that_the_sdk_drops_is_noticed(tws: IbSimulator) -> None:
    """ib_async logs it and positionEnd then looks complete."""
    tws.trade("MSFT", Side.BUY, D(1))
    tws.add_row("reqPositions", ["61", "3", "DU1", *tws.contract("AAPL").fields(), "ten", "1"])
    async with connected(tws) as broker:
        positions = (await broker.snapshot(None)).positions
        assert isinstance(positions, Partial)
        assert [(p.instrument, p.key) for p in positions.problems] == [("AAPL", str(tws.contract("AAPL").con_id))]


async def test_a_row_of_no_known_kind_leaves_the_list_it_stands_in_in_doubt(tws: IbSimulator) -> None:
    tws.add_row("reqPositions", ["garbage", "3"])
    async with connected(tws) as broker:
        assert completeness(await broker.snapshot(None)) == "PARTIAL COMPLETE COMPLETE"


async def test_an_unknown_status_keeps_the_order_and_is_told(tws: IbSimulator) -> None:
    order = tws.place_limit("AAPL", Side.BUY, D(1), D(1))
    tws.set_status(order, "Levitating")
    async with connected(tws) as broker:
        (problem,) = problems_of((await broker.snapshot(None)).orders)
        assert (problem.instrument, problem.key) == ("AAPL", order)
        assert "Levitating" in problem.text


async def test_calls_made_at_once_are_served_one_after_another(tws: IbSimulator) -> None:
    """Two requests of a kind share one future in ib_async, and the first caller would wait for ever."""
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws) as broker, asyncio.timeout(5):
        query = OrderQuery("AAPL", "1", None)
        work = [broker.snapshot(None), broker.snapshot(None), broker.find_orders([query]), broker.snapshot(None)]
        results = await asyncio.gather(*work)
        assert [completeness(r) for r in results if isinstance(r, Snapshot)] == ["COMPLETE COMPLETE COMPLETE"] * 3


async def test_fills_between_the_lists_are_read_again_until_they_agree() -> None:
    with simulated() as tws:
        async with connected(tws) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            answer = tws.answer
            traded = iter(range(2))

            def answer_and_trade(client: object, name: str, request: list[str]) -> list[list[str]]:
                rows = answer(client, name, request)  # type: ignore[arg-type]  # it is handed on
                if name == "reqPositions" and next(traded, None) is not None:
                    tws.trade("AAPL", Side.BUY, D(1))
                return rows

            tws.answer = answer_and_trade  # type: ignore[method-assign]  # trades in the worst moment
            snapshot = await broker.snapshot(cursor)
            assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"
            assert sum(fill.quantity for fill in rows_of(snapshot.fills)) == held(snapshot)["AAPL", "net"] == D(2)


# -- executions --------------------------------------------------------------------------------------------------


async def test_a_correction_of_a_fill_already_handed_out_is_a_fill_that_takes_its_place(tws: IbSimulator) -> None:
    order = tws.place_limit("AAPL", Side.BUY, D(10), D(100))
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        first = tws.fill_order(order)
        found = await broker.snapshot(cursor)
        assert fill_ids(found) == [first]
        tws.correct_fill(first, D(8), D(101))
        later = await broker.snapshot(found.fills_cursor)
        (correction,) = rows_of(later.fills)
        assert correction.corrects == Corrected(first, D(10), D(100))
        assert (correction.quantity, correction.price) == (D(8), D(101))
        assert held(later) == {("AAPL", "net"): D(8)}
        other = await broker.snapshot(cursor)
        assert fill_ids(other) == [first, correction.fill_id]


async def test_fills_come_with_their_commission(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.trade("AAPL", Side.BUY, D(10))
        (fill,) = rows_of((await broker.snapshot(cursor)).fills)
        assert (fill.commission, fill.commission_currency) == (COMMISSION, "USD")


async def test_the_end_of_a_day_is_a_gap_told_once_and_what_came_after_it_is_not_lost(tws: IbSimulator) -> None:
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws) as broker:
        first = await broker.snapshot(None)
        tws.end_day()
        tws.trade("AAPL", Side.BUY, D(2))
        gap = await broker.snapshot(first.fills_cursor)
        assert isinstance(gap.fills, Failed)
        assert "day" in gap.fills.reason
        assert gap.fills_cursor is not None
        assert first.fills_cursor is not None
        assert gap.fills_cursor > first.fills_cursor
        after = await broker.snapshot(gap.fills_cursor)
        assert [fill.quantity for fill in rows_of(after.fills)] == [D(2)]


async def test_a_cursor_of_another_day_is_a_gap_too(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        snapshot = await broker.snapshot(EARLIER - 2 * 86_400_000)
        assert isinstance(snapshot.fills, Failed)
        assert completeness(await broker.snapshot(snapshot.fills_cursor)) == "COMPLETE COMPLETE COMPLETE"


@pytest.mark.parametrize(
    ("timezone", "expected"), [("Asia/Tokyo", Completeness.COMPLETE), (None, Completeness.PARTIAL)]
)
async def test_naive_times_are_read_in_the_zone_configured_and_never_guessed(
    timezone: str | None, expected: Completeness
) -> None:
    with simulated(timezone="Asia/Tokyo", naive=True, clock=now) as tws:
        async with connected(tws, timezone=timezone) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            tws.trade("AAPL", Side.BUY, D(1))
            snapshot = await broker.snapshot(cursor)
            assert snapshot.fills.completeness is expected
            for fill in rows_of(snapshot.fills):
                assert abs(fill.time - now()) < timedelta(seconds=5)


async def test_the_brokers_clock_counts_where_ours_is_an_hour_off() -> None:
    with simulated(clock=now) as tws:
        async with connected(tws, clock=lambda: now() + timedelta(hours=1)) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            fill = tws.fill_order(tws.place_limit("AAPL", Side.BUY, D(1), D(1)))
            snapshot = await broker.snapshot(cursor)
            assert fill_ids(snapshot) == [fill]
            assert abs(snapshot.as_of - now()) < timedelta(seconds=5)


# -- TWS's own connection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_lost", [False, True], ids=["1102", "1101"])
async def test_while_tws_has_lost_ib_nothing_is_known_and_its_fills_are_found_afterwards(
    tws: IbSimulator, data_lost: bool
) -> None:
    """PEERS 13: fills during a lost connection whose socket looks healthy."""
    events: list[str | None] = []
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws, on_event=events.append) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.lose_connectivity()
        await eventually(lambda: events == [None])
        missed = tws.trade("AAPL", Side.BUY, D(2))
        for attempt in (broker.connect, lambda: broker.snapshot(cursor)):
            with pytest.raises(Unreachable, match="connectivity between TWS and IB is lost"):
                await attempt()
        (answer,) = await broker.find_orders([OrderQuery("AAPL", "999", None)])
        assert answer.failure is not None
        tws.restore_connectivity(data_lost=data_lost)
        await eventually(lambda: events == [None, None])
        snapshot = await broker.snapshot(cursor)
        assert held(snapshot) == {("AAPL", "net"): D(3)}
        assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [missed]
        assert "reqAccountSummary" not in tws.requests  # which ib_async would send by itself after 1102


async def test_connectivity_lost_in_the_middle_of_a_snapshot_spoils_it(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        tws.add_row("reqExecutions", ib_wire.notice(-1, 1100, "lost", 178))
        with pytest.raises(Unreachable, match="connectivity between TWS and IB is lost"):
            await broker.snapshot(None)


async def test_when_the_port_moves_it_is_followed(tws: IbSimulator) -> None:
    events: list[str | None] = []
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws, on_event=events.append) as broker:
        await broker.snapshot(None)
        tws.move_port()
        await eventually(lambda: None in events)
        assert held(await broker.snapshot(None)) == {("AAPL", "net"): D(1)}


async def test_after_a_lost_socket_it_reconnects_and_finds_what_was_filled_meanwhile(tws: IbSimulator) -> None:
    """FEATURES 4: recovery after a disconnect. PEERS 13."""
    events: list[str | None] = []
    async with connected(tws, on_event=events.append) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.drop()
        await eventually(lambda: events == [None])
        order = tws.trade("AAPL", Side.BUY, D(2))
        snapshot = await broker.snapshot(cursor)
        assert held(snapshot) == {("AAPL", "net"): D(2)}
        assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [order]
        assert events == [None, None]


# -- events ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", [17, None], ids=["an order of this client", "an order placed by hand"])
async def test_what_happens_wakes_the_instrument_concerned_and_no_other(whose: int | None) -> None:
    """FEATURES 24: real-time beside the periodic snapshot. ib_async emits nothing for an order it does not know."""
    events: list[str | None] = []
    with simulated(orders_by=whose) as tws:
        tws.trade("MSFT", Side.BUY, D(1))
        async with connected(tws, on_event=events.append) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            order = tws.trade("AAPL", Side.BUY, D(1))
            await eventually(lambda: "AAPL" in events)
            assert set(events) == {"AAPL"}
            snapshot = await broker.snapshot(cursor)
            assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [order]


async def test_a_live_execution_that_no_list_has_is_handed_out_all_the_same(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        events: list[str | None] = []
        broker.on_event = events.append
        row = ib_wire.ExecutionRow(
            "DU1",
            tws.contract("AAPL"),
            "e0.f1.01.01",
            "20260105-12:00:01",
            "BOT",
            D(1),
            D(9),
            77,
            0,
            0,
            D(1),
            D(9),
            "",
        )
        tws.tell(ib_wire.execution(row, -1, 178))
        await eventually(lambda: events == ["AAPL"])
        snapshot = await broker.snapshot(cursor)
        assert fill_ids(snapshot) == ["e0.f1.01.01"]
        assert fill_ids(await broker.snapshot(snapshot.fills_cursor)) == []


async def test_an_unreadable_event_wakes_all_and_a_failing_listener_harms_nothing(tws: IbSimulator) -> None:
    events: list[str | None] = []

    def fail(instrument: str | None) -> None:
        events.append(instrument)
        raise RuntimeError("no")

    async with connected(tws, on_event=fail) as broker:
        tws.tell(["61", "3", "DU1"])
        tws.tell(["3", "1", "Submitted", "0", "1", "0", "4711", "0", "0", "5", "", "0"])
        await eventually(lambda: events == [None, None])
        assert completeness(await broker.snapshot(None)) == "COMPLETE COMPLETE COMPLETE"


async def test_an_error_on_an_order_never_ends_it_here() -> None:
    """On any such error ib_async sets the order's status to Cancelled, even on 10148 about a live order."""
    with simulated(orders_by=17) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1))
        async with connected(tws) as broker:
            await broker.snapshot(None)
            tws.say(10148, "OrderId 1 that needs to be cancelled cannot be cancelled, state: PendingSubmit", 1)
            tws.say(399, "Order message: it will be placed at 09:30", 1)
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert (shown.broker_order_id, shown.status) == (order, OrderStatus.OPEN)
            tws.set_status(order, "Inactive")
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert shown.status is OrderStatus.HELD
            tws.say(201, "Order rejected - reason: margin", 1)
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert (shown.status, shown.reason) == (OrderStatus.REJECTED, "201: Order rejected - reason: margin")


# -- single orders -----------------------------------------------------------------------------------------------


async def test_orders_are_found_by_either_id_open_or_completed_with_their_fills(tws: IbSimulator) -> None:
    """FEATURES 23."""
    resting = tws.place_limit("AAPL", Side.BUY, D(5), D(10), "c1")
    tws.fill_order(resting, D(2))
    filled = tws.trade("AAPL", Side.SELL, D(1), "c2")
    rejected = tws.place_limit("AAPL", Side.SELL, D(1), D(99), "c3")
    tws.end_order(rejected, "REJECTED")
    async with connected(tws) as broker:
        before = broker.calls
        queries = [
            OrderQuery("AAPL", resting, None),
            OrderQuery("AAPL", None, "c2"),
            OrderQuery("AAPL", rejected, "c3"),
            OrderQuery("AAPL", "4711", None),
            OrderQuery("MSFT", resting, None),
            OrderQuery("MSFT", None, "c1"),
        ]
        answers = await broker.find_orders(queries)
        assert broker.calls - before == 3
        found = [(a.order.broker_order_id, a.order.status) for a in answers if a.order is not None]
        assert found == [
            (resting, OrderStatus.PARTIALLY_FILLED),
            (filled, OrderStatus.FILLED),
            (rejected, OrderStatus.REJECTED),
        ]
        assert [sum(f.quantity for f in a.fills) for a in answers] == [D(2), D(1), 0, 0, 0, 0]
        elsewhere = f"order {resting} is one of AAPL. Look the order up in TWS"
        assert [a.failure for a in answers] == [None, None, None, None, elsewhere, None]
        assert [a.query for a in answers] == queries


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (Fault.TIMEOUT, "reqAllOpenOrders"),
        (Fault.TIMEOUT, "reqCompletedOrders"),
        (Fault.TIMEOUT, "reqExecutions"),
        (Fault.MALFORMED_ROW, "reqAllOpenOrders"),
        (Fault.MALFORMED_ROW, "reqCompletedOrders"),
        (Fault.MALFORMED_ROW, "reqExecutions"),
        (Fault.RESET, "reqAllOpenOrders"),
    ],
)
async def test_not_found_is_never_said_of_lists_that_were_not_read_whole(
    tws: IbSimulator, fault: Fault, match: str
) -> None:
    """PEERS 12: an error is not an absence."""
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws) as broker:
        tws.faults.add(fault, match=match)
        (answer,) = await broker.find_orders([OrderQuery("AAPL", "4711", None)])
        assert answer.order is None
        assert answer.failure


async def test_an_order_known_only_by_its_executions_is_not_said_to_be_unknown(tws: IbSimulator) -> None:
    order = tws.trade("AAPL", Side.BUY, D(1))
    tws.forget_order(order)
    async with connected(tws) as broker:
        (answer,) = await broker.find_orders([OrderQuery("AAPL", order, None)])
        assert answer.failure == "TWS lists 1 executions of it, and the order in no list. Look the order up in TWS"


async def test_a_failed_connection_is_in_the_answers_and_is_never_raised(tws: IbSimulator) -> None:
    async with connected(tws, connect=False) as broker:
        tws.faults.add(Fault.RESET, times=5, match="connect")
        (answer,) = await broker.find_orders([OrderQuery("AAPL", "1", None)])
        assert answer.failure is not None
        assert await broker.find_orders([]) == ()


async def test_an_order_of_this_client_is_cancelled() -> None:
    """FEATURES 6."""
    with simulated(orders_by=17) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1), "c1")
        async with connected(tws) as broker:
            await broker.cancel_order(OrderQuery("AAPL", order, None))
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert shown.status is OrderStatus.CANCELLED
            with pytest.raises(Refused, match="no such open order"):
                await broker.cancel_order(OrderQuery("AAPL", None, "c1"))


@pytest.mark.parametrize(
    ("orders_by", "words"), [(None, "by hand in TWS"), (5, "by client 5")], ids=["by hand", "another client"]
)
async def test_an_order_of_somebody_else_cannot_be_cancelled_from_here(orders_by: int | None, words: str) -> None:
    with simulated(orders_by=orders_by) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1))
        async with connected(tws) as broker:
            with pytest.raises(Refused, match=words):
                await broker.cancel_order(OrderQuery("AAPL", order, None))
        assert "cancelOrder" not in tws.requests


@pytest.mark.parametrize(("fault", "kind"), [(Fault.TIMEOUT, Unreachable), (Fault.RESET, Unreachable)])
async def test_a_cancellation_without_an_answer_is_sent_once_and_its_fate_unknown(
    fault: Fault, kind: type[BrokerError]
) -> None:
    with simulated(orders_by=17) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1))
        async with connected(tws) as broker:
            tws.faults.add(fault, match="cancelOrder")
            tws.faults.add(fault, match="cancelOrder")
            with pytest.raises(kind, match="look it up"):
                await broker.cancel_order(OrderQuery("AAPL", order, None))
            assert tws.requests.count("cancelOrder") == 1


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
