"""Whether trading is allowed, from what is known: every reason named, and the unknown never allowed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from actors.book.discrepancies import Break, DiscrepancyType, Phase
from actors.book.trading_permission import (
    EVERYTHING,
    Halt,
    Obstacle,
    folded,
    halts_on,
    obstacles,
    scope_of,
    scope_words,
)
from actors.events import Event, EventType, Record, Severity
from tests.unit.builders import at

NOW, VERIFIED = at(1000), at(990)
HALT = Halt("fx", "lunch", at(10))


def a_break(severity: Severity, kind: DiscrepancyType = DiscrepancyType.NAKED_POSITION) -> Break:
    return Break("b1", kind, "long", severity, Phase.GHOST, None, "100", None, None, at(900))


def found(
    breaks: list[Break] | None = (),  # type: ignore[assignment] # none, and never changed
    verified_at: datetime | None = VERIFIED,
    halts: tuple[Halt, ...] | None = (),
    refused: str | None = None,
) -> list[str]:
    reasons = obstacles(breaks, verified_at, 60.0, halts, refused, "PARTIAL: positions not known", NOW)
    return [reason.obstacle.value for reason in reasons]


def test_nothing_known_against_it_and_all_known_allows() -> None:
    assert found() == []
    assert found([a_break(Severity.INFO, DiscrepancyType.PRICE_MISMATCH)]) == []
    assert found(verified_at=NOW - timedelta(seconds=60)) == []


@pytest.mark.parametrize("severity", [Severity.INFO, Severity.WARNING])
@pytest.mark.parametrize("kind", ["POSITION_MISMATCH", "MISSING_LOCALLY", "MISSED_FILL", "ORDER_MISSING"])
def test_a_break_of_a_position_or_of_an_orders_fate_forbids_trading_unless_it_may_stand(
    kind: str, severity: Severity
) -> None:
    standing = [a_break(severity, DiscrepancyType(kind))]

    def against(*may_stand: str) -> list[str]:
        allowed = frozenset(map(DiscrepancyType, may_stand))
        reasons = obstacles(standing, VERIFIED, 60.0, (), None, None, NOW, may_stand=allowed)
        return [reason.obstacle.value for reason in reasons]

    assert against() == ["OPEN_BREAK"]
    assert against("STALE_ORDER") == ["OPEN_BREAK"]
    assert against(kind) == []


@pytest.mark.parametrize(
    ("known", "against"),
    [
        ({"breaks": [a_break(Severity.CRITICAL)]}, [Obstacle.CRITICAL_BREAK]),
        ({"verified_at": NOW - timedelta(seconds=60.1)}, [Obstacle.UNVERIFIED]),
        ({"verified_at": None}, [Obstacle.UNVERIFIED]),
        ({"breaks": None}, [Obstacle.UNVERIFIED]),
        ({"halts": (HALT,)}, [Obstacle.HALTED]),
        ({"halts": (HALT, replace(HALT, scope=EVERYTHING))}, [Obstacle.HALTED, Obstacle.HALTED]),
        ({"halts": None}, [Obstacle.HALTED]),
        ({"refused": "401"}, [Obstacle.ACCOUNT_REFUSED]),
        (
            {"breaks": [a_break(Severity.CRITICAL)], "verified_at": None, "halts": (HALT,), "refused": "401"},
            [Obstacle.HALTED, Obstacle.ACCOUNT_REFUSED, Obstacle.CRITICAL_BREAK, Obstacle.UNVERIFIED],
        ),
    ],
    ids=[
        "a critical break",
        "verified too long ago",
        "never verified",
        "no book loaded",
        "halted",
        "halted twice",
        "halts not known",
        "refused",
        "everything at once",
    ],
)
def test_each_obstacle_is_named(known: dict[str, object], against: list[Obstacle]) -> None:
    assert found(**known) == against  # type: ignore[arg-type] # by keyword


def test_reasons_say_what_was_found_and_since_when() -> None:
    texts = [str(r) for r in obstacles([a_break(Severity.CRITICAL)], at(0), 60, (HALT,), None, "DEGRADED: down", NOW)]
    assert texts[0] == "account fx halted since 2024-01-02T09:00:10.000000Z: lunch"
    assert texts[1].startswith("NAKED_POSITION long is open since 2024-01-02T09:15:00")
    assert texts[1].endswith("book 100, broker nothing")
    assert texts[2] == "the book was last verified 1000.0 s ago, more than unverified_s (60): DEGRADED: down"


def records(*given: tuple[str, EventType]) -> list[Record]:
    return [
        Record(seq, stream, seq, Event(str(seq), kind, Severity.INFO, at(seq), {"reason": f"r{seq}"}), "", "")
        for seq, (stream, kind) in enumerate(given, 1)
    ]


def test_halts_are_a_fold_of_the_journal_by_scope() -> None:
    halted, resumed = EventType.TRADING_HALTED, EventType.TRADING_RESUMED
    halts = folded(
        records(
            (EVERYTHING, halted),
            ("fx", halted),
            ("fx/EUR_USD", halted),
            ("fx", EventType.CONNECTION_LOST),
            (EVERYTHING, resumed),
            ("fx/EUR_USD", halted),
            ("cfd", resumed),
        )
    )
    assert {scope: (halt.reason, halt.since) for scope, halt in halts.items()} == {
        "fx": ("r2", at(2)),
        "fx/EUR_USD": ("r6", at(6)),
    }
    assert [halt.scope for halt in halts_on("fx/EUR_USD", halts)] == ["fx", "fx/EUR_USD"]
    assert [halt.scope for halt in halts_on("fx/GBP_JPY", halts)] == ["fx"]
    assert halts_on("fx2/EUR_USD", halts) == ()


@pytest.mark.parametrize(
    ("account", "instrument", "scope", "words"),
    [
        (None, None, EVERYTHING, "everything"),
        ("fx", None, "fx", "account fx"),
        ("fx", "EUR_USD", "fx/EUR_USD", "fx/EUR_USD"),
    ],
)
def test_a_scope_is_a_stream_of_the_journal(
    account: str | None, instrument: str | None, scope: str, words: str
) -> None:
    assert (scope_of(account, instrument), scope_words(scope)) == (scope, words)
