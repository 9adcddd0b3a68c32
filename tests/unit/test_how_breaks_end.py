"""Kind: a break that only a state which never comes can end, and newness that never wears off. Each type of break is
opened here and ended in the ways that its table states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from actors.book.discrepancies import HOW_IT_ENDS, DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.events import Severity
from brokers.clocks import broker_time
from brokers.model import Conventions, LegScheme, OrderStatus, Partial, Position, SectionName, Side, Slice, Unsupported
from tests.unit.builders import (
    FAILED,
    INSTRUMENT,
    Desk,
    at,
    fill,
    fill_report,
    order,
    order_report,
    pos,
    position_report,
    slice_at,
    types,
)
from tests.unit.fakes import problem

T, S = DiscrepancyType, OrderStatus
ALERT = Policy(correct=Correct.ALERT, stale_order=timedelta(seconds=30))
LATER_S = 10_000
B1 = order("B1", client_id="c1", submitted_at=at(99))


def recorded(desk: Desk) -> None:
    desk.report(order_report("c1", "B1", status=S.OPEN, submitted_at=at(-20)), at_s=-20)


def filled_by_us(desk: Desk) -> None:
    recorded(desk)
    desk.report(fill_report("F1", 40, at_s=-19, order_id="B1"), at_s=-19)


def held(desk: Desk) -> None:
    desk.report(position_report(5), at_s=-20)


def verified(desk: Desk) -> None:
    desk.look(slice_at(-5_000))


def unreadable(key: str) -> Partial[Position]:
    return Partial((), (problem(SectionName.POSITIONS, INSTRUMENT, key),))


@dataclass(frozen=True)
class Story:
    """A book, what opens the break in it, and what ends it."""

    opens: Callable[[float], Slice]
    ends: Callable[[float], Slice]
    section: str
    before: Callable[[Desk], None] = lambda _: None


def rows(positions: object = (), orders: object = (), fills: object = (), **more: object) -> Callable[[float], Slice]:
    return lambda seconds: slice_at(seconds, positions, orders, fills, **more)  # type: ignore[arg-type]  # sections


def watched(desk: Desk) -> None:
    held(desk)
    desk.policy = replace(ALERT, protection=Severity.WARNING)


def against_a_leg(desk: Desk) -> None:
    """A ticket is held, and an order of ours that named none opens one against it."""
    desk.look(slice_at(-30, [pos(10, leg="7")], conventions=TICKETS))
    desk.report(order_report("c8", "8", side=Side.SELL, quantity=5, status=S.OPEN, submitted_at=at(-20)), at_s=-20)
    sold = fill("F8", 5, at_s=-19, side=Side.SELL, order_id="8", leg="8")
    desk.look(slice_at(-10, [pos(10, leg="7"), pos(-5, leg="8")], [], [sold], conventions=TICKETS))


TICKETS = Conventions(legs=LegScheme.TICKET)
STOP = replace(order("S1", 5, side=Side.SELL), order_type="STOP")
PARTLY = replace(B1, status=S.PARTIALLY_FILLED)
STORIES = {
    T.MISSING_LOCALLY: Story(rows([pos(5)]), rows(), "positions"),
    T.NAKED_POSITION: Story(rows(), rows([pos(5)]), "positions", held),
    T.POSITION_MISMATCH: Story(rows([pos(7)]), rows([pos(5)]), "positions", held),
    T.PRICE_MISMATCH: Story(rows([pos(5, "1.5")]), rows([pos(5)]), "positions", held),
    T.ORDER_STATUS_MISMATCH: Story(rows((), [replace(B1, status=S.CANCELLED)]), rows((), [B1]), "orders", recorded),
    T.ORDER_MISSING: Story(rows(), rows((), [B1]), "orders", recorded),
    T.FILLED_MISMATCH: Story(
        rows([pos(40)], [replace(PARTLY, filled_quantity=pos(10).quantity)]),
        rows([pos(40)], [replace(PARTLY, filled_quantity=pos(40).quantity)]),
        "orders",
        filled_by_us,
    ),
    T.EXTERNAL_ORDER: Story(rows((), [B1]), rows(), "orders"),
    T.STALE_ORDER: Story(
        rows((), [replace(B1, submitted_at=broker_time(at(-90)))]),
        rows((), [replace(B1, status=S.CANCELLED)]),
        "orders",
        recorded,
    ),
    T.ORDER_REJECTED: Story(rows((), [replace(B1, status=S.REJECTED)]), rows((), [B1]), "orders", recorded),
    T.DUPLICATE_ORDER: Story(
        rows((), [B1, replace(B1, broker_order_id="B2")], conventions=Conventions(unique_client_ids=True)),
        rows((), [B1], conventions=Conventions(unique_client_ids=True)),
        "orders",
        recorded,
    ),
    T.OVERFILL: Story(rows((), [order("B9", 100, 120, S.FILLED, average="1.1")]), rows(), "orders"),
    T.MISSED_FILL: Story(rows([pos(3)], (), [fill("X1", 3, at_s=99)]), rows(), "orders", verified),
    T.UNPROTECTED: Story(rows([pos(5)]), rows([pos(5)], [STOP]), "positions", watched),
    T.OVERSIZED_ORDER: Story(
        rows([pos(5)], [replace(STOP, quantity=pos(8).quantity)]), rows([pos(5)], [STOP]), "orders", watched
    ),
    T.OPPOSITE_LEGS: Story(
        rows([pos(10, leg="7"), pos(-5, leg="8")], conventions=TICKETS),
        rows([pos(10, leg="7")], conventions=TICKETS),
        "positions",
        against_a_leg,
    ),
    T.STALE_DATA: Story(rows(FAILED), rows(), "", verified),
    T.MALFORMED_DATA: Story(rows(unreadable("7")), rows(unreadable("8")), "positions"),
}
ELSEWHERE = {T.UNMANAGED_INSTRUMENT, T.BOOK_MISMATCH}
"""Those of an account and of a self-check, in their own tests."""


def opened(kind: DiscrepancyType) -> Desk:
    desk = Desk(ALERT)
    STORIES[kind].before(desk)
    desk.look(STORIES[kind].opens(100))
    assert kind in {found for found, _ in desk.book.breaks}
    return desk


def test_the_table_says_of_each_type_how_it_ends() -> None:
    assert set(HOW_IT_ENDS) == set(DiscrepancyType) == STORIES.keys() | ELSEWHERE


@pytest.mark.parametrize("kind", STORIES)
def test_a_break_ends_when_its_difference_is_gone(kind: DiscrepancyType) -> None:
    desk = opened(kind)
    keys = [key for found, key in desk.book.breaks if found is kind]
    desk.look(STORIES[kind].ends(110))
    assert not [key for found, key in desk.book.breaks if found is kind and key in keys]
    desk.restart()


@pytest.mark.parametrize("kind", [kind for kind, story in STORIES.items() if story.section])
def test_a_break_ends_when_its_broker_has_no_such_section_for_long(kind: DiscrepancyType) -> None:
    desk, section = opened(kind), STORIES[kind].section
    desk.look(replace(slice_at(100.1), **{section: Unsupported()}))  # type: ignore[arg-type]  # a section
    if kind is not T.MALFORMED_DATA:
        assert kind in {found for found, _ in desk.book.breaks}, "an answer in between ends nothing"
    desk.look(replace(slice_at(LATER_S), **{section: Unsupported()}))  # type: ignore[arg-type]  # a section
    assert kind not in {found for found, _ in desk.book.breaks}


@pytest.mark.parametrize("kind", [T.MISSING_LOCALLY, T.NAKED_POSITION, T.POSITION_MISMATCH, T.PRICE_MISMATCH])
def test_a_break_of_a_position_ends_when_positions_are_compared_no_more(kind: DiscrepancyType) -> None:
    desk = opened(kind)
    desk.policy = replace(ALERT, positions=False)
    desk.look(slice_at(110))
    assert desk.book.breaks == {}


@pytest.mark.parametrize("correct", Correct)
def test_what_comes_after_the_first_look_is_news_whatever_the_first_look_came_to(correct: Correct) -> None:
    desk = Desk(Policy(correct=correct, max_correction=pos(1).quantity))
    first = desk.look(slice_at(0, [pos(5)], [order("B1")]))
    assert {d.found.severity for d in first.discrepancies} == {Severity.INFO}
    later = desk.look(slice_at(10, [pos(5), pos(7, leg="x")], [order("B1"), order("B2")]))
    severities = {d.found.key: d.found.severity for d in later.discrepancies}
    assert (severities["net"], severities["x"], severities["B2"]) == (Severity.INFO, Severity.WARNING, Severity.WARNING)
    last = desk.look(slice_at(20, [pos(8), pos(7, leg="x")], [order("B1"), order("B2")], [fill("X1", 3, at_s=15)]))
    assert "MISSED_FILL" in {kind.removesuffix("!") for kind in types(last)}
    desk.restart()


def test_a_look_at_nothing_is_no_first_look() -> None:
    desk = Desk()
    desk.look(replace(slice_at(0, FAILED), fills=Partial((), (problem(SectionName.FILLS, INSTRUMENT, "7"),))))
    assert desk.book.baseline is None
    assert desk.look(slice_at(10, [pos(5)])).discrepancies[0].found.severity is Severity.INFO
