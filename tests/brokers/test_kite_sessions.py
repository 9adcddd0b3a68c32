"""When the life of an order at Kite is over: by session and validity, and nothing where that is not known."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, date, datetime
from types import ModuleType
from typing import Any

import pytest

from brokers import kite
from brokers.clocks import broker_time
from brokers.kite import sessions
from brokers.kite.decode import order_row
from tests.brokers.kite_rows import INFY, order

MCX, CURRENCY, CROSS = "MCX:GOLDM25DECFUT", "CDS:USDINR25DECFUT", "CDS:EURUSD25DECFUT"


def ist(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=sessions.IST).astimezone(UTC)


@pytest.mark.parametrize(
    ("instrument", "began", "ahead", "until"),
    [
        (INFY, "2025-11-20 10:00", False, "2025-11-20 15:30"),
        (INFY, "2025-11-20 16:00", False, "2025-11-21 15:30"),
        (INFY, "2025-11-21 20:00", True, "2025-11-24 15:30"),
        (INFY, "2025-11-24 07:00", True, "2025-11-24 15:30"),
        (INFY, "2025-10-20 20:00", True, "2025-10-23 15:30"),
        (INFY, "2025-10-21 18:30", False, "2025-10-22 00:00"),
        (MCX, "2025-11-20 16:00", False, "2025-11-20 23:55"),
        (MCX, "2025-08-20 16:00", False, "2025-08-20 23:30"),
        (MCX, "2025-11-20 23:58", False, None),
        (MCX, "2025-11-20 23:58", True, None),
        (CURRENCY, "2025-11-20 10:00", False, "2025-11-20 17:00"),
        (CROSS, "2025-11-20 10:00", False, "2025-11-20 19:30"),
        (CURRENCY, "2025-11-20 20:00", True, None),
        (INFY, "2035-11-20 10:00", False, "2035-11-20 15:30"),
        (INFY, "2035-11-20 20:00", True, None),
        ("XYZ:A", "2025-11-20 10:00", False, "2025-11-21 00:00"),
    ],
    ids=[
        "in its session",
        "begun after the close",
        "after market on a Friday",
        "after market, in the morning itself",
        "after market before two holidays",
        "in a special session, which the calendar does not know",
        "MCX in winter",
        "MCX in summer",
        "MCX after its close",
        "MCX after market",
        "currency",
        "cross currency pair",
        "currency after market",
        "beyond the calendar",
        "beyond the calendar, after market",
        "an exchange nobody knows",
    ],
)
def test_a_day_order_lives_to_the_close_of_its_own_session(
    instrument: str, began: str, ahead: bool, until: str | None
) -> None:
    found = sessions.good_until(instrument, broker_time(ist(began)), for_next_session=ahead)
    assert found == (None if until is None else ist(until))


@pytest.fixture
def without_calendar(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same module, as a process without the extra imports it."""
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    monkeypatch.setitem(sys.modules, sessions.__name__, sessions)  # afterwards it is there again, here
    monkeypatch.setattr(kite, "sessions", sessions)  # and here
    del sys.modules[sessions.__name__]
    return importlib.import_module(sessions.__name__)


def test_without_the_calendar_nothing_is_claimed_of_another_day(without_calendar: ModuleType) -> None:
    sessions = without_calendar
    assert sessions.close_of(INFY, date(2025, 11, 20)) == ist("2025-11-20 15:30")
    assert sessions.good_until(INFY, ist("2025-11-20 10:00"), for_next_session=False) == ist("2025-11-20 15:30")
    assert sessions.good_until(INFY, ist("2025-11-20 20:00"), for_next_session=True) is None


@pytest.mark.parametrize(
    ("fields", "until"),
    [
        ({}, "2025-11-20 15:30"),
        ({"validity": "TTL", "validity_ttl": 20}, "2025-11-20 10:20"),
        ({"validity": "TTL", "validity_ttl": 0}, None),
        ({"order_timestamp": None}, None),
        (
            {"variety": "amo", "order_timestamp": "2025-11-20 20:00:00", "status": "AMO REQ RECEIVED"},
            "2025-11-21 15:30",
        ),
        (
            {
                "variety": "amo",
                "order_timestamp": "2025-11-20 20:00:00",
                "exchange_timestamp": "2025-11-21 09:15:00",
            },
            "2025-11-21 15:30",
        ),
    ],
    ids=["day", "minutes", "minutes not given", "no time given", "after market", "after market, now at the exchange"],
)
def test_the_life_of_an_order_is_given_by_its_validity(fields: dict[str, Any], until: str | None) -> None:
    read = order_row(order(**fields)).order
    assert read.expires_at == (None if until is None else ist(until))


def test_an_after_market_order_is_as_old_as_its_time_at_the_exchange() -> None:
    """It is never stale before its market opens, and has no age yet when that does."""
    waiting = {"variety": "amo", "order_timestamp": "2025-11-20 20:00:00", "exchange_timestamp": None}
    for status in ("AMO REQ RECEIVED", "OPEN PENDING", "PUT ORDER REQ RECEIVED"):
        assert order_row(order(**waiting, status=status)).order.waits_for_open
    opened = order_row(order(**waiting | {"exchange_timestamp": "2025-11-21 09:15:00"}, status="OPEN")).order
    assert (opened.waits_for_open, opened.working_since) == (False, broker_time(ist("2025-11-21 09:15")))
