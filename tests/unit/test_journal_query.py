"""Questions to the journal: by stream, time, kind and id, in order, and no record too many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from actors.book import payloads
from actors.book.discrepancies import Break, DiscrepancyType, Phase
from actors.book.orders import BookOrder, order_key
from actors.events import Event, EventType, Payload, Severity, to_iso
from actors.journal.filters import conditions
from actors.journal.hash_chain import time_text
from actors.journal.record_filter import RecordFilter, RecordQuery, meets
from actors.journal.store import Journal
from actors.journal.types import Append
from brokers.clocks import broker_time
from brokers.model import CostBasis, OrderStatus, Side
from tests.unit.journal_cases import START, an_event, events, url_of


def an_order(broker_order_id: str | None, client_order_id: str | None) -> dict[str, Any]:
    key = order_key(broker_order_id, client_order_id)
    order = BookOrder(key, broker_order_id, client_order_id, Side.BUY, Decimal(100), OrderStatus.OPEN)
    return {"order": payloads.order_to(order)}


def a_fill(
    fill_id: str, *, broker_order_id: str | None = None, key: str | None = None, stands_for: str = ""
) -> Payload:
    replaces = ((stands_for, Decimal(3)),) if stands_for else ()
    fill = payloads.BookedFill(
        fill_id,
        key,
        Side.BUY,
        Decimal(10),
        Decimal("191.2"),
        broker_time(START),
        (("net", Decimal(10)),),
        CostBasis.FIFO,
        replaces,
        broker_order_id=broker_order_id,
    )
    return payloads.booked_fill_to(fill)


def a_break(identity: str, key: str) -> Payload:
    kind, phase = DiscrepancyType.MISSED_FILL, Phase.FILLS
    found = Break(identity, kind, key, Severity.WARNING, phase, None, None, "10", None, START)
    return payloads.break_to(found, resolved=False, correction=None)


PAYLOADS: list[tuple[EventType, Payload]] = [
    (EventType.ORDER_RECORDED, an_order(None, "c1")),
    (EventType.ORDER_UPDATED, an_order("77", "c1")),
    (EventType.FILL_RECORDED, a_fill("f1", broker_order_id="77", key="client:c1")),
    (EventType.FILL_RECORDED, a_fill("f2", broker_order_id="770", key="broker:770")),
    (EventType.ORDER_FILLED, a_fill("f3", broker_order_id="77", stands_for="f1")),
    (EventType.RECONCILIATION_DISCREPANCY, a_break("d1", "77")),
    (EventType.DISCREPANCY_RESOLVED, {**a_break("d1", "77"), "resolved": True}),
    (EventType.RECONCILIATION_DISCREPANCY, a_break("d2", "770")),
    (EventType.OPERATOR_ACTION, {"action": "acknowledge", "discrepancy_id": "d2", "note": "77 and f1 and c1"}),
    (EventType.ORDER_RECORDED, an_order(None, 'ü "quoted"\\')),
    (
        EventType.ORDER_RECORDED,
        {"order": {**an_order(None, "other")["order"], "key": "client:c1'"}},
    ),
    (EventType.FILL_RECORDED, a_fill("f4", key="client:c1'")),
    (EventType.CHECKPOINT, {"orders": [an_order("9", "c1")["order"]]}),
]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(url_of(tmp_path), exclusive=True)
    yield opened
    opened.close()


@pytest.fixture
def with_ids(journal: Journal) -> Journal:
    """A journal of PAYLOADS, in their order."""
    made = [an_event(str(place), kind=kind, payload=payload) for place, (kind, payload) in enumerate(PAYLOADS)]
    journal.append([Append("fx/A", 0, tuple(made[:6])), Append("fx/B", 0, tuple(made[6:]))])
    return journal


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({"order_id": "77"}, [2, 3, 5, 6, 7], id="an order by the broker's id, and its fills and breaks"),
        pytest.param({"order_id": "c1"}, [1, 2, 3, 12, 13], id="an order by the client's id, nested, and its fills"),
        pytest.param({"order_id": "7"}, [], id="half an id"),
        pytest.param({"order_id": "770"}, [4, 8], id="an id that begins like another"),
        pytest.param({"order_id": 'ü "quoted"\\'}, [10], id="an id that JSON writes otherwise"),
        pytest.param({"order_id": "%"}, [], id="no pattern"),
        pytest.param({"fill_id": "f1"}, [3, 5], id="a fill, and the one that stands in for it"),
        pytest.param({"fill_id": "f3"}, [5], id="a fill"),
        pytest.param({"discrepancy_id": "d1"}, [6, 7], id="a discrepancy, and what resolved it"),
        pytest.param({"discrepancy_id": "d2"}, [8, 9], id="a discrepancy, and what a person did about it"),
        pytest.param({"order_id": "77", "fill_id": "f3"}, [5], id="both ids"),
        pytest.param({"order_id": "77", "fill_id": "f2"}, [], id="two ids that stand nowhere together"),
        pytest.param({"order_id": "77", "limit": 2}, [2, 3], id="the oldest two"),
        pytest.param({"order_id": "77", "limit": 2, "order": "newest"}, [7, 6], id="the newest two"),
        pytest.param({"order_id": "77", "limit": 0}, [], id="none"),
        pytest.param({"order_id": "77", "types": [EventType.ORDER_FILLED]}, [5], id="an order in a type"),
        pytest.param({"order_id": "c1", "instrument": "B"}, [12, 13], id="an order in an instrument"),
        pytest.param({"order_id": "c1", "after_seq": 2}, [3, 12, 13], id="an order after a seq"),
        pytest.param({"severities": [Severity.INFO, Severity.CRITICAL], "limit": 1}, [1], id="severities"),
        pytest.param({"severities": [Severity.CRITICAL]}, [], id="a severity that none has"),
    ],
)
def test_records_that_name_an_id_are_found(with_ids: Journal, filters: dict[str, Any], expected: list[int]) -> None:
    """FEATURES 14."""
    assert [record.seq for record in with_ids.records(**filters)] == expected
    assert met(with_ids, filters) == sorted(expected)


def met(journal: Journal, filters: dict[str, Any]) -> list[int]:
    """The records that meet the filter one by one, as live events are selected, of the page that was asked for."""
    page: RecordQuery = {key: filters[key] for key in ("after_seq", "limit", "order") if key in filters}  # type: ignore[assignment]  # its own keys
    asked: RecordFilter = {key: value for key, value in filters.items() if key not in page}  # type: ignore[assignment]  # likewise
    limit = page.pop("limit", None)
    found = [record.seq for record in journal.records(**page) if meets(asked, record)]
    return sorted(found if limit is None else found[:limit])


def test_a_condition_that_there_is_none_of_selects_nothing_by_accident(with_ids: Journal) -> None:
    with pytest.raises(TypeError, match=r"by symbol\. There are: account, .*, until$"):
        with_ids.records(symbol="A")  # type: ignore[call-arg]  # the mistake


def test_a_page_of_records_that_only_contain_the_text_does_not_end_the_search(tmp_path: Path) -> None:
    journal = Journal.open(url_of(tmp_path), exclusive=True)
    noise = [an_event(str(number), payload={"note": "order c1"}) for number in range(2500)]
    journal.append([Append("fx/A", 0, (*noise, an_event("found", payload={"client_order_id": "c1"})))])
    assert [record.seq for record in journal.records(order_id="c1", limit=1)] == [2501]
    assert [record.seq for record in journal.records(order_id="c1", limit=5, order="newest")] == [2501]
    journal.close()


def test_another_database_is_asked_in_its_own_words() -> None:
    asked = conditions({"until": START, "order_id": 'a"b'}, "postgresql")
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped
    assert [str(one.compile(dialect=dialect, compile_kwargs={"literal_binds": True})) for one in asked] == [
        "journal_records.time < '2025-01-06T14:30:00.000000Z'",
        "strpos(journal_records.payload, 'a\\\"b') > 0",
    ]


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),  # noqa: DTZ001 - a zone is added
    st.integers(-1439, 1439),
)
def test_a_time_is_written_as_everywhere_else(moment: datetime, offset_minutes: int) -> None:
    for zone in (UTC, timezone(timedelta(minutes=offset_minutes))):
        time = replace_zone(moment, zone)
        assert time_text(time) == to_iso(time)
        assert time_text(time.replace(microsecond=0)) == to_iso(time.replace(microsecond=0))


def replace_zone(moment: datetime, zone: timezone) -> datetime:
    return moment.replace(tzinfo=zone)


class TestFilters:
    @pytest.fixture
    def filled(self, journal: Journal) -> Journal:
        def at(minute: int, kind: EventType, severity: Severity) -> Event:
            time = START + timedelta(minutes=minute)
            return replace(an_event(str(minute), kind=kind), time=time, severity=severity)

        filled, lost, tip = EventType.ORDER_FILLED, EventType.CONNECTION_LOST, EventType.RECONCILIATION_DISCREPANCY
        journal.append(
            [
                Append("fx/EUR/USD", 0, (at(1, filled, Severity.INFO), at(2, tip, Severity.CRITICAL))),
                Append("fx", 0, (at(3, lost, Severity.WARNING),)),
                Append("FX/EUR/USD", 0, (at(4, filled, Severity.INFO),)),
                Append("fxx/EUR/USD", 0, (at(5, filled, Severity.INFO),)),
                Append("fx/GBP_JPY", 0, (at(6, tip, Severity.CRITICAL),)),
                Append("supervisor", 0, (at(7, EventType.OPERATOR_ACTION, Severity.INFO),)),
            ]
        )
        return journal

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            pytest.param({}, [1, 2, 3, 4, 5, 6, 7], id="all"),
            pytest.param({"order": "newest"}, [7, 6, 5, 4, 3, 2, 1], id="newest first"),
            pytest.param({"order": "newest", "limit": 2}, [7, 6], id="the newest two"),
            pytest.param({"limit": 2}, [1, 2], id="the oldest two"),
            pytest.param({"limit": 0}, [], id="none"),
            pytest.param({"after_seq": 5}, [6, 7], id="after a seq"),
            pytest.param({"after_seq": 5, "order": "newest", "limit": 1}, [7], id="the newest after a seq"),
            pytest.param({"stream": "fx/EUR/USD"}, [1, 2], id="a stream"),
            pytest.param({"stream": "fx/EUR/USD", "after_seq": 1}, [2], id="a stream after a seq"),
            pytest.param({"stream": "fx/EUR/USD", "order": "newest"}, [2, 1], id="a stream, newest first"),
            pytest.param({"stream": "never"}, [], id="no such stream"),
            pytest.param({"account": "fx"}, [1, 2, 3, 6], id="an account, its own stream too, and no other's"),
            pytest.param({"account": "fx", "order": "newest", "limit": 3}, [6, 3, 2], id="an account, newest first"),
            pytest.param({"account": "f"}, [], id="no such account"),
            pytest.param({"instrument": "EUR/USD"}, [1, 2, 4, 5], id="an instrument in every account"),
            pytest.param({"account": "FX", "instrument": "EUR/USD"}, [4], id="an instrument in an account"),
            pytest.param({"stream": "fx", "account": "cfd"}, [], id="a stream of another account"),
            pytest.param({"types": [EventType.ORDER_FILLED]}, [1, 4, 5], id="a type"),
            pytest.param({"types": []}, [], id="no type"),
            pytest.param({"severity": Severity.CRITICAL}, [2, 6], id="a severity"),
            pytest.param({"account": "fx", "severity": Severity.CRITICAL}, [2, 6], id="a severity in an account"),
            pytest.param({"since": START + timedelta(minutes=6)}, [6, 7], id="since, inclusive"),
            pytest.param({"until": START + timedelta(minutes=2)}, [1], id="until, exclusive"),
        ],
    )
    def test_records_meet_every_filter_in_order(
        self, filled: Journal, filters: dict[str, Any], expected: list[int]
    ) -> None:
        """PEERS 2: accounts and instruments are distinguished to the letter."""
        assert [record.seq for record in filled.records(**filters)] == expected
        assert met(filled, filters) == sorted(expected)

    def test_streams_are_named_once_each(self, filled: Journal) -> None:
        assert filled.streams() == ["FX/EUR/USD", "fx", "fx/EUR/USD", "fx/GBP_JPY", "fxx/EUR/USD", "supervisor"]

    @pytest.mark.parametrize("account", [None, "fx"], ids=["all", "an account"])
    @pytest.mark.parametrize("stream", [None, "fx/A"], ids=["any", "a stream"])
    def test_more_than_a_page_is_read_while_more_is_written(
        self, journal: Journal, account: str | None, stream: str | None
    ) -> None:
        many = tuple(an_event(str(number), payload={}) for number in range(2500))
        journal.append([Append("fx/A", 0, many)])
        reading = journal.records(account=account, stream=stream)
        seen = [next(reading).seq]
        journal.append([Append("fx/B", 0, events("b"))])
        seen += [record.seq for record in reading]
        assert seen == list(range(1, 2501 if stream or account else 2502))
        newest = journal.records(stream="fx/A", order="newest", limit=2400)
        assert [record.seq for record in newest] == list(range(2500, 100, -1))

    def test_a_time_without_a_zone_is_no_filter(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="without a zone"):
            journal.records(since=START.replace(tzinfo=None))
