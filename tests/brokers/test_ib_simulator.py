"""The simulated TWS as the SDK itself sees it: its wire, its books, its habits and its faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from ib_async import IB

from brokers.model import Side
from brokers.simulators import ib_wire
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_books import IbBooks
from brokers.simulators.ib_wire import OrderRow, contract_named
from tests.brokers.following import PATIENCE_S, eventually

D = Decimal


@pytest.fixture
def simulator() -> Iterator[IbSimulator]:
    made = IbSimulator(instruments=["AAPL"])
    made.start()
    yield made
    made.close()


@asynccontextmanager
async def sdk(simulator: IbSimulator, client_id: int = 17) -> AsyncIterator[IB]:
    """A default connection of ib_async, which asks for everything and fails where anything does not come."""
    ib = IB()
    try:
        await ib.connectAsync("127.0.0.1", simulator.port, client_id, timeout=PATIENCE_S, raiseSyncErrors=True)
        yield ib
    finally:
        ib.disconnect()
        await asyncio.sleep(0.01)


def test_it_meets_the_protocol_of_all_simulators(simulator: IbSimulator) -> None:
    shared: Simulator = simulator
    assert shared.requests == ()
    assert shared.start() == f"127.0.0.1:{simulator.port}"


async def test_a_default_connection_of_the_sdk_comes_about(simulator: IbSimulator) -> None:
    simulator.set_position("ESZ6", "net", D(-2), D("6302.295"))
    async with sdk(simulator, client_id=0) as ib:
        assert ib.client.serverVersion() == 178
        assert ib.managedAccounts() == ["DU1"]
        (position,) = ib.positions()
        assert (position.contract.symbol, position.contract.localSymbol, position.contract.exchange) == (
            "ES",
            "ESZ6",
            "",
        )
        assert (position.position, position.avgCost) == (-2, 315114.75)
        assert [item.averageCost for item in ib.portfolio()] == [315114.75]
    assert simulator.requests == (
        "connect",
        "startApi",
        "reqAutoOpenOrders",
        "reqPositions",
        "reqOpenOrders",
        "reqCompletedOrders",
        "reqAccountUpdates",
        "reqAccountUpdatesMulti",
        "reqExecutions",
    )


@pytest.mark.parametrize("version", [157, 164, 176, 177, 178])
async def test_the_sdk_reads_every_row_at_every_version(version: int, caplog: pytest.LogCaptureFixture) -> None:
    simulator = IbSimulator(server_version=version, orders_by=17)
    simulator.start()
    try:
        resting = simulator.place_limit("AAPL", Side.BUY, D(10), D("20.5"), "mine")
        simulator.fill_order(resting, D(4))
        simulator.trade("AAPL  261218C00200000", Side.SELL, D(1), "hedge")
        async with sdk(simulator) as ib:
            (trade,) = ib.openTrades()
            assert (trade.order.orderRef, trade.order.lmtPrice, str(trade.order.permId)) == ("mine", 20.5, resting)
            assert (trade.orderStatus.status, trade.orderStatus.filled) == ("Submitted", 4)
            done = [t for t in ib.trades() if t.orderStatus.status == "Filled"]
            assert [(t.order.totalQuantity, t.order.filledQuantity, t.contract.right) for t in done] == [(0, 1, "C")]
            assert sorted(fill.execution.shares for fill in ib.fills()) == [1, 4]
            assert {fill.commissionReport.commission for fill in ib.fills()} == {1.0}
        assert "Error handling fields" not in caplog.text
        assert "Traceback" not in caplog.text
    finally:
        simulator.close()


@pytest.mark.parametrize(("version", "fields"), [(164, 123), (176, 128), (177, 127), (178, 127)])
def test_an_open_order_has_as_many_fields_as_tws_sends(version: int, fields: int) -> None:
    row = OrderRow("DU1", contract_named("AAPL"), "BUY", D(1), "LMT", D(1), "", 1, 1, 1, "Submitted", D(0), D(0))
    # TWS writes "None" for no delta-neutral order, and eight fields after it as if there were one.
    assert len(ib_wire.open_order(row, version)) == fields + 8
    assert len(ib_wire.order_status(row)) == 12
    assert len(ib_wire.position("DU1", row.contract, D(1), D(1))) == 16
    assert len(ib_wire.portfolio("DU1", row.contract, D(1), D(1), D(1))) == 20


@pytest.mark.parametrize(
    ("trades", "quantity", "price"),
    [
        ([("BUY", "1", "10"), ("BUY", "1", "20")], "2", "16"),
        ([("BUY", "2", "10"), ("SELL", "1", "20")], "1", "10.5"),
        ([("BUY", "1", "10"), ("SELL", "4", "20")], "-3", "19.75"),
        ([("SELL", "1", "10"), ("BUY", "1", "20")], None, None),
    ],
    ids=["increase averages", "reduction keeps the price", "reversal", "flat"],
)
async def test_an_account_keeps_one_net_position_a_contract_with_commissions_in_its_average_cost(
    simulator: IbSimulator, trades: list[tuple[str, str, str]], quantity: str | None, price: str | None
) -> None:
    for side, amount, at in trades:
        simulator.set_price("AAPL", D(at))
        simulator.trade("AAPL", Side(side), D(amount))
    assert simulator.positions() == ({("AAPL", "net"): D(quantity)} if quantity else {})
    async with sdk(simulator) as ib:
        assert [(p.position, p.avgCost) for p in ib.positions()] == (
            [(float(quantity), float(price))] if quantity and price else []
        )


async def test_a_client_hears_of_its_own_orders_and_of_every_position() -> None:
    simulator = IbSimulator(orders_by=17)
    simulator.start()
    try:
        async with sdk(simulator, 17) as own, sdk(simulator, 18) as other:
            heard: dict[str, list[Any]] = {"own": [], "other": []}
            own.execDetailsEvent += lambda trade, fill: heard["own"].append(fill.execution.shares)
            other.execDetailsEvent += lambda trade, fill: heard["other"].append(fill.execution.shares)
            moved = asyncio.Event()
            other.positionEvent += lambda position: moved.set()
            simulator.fill_order(simulator.place_limit("AAPL", Side.BUY, D(3), D(9)))
            async with asyncio.timeout(PATIENCE_S):
                await moved.wait()
                await own.reqCurrentTimeAsync()
            assert heard == {"own": [3], "other": []}
    finally:
        simulator.close()


async def test_a_client_id_is_used_once(simulator: IbSimulator) -> None:
    async with sdk(simulator, 17):
        second, codes = IB(), asyncio.Queue[int]()
        second.errorEvent += lambda request, code, *rest: codes.put_nowait(code)
        connecting = asyncio.create_task(second.connectAsync("127.0.0.1", simulator.port, 17, timeout=PATIENCE_S))
        assert await asyncio.wait_for(codes.get(), PATIENCE_S) == 326
        assert not second.isConnected()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert codes.empty()
    async with sdk(simulator, 17):
        pass


def test_a_correction_is_charged_in_the_currency_of_its_contract() -> None:
    books = IbBooks()
    books.contracts["VOD"] = ib_wire.SimContract(31, "VOD", currency="GBP", local_symbol="VOD")
    first = books.fill(books.add_order("VOD", Side.BUY, D(10), None, None, None), D(10), D(9), 0)
    assert (first.currency, books.correct(first.exec_id, D(8), D(9)).currency) == ("GBP", "GBP")


async def test_correction_end_of_day_and_forgetting_are_scripted(simulator: IbSimulator) -> None:
    order = simulator.place_limit("AAPL", Side.BUY, D(10), D(10))
    first = simulator.fill_order(order)
    second = simulator.correct_fill(first, D(8), D(11))
    assert (first[-3:], second[-3:], first[:-3]) == (".01", ".02", second[:-3])
    assert simulator.positions() == {("AAPL", "net"): D(8)}
    async with sdk(simulator) as ib:
        assert len(ib.fills()) == 2
        simulator.end_day()
        assert await ib.reqExecutionsAsync() == []
    with pytest.raises(KeyError, match="no order 1 rests here"):
        simulator.fill_order("1")
    with pytest.raises(ValueError, match="cannot fill 99"):
        simulator.fill_order(simulator.place_limit("AAPL", Side.BUY, D(1), D(1)), D(99))
    with pytest.raises(ValueError, match="an order for 0"):
        simulator.trade("AAPL", Side.BUY, D(0))
    forgotten = simulator.place_limit("AAPL", Side.BUY, D(1), D(1))
    simulator.forget_order(forgotten)
    with pytest.raises(KeyError):
        simulator.end_order(forgotten)


async def test_its_state_outlives_it(simulator: IbSimulator) -> None:
    simulator.trade("AAPL", Side.BUY, D("2.5"), "c1")
    simulator.fill_order(simulator.place_limit("ESZ6", Side.SELL, D(3), D("6000.25")), D(1))
    simulator.place_limit("AAPL", Side.SELL, D(1), D(99))
    copy = IbSimulator()
    copy.load(simulator.dump())
    assert copy.dump() == simulator.dump()
    assert copy.positions() == simulator.positions()
    for broken in ("{}", "[]", "no", '{"prices": {"A": "x"}, "books": {}}'):
        with pytest.raises(ValueError, match="no state of an IB simulator"):
            copy.load(broken)
    assert copy.positions() == simulator.positions()


async def test_while_connectivity_is_lost_it_shows_what_it_knew(simulator: IbSimulator) -> None:
    simulator.trade("AAPL", Side.BUY, D(1))
    async with sdk(simulator) as ib:
        codes: list[int] = []
        ib.errorEvent += lambda request, code, *rest: codes.append(code)
        simulator.lose_connectivity()
        simulator.trade("AAPL", Side.BUY, D(1))
        assert [p.position for p in await ib.reqPositionsAsync()] == [1]
        assert ib.isConnected()
        simulator.restore_connectivity()
        assert [p.position for p in await ib.reqPositionsAsync()] == [2]
        assert codes == [1100, 1102]
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", list(Fault))
async def test_every_fault_is_played_once(simulator: IbSimulator, fault: Fault) -> None:
    simulator.trade("AAPL", Side.BUY, D(1))
    simulator.faults.add(fault, match="reqPositions")
    ib = IB()
    await ib.client.connectAsync("127.0.0.1", simulator.port, 17, timeout=PATIENCE_S)  # type: ignore[no-untyped-call]  # as it is
    try:
        rows: list[Any] | None = None
        with suppress(TimeoutError, OSError):
            rows = await asyncio.wait_for(ib.reqPositionsAsync(), 0.2)
        assert len(rows or []) == 0
        await eventually(lambda: "reqPositions" in simulator.requests)  # and with it the fault
    finally:
        ib.disconnect()
        await asyncio.sleep(0.01)
    async with sdk(simulator, 18) as after:
        assert len(after.positions()) == 1


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"API\0" + struct.pack(">I", 2**31), b"API\0\0\0\0\2x\0"])
def test_what_is_no_api_client_is_shown_the_door(simulator: IbSimulator, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=PATIENCE_S) as client:
        client.sendall(data)
        assert client.recv(10) == b""


def test_a_port_in_use_is_an_error_and_closing_leaves_nothing() -> None:
    before = set(threading.enumerate())
    first, second = IbSimulator(), IbSimulator()
    first.start()
    port = first.port
    with pytest.raises(OSError, match="address already in use"):
        second.start(port)
    second.close()
    first.close()
    first.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    first.start(port)
    assert first.port == port
    first.close()
    with pytest.raises(RuntimeError, match="not started"):
        first.move_port()


@pytest.mark.parametrize(
    ("name", "sec_type", "multiplier", "symbol"),
    [
        ("AAPL", "STK", "", "AAPL"),
        ("ESZ6", "FUT", "50", "ES"),
        ("AAPL  261218C00200000", "OPT", "100", "AAPL"),
        ("EUR.USD", "CASH", "", "EUR"),
        ("265598", "STK", "", "C265598"),
    ],
)
def test_a_name_of_the_script_is_the_contract_it_looks_like(
    name: str, sec_type: str, multiplier: str, symbol: str
) -> None:
    contract = contract_named(name)
    assert (contract.sec_type, contract.multiplier, contract.symbol) == (sec_type, multiplier, symbol)
    assert contract.con_id == contract_named(name).con_id
