"""What TWS sends by itself, and how its silence is noticed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokers.model import Side, StreamedFill
from brokers.port import Stream, StreamState
from tests.brokers.at_ib import (
    D,
    streamed,
)
from tests.brokers.following import eventually
from tests.brokers.reading import now


async def test_it_shares_the_adapters_connection_and_wakes_the_instrument_concerned() -> None:
    """FEATURES 24, 26: real-time streaming over the one connection that all consumers share."""
    events: list[str | None] = []
    async with streamed(events) as (simulator, broker, stream):
        meets: Stream = stream
        assert meets.error is None
        await broker.snapshot(None)
        simulator.trade("AAPL", Side.BUY, D(1))
        await eventually(lambda: events == ["AAPL"])
        assert simulator.requests.count("connect") == 1
        assert stream.last_heard_at is not None
        stream.close()
        simulator.trade("MSFT", Side.BUY, D(1))
        await broker.snapshot(None)
        assert events == ["AAPL"]
        assert stream.state is StreamState.CLOSED


async def test_a_quiet_account_is_heard_of_within_the_budget_by_its_clock() -> None:
    async with streamed([]) as (simulator, _, stream):
        before = simulator.requests.count("reqCurrentTime")
        await eventually(lambda: simulator.requests.count("reqCurrentTime") > before + 1)
        await eventually(lambda: stream.state is StreamState.LIVE)
        assert simulator.requests.count("connect") == 1, "asking for the time was enough"


async def test_while_tws_has_lost_ib_the_stream_is_not_live_however_alive_its_socket_is() -> None:
    async with streamed([]) as (simulator, _, stream):
        simulator.lose_connectivity()
        await eventually(lambda: stream.state is not StreamState.LIVE)
        await eventually(lambda: "connectivity" in (stream.error or ""))
        assert simulator.requests.count("connect") == 1, "its socket was alive all the while"
        simulator.restore_connectivity()
        await eventually(lambda: stream.state is StreamState.LIVE and stream.error is None)


@pytest.mark.parametrize("accounts", [("DU7",)])
async def test_another_account_behind_a_reconnect_is_refused_and_ends_the_stream(accounts: tuple[str, ...]) -> None:
    async with streamed([]) as (simulator, _, stream):
        simulator.accounts = accounts
        simulator.drop()
        await eventually(lambda: stream.state is StreamState.REFUSED)
        assert "has DU7, and DU1 is configured" in (stream.error or "")


async def test_at_rest_it_vouches_for_the_last_reading_until_something_is_pushed() -> None:
    """FEATURES 24"""
    events: list[str | None] = []
    async with streamed(events) as (simulator, broker, stream):
        assert broker.undisturbed() is None, "nothing was read yet"
        snapshot = await broker.snapshot(None)
        until = broker.undisturbed()
        assert until is not None
        assert until >= snapshot.requested_at
        calls = broker.calls
        await eventually(lambda: (broker.undisturbed() or until) > until)  # its clock was looked at
        assert broker.calls > calls

        simulator.trade("AAPL", Side.BUY, D(5))
        await eventually(lambda: "AAPL" in events)
        assert broker.undisturbed() is None
        await broker.snapshot(snapshot.fills_cursor)
        assert broker.undisturbed() is not None
        stream.close()
        assert broker.undisturbed() is None, "nobody listens any more"


async def test_nothing_is_vouched_for_once_all_is_due_to_be_read_again() -> None:
    """PEERS 14: orders of other clients are not pushed."""
    events: list[str | None] = []
    async with streamed(events, full_every_s=0.0) as (_, broker, _stream):
        await broker.snapshot(None)
        assert broker.undisturbed() is None


async def test_a_portfolio_row_wakes_its_instrument_when_its_quantity_is_another() -> None:
    """FEATURES 24"""
    events: list[str | None] = []
    async with streamed(events) as (simulator, broker, _):
        await broker.ping()  # connected, and the positions were not asked for: the portfolio alone says
        simulator.trade("AAPL", Side.BUY, D(5))
        await eventually(lambda: "AAPL" in events)
        assert "reqPositions" not in simulator.requests


async def test_an_execution_is_reported_however_far_our_clock_is_from_its_brokers() -> None:
    """Kind: a wall clock taken for an order of events. A time to come is one by TWS's clock."""
    executed: list[StreamedFill] = []
    async with streamed([], clock=lambda: now() - timedelta(minutes=10)) as (simulator, broker, stream):
        stream.report_fills_to(executed.append)
        stream.start(lambda _: None)
        await broker.snapshot(None)
        simulator.orders_by = 17  # TWS pushes the executions of this client's own orders
        simulator.trade("AAPL", Side.BUY, D(5))
        await eventually(lambda: bool(executed))
    assert [one.fill.quantity for one in executed] == [D(5)]


async def test_a_step_of_our_clock_is_no_silence() -> None:
    """Kind: a wall clock taken for freshness."""
    ahead = timedelta()
    async with streamed([], clock=lambda: now() + ahead, silence_s=30.0) as (_, broker, stream):
        await broker.ping()
        ahead = timedelta(hours=1)
        assert stream.state is StreamState.LIVE
        ahead = timedelta(hours=-1)
        assert stream.state is StreamState.LIVE
