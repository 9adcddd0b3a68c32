"""OANDA's transactions, through the real TransactionsStream of the SDK, against a stream on loopback."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from queue import Queue
from typing import Any

import pytest

from brokers.model import OrderStatus, Side, StreamedFill
from brokers.oanda.stream import CONNECTION_SPACING_S, OandaStream, execution, turn_in_s, wakes
from brokers.port import StreamState
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.following import Events, heard, listening, until
from tests.brokers.listeners import answering, http_answer

D = Decimal
SILENCE_S = 1.0
"""Many heartbeats of the simulator: a busy machine's own pauses are no silence of the broker's."""
ACCOUNT_ID, TOKEN = "101-001-1-001", "token-of-the-tests"
EUR, GBP = "EUR_USD", "GBP_JPY"
Step = Callable[[OandaSimulator], object]


@pytest.fixture
def sim() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=(EUR, GBP), heartbeat_s=0.03)
    simulator.start_stream()
    yield simulator
    simulator.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("oanda-")]


def opened(sim: OandaSimulator | str, **kwargs: Any) -> OandaStream:
    settings: dict[str, Any] = {
        "account": "fx",
        "account_id": ACCOUNT_ID,
        "token": TOKEN,
        "stream_url": sim if isinstance(sim, str) else sim.start_stream(),
        "clock": lambda: datetime.now(UTC),
        "silence_s": 30.0,
        "backoff_s": 0.01,
    }
    return OandaStream(**{**settings, **kwargs})


def following(sim: OandaSimulator | str, **kwargs: Any) -> AbstractContextManager[tuple[OandaStream, Events]]:
    return listening(opened(sim, **kwargs))


# -- what a line wakes ---------------------------------------------------------------------------------------------

WHOLE = {
    "type": "ORDER_FILL", "id": "8", "accountID": ACCOUNT_ID, "instrument": EUR, "orderID": "5", "units": "100",
    "price": "1.25", "time": "2024-01-02T09:00:00.000000000Z", "tradeOpened": {"tradeID": "8", "units": "100"},
}  # fmt: skip
FILL = {"type": "ORDER_FILL", "id": "8", "accountID": ACCOUNT_ID, "instrument": EUR}


@pytest.mark.parametrize(
    ("line", "newest", "woken", "newest_after"),
    [
        (FILL, 7, (EUR,), 8),
        (FILL, 8, (EUR,), 8),
        (FILL, 9, (EUR,), 9),
        (FILL, 6, (None,), 8),
        (FILL, None, (None,), 8),
        ({**FILL, "type": "LIMIT_ORDER_REJECT"}, 7, (EUR,), 8),
        ({**FILL, "type": "OF_TOMORROW"}, 7, (EUR,), 8),
        ({"type": "OF_TOMORROW", "id": "8"}, 7, (None,), 8),
        ({"type": "ORDER_CANCEL", "id": "8", "orderID": "5"}, 7, (None,), 8),
        ({"type": "STOP_LOSS_ORDER", "id": "8", "tradeID": "5"}, 7, (None,), 8),
        ({"type": "DAILY_FINANCING", "id": "8"}, 7, (), 8),
        ({"type": "TRANSFER_FUNDS", "id": "9"}, 7, (None,), 9),
        ({**FILL, "instrument": 7}, 7, (None,), 8),
        ({**FILL, "type": ["ORDER_FILL"], "instrument": "EUR_USD"}, 7, ("EUR_USD",), 8),
        ({**FILL, "accountID": "another"}, 7, (None,), 8),
        ({**FILL, "id": "x"}, 7, (None,), 7),
        ({**FILL, "id": 8.0}, 7, (None,), 7),
        ([FILL], 7, (None,), 7),
        ("text", None, (None,), None),
        ({"type": "HEARTBEAT", "lastTransactionID": "7"}, None, (None,), 7),
        ({"type": "HEARTBEAT", "lastTransactionID": "7"}, 7, (), 7),
        ({"type": "HEARTBEAT", "lastTransactionID": "9"}, 7, (None,), 9),
        ({"type": "HEARTBEAT", "lastTransactionID": "6"}, 7, (None,), 6),
        ({"type": "HEARTBEAT"}, 7, (None,), 7),
    ],
    ids=[
        "the next fill",
        "a fill reported twice",
        "a late fill",
        "a fill after a gap",
        "a fill as the first line",
        "a refused order",
        "an unknown type with an instrument",
        "an unknown type without one",
        "a cancel, which names an order",
        "a stop-loss, which names a trade",
        "financing",
        "money, and a gap before it",
        "an instrument that is none",
        "a type that is none",
        "of another account",
        "an id that is none",
        "an id by way of float",
        "no object",
        "no object as the first line",
        "the first heartbeat",
        "a heartbeat with nothing new",
        "a heartbeat that shows a gap",
        "a heartbeat that goes back",
        "a heartbeat without an id",
    ],
)
def test_a_line_wakes_whom_it_may_concern(
    line: object, newest: int | None, woken: tuple[str | None, ...], newest_after: int | None
) -> None:
    """FEATURES 24: doubt wakes all, and only what is certainly of no instrument wakes nobody."""
    assert wakes(line, newest, ACCOUNT_ID) == (woken, newest_after)


@pytest.mark.parametrize(
    ("line", "created"),
    [
        ({**WHOLE, "accountID": "another"}, {}),
        ({key: value for key, value in WHOLE.items() if key != "accountID"}, {}),
        ({**WHOLE, "units": "1e999999"}, {}),
        ({**WHOLE, "units": "0"}, {}),
        ({**WHOLE, "price": "NaN"}, {}),
        ({**WHOLE, "time": "yesterday"}, {}),
        ({**WHOLE, "instrument": None}, {}),
        ({**WHOLE, "type": "ORDER_CANCEL"}, {}),
        (WHOLE, {"5": {"type": "MARKET_ORDER", "id": "5", "units": "many", "instrument": EUR}}),
        ([WHOLE], {}),
        ("text", {}),
    ],
    ids=[
        "of another account",
        "of nobody's account",
        "a number that is none",
        "no units",
        "no price",
        "no time",
        "no instrument",
        "no fill",
        "whose order cannot be read",
        "no object",
        "no line",
    ],
)
def test_what_is_not_surely_a_whole_fill_of_ours_is_no_execution(line: object, created: dict[str, Any]) -> None:
    assert execution(line, created, ACCOUNT_ID) is None


def test_a_fill_is_reported_with_its_order_where_the_stream_reported_that() -> None:
    streamed = execution(WHOLE, {}, ACCOUNT_ID)
    assert streamed is not None
    assert (streamed.fill.fill_id, streamed.fill.quantity, streamed.fill.price, streamed.order) == (
        "8",
        D(100),
        D("1.25"),
        None,
    )
    created = {"type": "MARKET_ORDER", "id": "5", "units": "150", "instrument": EUR, "time": WHOLE["time"]}
    streamed = execution(WHOLE, {"5": {**created, "clientExtensions": {"id": "mine"}}}, ACCOUNT_ID)
    assert streamed is not None
    assert streamed.order is not None
    row = (
        streamed.order.client_order_id,
        streamed.order.status,
        streamed.order.quantity,
        streamed.order.filled_quantity,
    )
    assert row == ("mine", OrderStatus.CANCELLED, D(150), D(100)), "what is left of it is gone"
    streamed = execution(WHOLE, {"5": {**created, "replacesOrderID": "4"}}, ACCOUNT_ID)
    assert streamed is not None
    assert streamed.order is None, "whose place it took is not known"


@pytest.mark.parametrize(
    ("tries", "since_last_s", "jitter", "wait_s"),
    [
        (0, 100.0, 1.0, 0.0),
        (0, 0.0, 0.0, CONNECTION_SPACING_S),
        (1, 0.25, 0.0, 0.5),
        (1, 100.0, 1.0, 1.0),
        (3, 100.0, 0.0, 2.0),
        (3, 100.0, 1.0, 4.0),
        (6, 100.0, 1.0, 30.0),
        (10**9, 100.0, 0.0, 15.0),
    ],
)
def test_connections_wait_longer_each_time_and_are_never_more_than_two_a_second(
    tries: int, since_last_s: float, jitter: float, wait_s: float
) -> None:
    assert turn_in_s(tries, since_last_s, 1.0, 30.0, jitter) == wait_s


# -- over the wire -------------------------------------------------------------------------------------------------


def test_a_transaction_of_anybody_wakes_its_instrument_and_no_other(sim: OandaSimulator) -> None:
    """FEATURES 24"""
    with following(sim) as (stream, events):
        assert heard(events) is None  # connected: what happened before is not reported
        assert (stream.state, stream.error) == (StreamState.LIVE, None)
        sim.place_limit(GBP, Side.BUY, D(5), D(1))
        assert heard(events) == GBP
        sim.trade(EUR, Side.BUY, D(100))  # an order and its fill
        assert (heard(events), heard(events)) == (EUR, EUR)
        sim.set_position(GBP, "long", D(7), D(1))  # moves funds, as the stream reports it
        sim.trade(GBP, Side.SELL, D(1))
        assert (heard(events), heard(events)) == (GBP, GBP)
        assert events.empty()
        assert stream.last_heard_at is not None


def test_a_transaction_that_was_lost_shows_in_the_next_heartbeat(sim: OandaSimulator) -> None:
    """PEERS 13: with the connection as healthy as can be."""
    with following(sim) as (stream, events):
        heard(events)
        sim.stream.lossy = True
        sim.trade(EUR, Side.BUY, D(100))
        assert heard(events) is None
        sim.stream.lossy = False
        sim.place_limit(EUR, Side.BUY, D(5), D(1))
        assert heard(events) == EUR
        assert (stream.state, sim.stream.connections) == (StreamState.LIVE, 1)


def test_executions_of_every_kind_of_order_are_reported_whole(sim: OandaSimulator) -> None:
    executed: Queue[StreamedFill] = Queue()
    opened_one = opened(sim)
    opened_one.report_fills_to(executed.put)
    early = sim.place_limit(EUR, Side.BUY, D(5), D(1), "early")
    with listening(opened_one) as (_, events):
        heard(events)
        late = sim.place_limit(GBP, Side.SELL, D(7), D(1), "late")
        sim.fill_order(early)
        sim.fill_order(late, D(3))
        stop = sim.place_dependent(EUR, "long", "STOP_LOSS", D(1))
        sim.fill_order(stop)
        streamed = [executed.get(timeout=10) for _ in range(3)]
    rows = [one.order for one in streamed]
    assert [(one.fill.broker_order_id, one.fill.client_order_id, one.fill.quantity) for one in streamed] == [
        (early, "early", D(5)), (late, "late", D(3)), (stop, None, D(5)),
    ]  # fmt: skip
    assert rows[0] is None, "it was there before the stream was"
    assert rows[1] is not None
    assert (rows[1].client_order_id, rows[1].quantity, rows[1].leg) == ("late", D(7), None)
    assert rows[2] is not None
    assert (rows[2].order_type, rows[2].parent, rows[2].leg) == ("STOP_LOSS", streamed[0].fill.fill_id, "long")


def _stall(_: OandaSimulator) -> None:
    """It says nothing any more: the test has muted it."""


def _trickle(sim: OandaSimulator) -> None:
    sim.stream.say_half('{"type": "ORDER_FILL"')


def _refuse(sim: OandaSimulator) -> None:
    sim.faults.add(Fault.UNAUTHORIZED)
    sim.stream.hang_up()


ENDINGS: list[tuple[str, Step, StreamState, str]] = [
    ("a clean close", lambda sim: sim.stream.hang_up(), StreamState.CONNECTING, "was ended by the broker"),
    ("a cut in a chunk", lambda sim: sim.stream.drop(), StreamState.CONNECTING, "was cut in the middle"),
    ("half a line", lambda sim: sim.stream.half_line(), StreamState.CONNECTING, "not a whole line"),
    ("a line of HTML", lambda sim: sim.stream.say("<html>"), StreamState.CONNECTING, "not a whole line"),
    ("a stall", _stall, StreamState.SILENT, "has said nothing for 1 s"),
    ("a stall within a line", _trickle, StreamState.SILENT, "has said nothing for 1 s"),
    ("a token withdrawn", _refuse, StreamState.REFUSED, "check `token`"),
]


@pytest.mark.parametrize(("end", "state", "why"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_every_ending_is_distinguished_and_survived(
    sim: OandaSimulator, caplog: pytest.LogCaptureFixture, end: Step, state: StreamState, why: str
) -> None:
    """PEERS 13: what ended is connected anew, and then anything may have changed. Only a refusal waits for us."""
    caplog.set_level(logging.DEBUG)
    with following(sim, silence_s=SILENCE_S if state is StreamState.SILENT else 30.0) as (stream, events):
        heard(events)
        sim.stream.mute = True  # the next connection does not come up before this one's end was looked at
        end(sim)
        until(lambda: stream.state is state)
        assert why in str(stream.error)
        assert str(stream.error).startswith(f"fx: the transaction stream of {ACCOUNT_ID} ")
        if state is StreamState.REFUSED:
            until(lambda: not _following_threads())
            assert events.empty()
            stream.start(events.put)
        until(lambda: sim.stream.connections >= 2)
        sim.stream.mute = False
        assert heard(events) is None
        assert (stream.state, stream.error) == (StreamState.LIVE, None)
        sim.place_limit(GBP, Side.BUY, D(5), D(1))
        assert heard(events) == GBP
        assert TOKEN not in caplog.text + repr(stream)


def _following_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("-fx")]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault.SERVER_ERROR, "HTTP 500"),
        (Fault.RATE_LIMITED, "HTTP 429"),
        (Fault.RESET, "has no connection"),
        (Fault.TIMEOUT, "has said nothing"),
    ],
)
def test_where_it_cannot_be_had_it_is_asked_for_until_it_can(sim: OandaSimulator, fault: Fault, why: str) -> None:
    sim.faults.add(fault, times=99)
    with following(sim, silence_s=SILENCE_S if fault is Fault.TIMEOUT else 30.0) as (stream, events):
        until(lambda: why in str(stream.error))
        assert stream.state in {StreamState.CONNECTING, StreamState.SILENT}
        sim.faults.clear()
        assert heard(events) is None
        assert (stream.state, stream.error) == (StreamState.LIVE, None)


@pytest.mark.parametrize(
    "settings", [{"account_id": "101-001-1-002"}, {"stream_url": "nowhere"}], ids=["account_id", "stream_url"]
)
def test_a_configuration_that_leads_nowhere_is_said(sim: OandaSimulator, settings: dict[str, str]) -> None:
    with following(sim, **settings) as (stream, events):
        until(lambda: stream.error is not None)
        assert "Check `account_id`" in str(stream.error)
        assert stream.state is StreamState.CONNECTING
        assert events.empty()


def test_a_refusal_that_repeats_the_token_shows_it_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refusal(request: bytes) -> Iterator[bytes]:
        sent = next(line for line in request.split(b"\r\n") if line.startswith(b"Authorization: "))
        yield http_answer(b"nobody knows " + sent.partition(b" ")[2], "401 Unauthorized")

    caplog.set_level(logging.DEBUG)
    with answering(refusal) as url, following(url, token="another-token-0000") as (stream, _):
        until(lambda: stream.state is StreamState.REFUSED)
        assert "nobody knows Bearer ***" in str(stream.error)
        assert "HTTP 401" in str(stream.error)
        assert "another-token-0000" not in str(stream.error) + repr(stream) + caplog.text


def test_a_token_that_no_header_can_carry_is_refused_before_anybody_logs_it(
    sim: OandaSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with following(sim, token="another-token-0000\n") as (stream, _):
        until(lambda: stream.state is StreamState.REFUSED)
        assert "check `token`" in str(stream.error)
        assert "another-token-0000" not in str(stream.error) + repr(stream) + caplog.text
    assert sim.stream.connections == 0


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "Connection: close"])
@pytest.mark.parametrize("quiet", [False, True], ids=["while it speaks", "while it is silent"])
def test_nothing_is_heard_after_a_close_and_the_connection_is_gone(
    sim: OandaSimulator, quiet: bool, keep_alive: bool
) -> None:
    """http.client gives the socket away where the answer says ``Connection: close``."""
    sim.stream.keep_alive = keep_alive
    with following(sim) as (stream, events):
        heard(events)
        sim.stream.mute = quiet
        stream.close()
        assert not _following_threads()
        sim.trade(EUR, Side.BUY, D(100))
        until(lambda: sim.stream.connected == 0)
        assert events.empty()
        assert (stream.state, stream.error) == (StreamState.CLOSED, None)
