"""An instrument's memory of its journal: the last entries, within a bound, pruned by themselves."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from actors.events import Event, EventType, Payload, Severity
from actors.instrument.recent_events import BYTES, ENTRIES, Recent

START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)


def an_event(number: int, size: int = 100, kind: EventType = EventType.ORDER_FILLED) -> Event:
    payload: Payload = {"number": number, "text": "x" * size}
    return Event(f"id{number}", kind, Severity.INFO, START + timedelta(seconds=number), payload)


def numbers(recent: Recent, newest: int | None = None) -> list[object]:
    return [entry["payload"]["number"] for entry in recent.entries(newest)]  # type: ignore[index]  # JSON


def test_the_last_thousand_are_kept_and_the_oldest_go_first() -> None:
    """FEATURES 14."""
    recent = Recent()
    for number in range(2500):
        recent.add(an_event(number))
        assert len(recent) == min(number + 1, ENTRIES)
    assert numbers(recent) == list(range(1500, 2500))
    assert numbers(recent, 3) == [2497, 2498, 2499]
    assert numbers(recent, 0) == []
    assert numbers(recent, 5000) == list(range(1500, 2500))


@pytest.mark.parametrize("size", [0, 500, 820, 5_000, 100_000, 890_000], ids=lambda size: f"{size} bytes each")
def test_they_stay_within_a_megabyte_of_memory_whatever_their_size(size: int) -> None:
    """FEATURES 14."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        recent = Recent()
        for number in range(ENTRIES + 500 if size < 10_000 else 30):
            recent.add(an_event(number, size))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_000_000
    kept = numbers(recent)
    assert kept
    assert kept == list(range(int(str(kept[0])), int(str(kept[-1])) + 1))


def test_an_entry_that_alone_is_too_large_is_not_kept_and_the_next_one_is() -> None:
    recent = Recent()
    recent.add(an_event(1))
    recent.add(an_event(2, BYTES))
    assert len(recent) == 0
    recent.add(an_event(3))
    assert numbers(recent) == [3]


def test_a_checkpoint_says_nothing_new_and_is_left_out() -> None:
    recent = Recent()
    recent.add(an_event(1, kind=EventType.CHECKPOINT))
    assert recent.entries() == []
