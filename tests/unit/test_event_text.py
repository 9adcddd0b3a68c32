"""What the journal holds reads as one line for a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from actors.events import Event, EventType, Json, Record, Severity
from supervisor.presentation.event_text import Summaries, describe, summarize

LOST, RESTORED = EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED
CONNECTIONS: dict[str, tuple[EventType, dict[str, Json], str]] = {
    "a lost connection": (LOST, {"reason": "fx: time-out"}, "connection lost: fx: time-out"),
    "a connection that is back": (RESTORED, {"account": "fx"}, "connection restored"),
    "a lost stream": (LOST, {"stream": "SILENT", "reason": "fx: not heard of"}, "stream lost: fx: not heard of"),
    "a stream that is back": (RESTORED, {"account": "fx", "stream": "LIVE"}, "stream live again"),
}


@pytest.mark.parametrize(("kind", "payload", "line"), CONNECTIONS.values(), ids=CONNECTIONS.keys())
def test_a_connection_and_a_stream_are_distinguished(kind: EventType, payload: dict[str, Json], line: str) -> None:
    event = Event("1", kind, Severity.WARNING, datetime(2026, 1, 5, tzinfo=UTC), payload)

    assert describe(event) == line


DISCREPANCIES: dict[str, tuple[dict[str, Json], str]] = {
    "a book that nobody could verify": (
        {"type": "STALE_DATA", "key": "verified", "book_value": "2026-01-05T20:57:42.100000Z", "broker_value": None},
        "STALE_DATA: not verified since 20:57:42, open",
    ),
    "a fill that was missed": (
        {"type": "MISSED_FILL", "key": "88", "book_value": None, "broker_value": "200", "correction": "apply_fill"},
        "missed fill of order 88: 200, apply_fill (fill applied)",
    ),
    "a position that nobody looks after": (
        {"type": "UNMANAGED_INSTRUMENT", "key": "AUD_USD", "book_value": None, "broker_value": "in the account: net 5"},
        "UNMANAGED_INSTRUMENT AUD_USD: in the account: net 5, open",
    ),
    "a ghost": (
        {"type": "NAKED_POSITION", "key": "long", "book_value": "150", "correction": "force_close_position"},
        "NAKED_POSITION long: 150 → nothing, force_close_position (ghost cleared)",
    ),
}


@pytest.mark.parametrize(("payload", "line"), DISCREPANCIES.values(), ids=DISCREPANCIES.keys())
def test_a_discrepancy_is_a_sentence(payload: dict[str, Json], line: str) -> None:
    kind = EventType.RECONCILIATION_DISCREPANCY
    assert describe(Event("1", kind, Severity.WARNING, datetime(2026, 1, 5, tzinfo=UTC), payload)) == line


FILLED: dict[str, Json] = {
    "fill_id": "f1", "side": "BUY", "quantity": "3", "price": "1.1", "time": "2026-01-05T09:00:00Z", "legs": [],
    "replaces": [], "counted": True,
}  # fmt: skip
CONTAINED = "the positions, as the book was last set to them, contain it"
LINES: dict[str, tuple[EventType, dict[str, Json], str]] = {
    "a restart names its actor": (
        EventType.ACTOR_RESTARTED,
        {"actor": "fx/GBP_JPY", "reason": "its process has ended", "restarts": 1},
        "fx/GBP_JPY: its process has ended, restarted",
    ),
    "a start names its actor": (EventType.ACTOR_STARTED, {"actor": "fx", "attempt": 3}, "fx: started"),
    "a quarantine names its actor": (
        EventType.ACTOR_QUARANTINED,
        {"actor": "fx", "reason": "too often"},
        "fx: in quarantine: too often",
    ),
    "an outage of the disk": (
        EventType.JOURNAL_RESTORED,
        {"since": "2026-01-05T20:00:01Z", "until": "2026-01-05T20:03:00Z", "reason": "disk full", "actor": "audit"},
        "the journal could not be written from 20:00:01 to 20:03:00: disk full",
    ),
    "a fill that was counted": (EventType.FILL_RECORDED, FILLED | {"legs": [["net", "3"]]}, "filled BUY 3 @ 1.1"),
    "a fill of an old time": (
        EventType.FILL_RECORDED,
        FILLED,
        "filled BUY 3 @ 1.1 at 2026-01-05T09:00:00Z, without effect: " + CONTAINED,
    ),
    "a fill that was not counted": (
        EventType.ORDER_FILLED,
        FILLED | {"counted": False},
        "filled BUY 3 @ 1.1 at 2026-01-05T09:00:00Z, without effect: the book had it already",
    ),
    "a fill that stands in for an inferred one": (
        EventType.ORDER_FILLED,
        FILLED | {"replaces": [["x", "3"]]},
        "filled BUY 3 @ 1.1",
    ),
    "a fill whose leg is not known yet": (
        EventType.FILL_RECORDED,
        FILLED | {"pending": True},
        "filled BUY 3 @ 1.1, waiting for the broker to name its leg",
    ),
}


@pytest.mark.parametrize(("kind", "payload", "line"), LINES.values(), ids=LINES.keys())
def test_a_record_reads_as_what_happened_and_to_whom(kind: EventType, payload: dict[str, Json], line: str) -> None:
    event = Event("1", kind, Severity.INFO, datetime(2026, 1, 5, tzinfo=UTC), payload)

    assert describe(event) == line


@pytest.mark.parametrize(("legs", "shown"), [([], True), ([["net", "3"]], False)])
def test_those_who_watch_learn_of_a_reported_fill_that_moved_nothing(legs: list[Json], shown: bool) -> None:
    event = Event(
        "1", EventType.FILL_RECORDED, Severity.INFO, datetime(2026, 1, 5, tzinfo=UTC), FILLED | {"legs": legs}
    )

    assert (summarize(Record(1, "fx/EUR_USD", 1, event, "", "")) is not None) is shown


@pytest.mark.parametrize(
    ("correction", "later_s", "lines"),
    [("apply_fill", 0, 1), ("infer_fill", 0, 1), ("apply_fill", 1, 2), ("update_order", 0, 2)],
)
def test_a_missed_fill_is_one_line(correction: str, later_s: int, lines: int) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    missed: dict[str, Json] = {"type": "MISSED_FILL", "key": "88", "broker_value": "3", "correction": correction}
    found = Event("1", EventType.RECONCILIATION_DISCREPANCY, Severity.WARNING, at, missed)
    filled = Event("2", EventType.ORDER_FILLED, Severity.INFO, at + timedelta(seconds=later_s), FILLED)
    summaries = Summaries()

    texts = [summaries.of(Record(n, "fx/EUR_USD", n, event, "", "")) for n, event in enumerate((found, filled), 1)]

    assert sum(one is not None for one in texts) == lines
    assert summaries.of(Record(3, "fx/GBP_JPY", 1, filled, "", "")) is not None


def test_an_open_break_is_one_line_until_it_changes_or_ends() -> None:
    opened = datetime(2026, 1, 5, tzinfo=UTC)
    said: dict[str, Json] = {
        "id": "d1", "type": "NAKED_POSITION", "key": "long", "book_value": "150", "broker_value": None,
        "opened_at": "2026-01-05T00:00:00.000000Z",
    }  # fmt: skip
    looks: list[tuple[Severity, dict[str, Json]]] = [
        (Severity.WARNING, {}),
        (Severity.WARNING, {"seen_at": ["2026-01-05T00:00:00.000000Z"]}),
        (Severity.CRITICAL, {}),
        (Severity.CRITICAL, {"book_value": "170"}),
        (Severity.CRITICAL, {"book_value": "170", "resolved": True}),
        (Severity.CRITICAL, {}),
    ]
    summaries, lines = Summaries(), []
    for seq, (severity, changed) in enumerate(looks):
        kind = EventType.RECONCILIATION_DISCREPANCY
        event = Event(str(seq), kind, severity, opened + timedelta(seconds=seq), {**said, **changed})
        lines.append(summaries.of(Record(seq, "fx/EUR_USD", seq, event, "", "")))

    assert [line and line.text for line in lines] == [
        "NAKED_POSITION long: 150 → nothing, open",
        None,
        "NAKED_POSITION long: 150 → nothing, still open",
        "NAKED_POSITION long: 170 → nothing, still open",
        "NAKED_POSITION long: 170 → nothing, gone without a correction",
        "NAKED_POSITION long: 150 → nothing, still open",
    ]


def _texts(*events: Event) -> list[str]:
    summaries = Summaries()
    texts = [summaries.of(Record(seq, "fx/EUR_USD", seq, event, "", "")) for seq, event in enumerate(events, 1)]
    return [one.text for one in texts if one is not None]


def _adopted(broker_value: str, *, key: str = "12", later: timedelta = timedelta()) -> tuple[Event, Event]:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    fill: dict[str, Json] = {
        "type": "MISSED_FILL", "key": "12", "broker_value": "300", "correction": "apply_fill",
        "cause": "EXTERNAL_TRADE",
    }  # fmt: skip
    order: dict[str, Json] = {
        "type": "EXTERNAL_ORDER", "key": key, "broker_value": broker_value, "correction": "adopt_order",
    }  # fmt: skip
    kind = EventType.RECONCILIATION_DISCREPANCY
    return (
        Event("1", kind, Severity.WARNING, at, fill),
        Event("2", kind, Severity.WARNING, at + later, order),
    )


@pytest.mark.parametrize(
    ("events", "lines"),
    [
        (_adopted("SELL 300 FILLED filled 300"), 1),
        (_adopted("SELL 300 FILLED filled 300", later=timedelta(milliseconds=15)), 1),
        (_adopted("SELL 300 FILLED filled 300", later=timedelta(seconds=2)), 2),
        (_adopted("SELL 500 FILLED filled 500"), 2),
        (_adopted("SELL 300 FILLED filled 300", key="13"), 2),
        (_adopted("SELL 500 @ 1.1 PARTIALLY_FILLED filled 300"), 2),
    ],
    ids=["at once", "in the same look", "much later", "filled further", "another order", "still working"],
)
def test_an_external_trade_is_one_line_where_its_order_has_no_more_to_say(
    events: tuple[Event, Event], lines: int
) -> None:
    texts = _texts(*events)

    assert len(texts) == lines
    assert texts[0] == "missed fill of external order 12: 300, apply_fill (fill applied)"


def test_several_external_trades_of_one_look_are_a_line_each() -> None:
    fill, order = _adopted("SELL 300 FILLED filled 300")
    fills = [replace(fill, payload={**fill.payload, "key": key}) for key in ("12", "13", "14")]
    orders = [replace(order, payload={**order.payload, "key": key}) for key in ("12", "13", "14")]

    assert len(_texts(*fills, *orders)) == 3


@pytest.mark.parametrize(
    ("order", "lines"),
    [
        ({"broker_order_id": "4", "reason": None}, 1),
        ({"broker_order_id": "4", "reason": "margin"}, 2),
        ({"broker_order_id": "5", "reason": None}, 2),
    ],
    ids=["no reason", "with a reason", "another order"],
)
def test_an_order_that_ended_is_one_line_unless_the_broker_says_why(order: dict[str, Json], lines: int) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    found: dict[str, Json] = {
        "type": "ORDER_STATUS_MISMATCH", "key": "4", "book_value": "SELL 9 OPEN filled 0",
        "broker_value": "SELL 9 CANCELLED filled 0", "correction": "update_order",
    }  # fmt: skip

    texts = _texts(
        Event("1", EventType.RECONCILIATION_DISCREPANCY, Severity.INFO, at, found),
        Event("2", EventType.ORDER_CANCELLED, Severity.INFO, at, {"order": order}),
    )

    assert len(texts) == lines


def test_a_break_of_the_account_that_is_journaled_a_moment_after_it_was_found_is_new() -> None:
    at = datetime(2026, 1, 5, 9, 0, 0, 900, tzinfo=UTC)
    found: dict[str, Json] = {
        "type": "UNMANAGED_INSTRUMENT", "key": "AUD_USD", "broker_value": "in the account: net 5",
        "opened_at": "2026-01-05T09:00:00.000000Z",
    }  # fmt: skip

    texts = _texts(Event("1", EventType.RECONCILIATION_DISCREPANCY, Severity.WARNING, at, found))

    assert texts == ["UNMANAGED_INSTRUMENT AUD_USD: in the account: net 5, open"]
