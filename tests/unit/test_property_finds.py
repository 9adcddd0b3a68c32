"""Sequences that the properties of the core once failed on, each by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from actors.book.lots import SPLIT_STEP, Leg
from actors.book.policy import Correct
from actors.events import EventType
from brokers.clocks import broker_time
from brokers.model import CostBasis, LegScheme
from tests.unit.world import FILLS, GAP_MS, says_less_is_filled, world_of


def test_a_bust_lowers_its_own_order_where_client_ids_come_again_at_once() -> None:
    world = world_of(LegScheme.NET, reports_fills=True, tags=2)
    for step in (("place", 1, 1), ("place", 0, 0), ("place", 0, 0), ("fill", 0, 1)):
        world.step(*step)
    world.broker.now_ms += 1
    world.broker.correct(0, 0, world.price(0), 0, lowers=True)
    world.settle()
    world.check_truth()


def test_an_order_that_had_ended_and_works_again_with_less_filled_is_lowered_by_a_proven_difference() -> None:
    """Ours counted another order's fill, as one client id was of six, and the broker reported no fills."""
    world = world_of(LegScheme.NET, tags=1)  # each order under the same client id
    for step in [
        ("lose_confirmation", 22, 23),
        ("place", 7, 23),
        ("look_badly", 0, 0),
        ("report_barely", 0, 1),
        ("place", 0, 0),
        ("look_late", 0, 0),
        ("pass_a_day", 0, 0),
        ("lose_confirmation", 0, 0),
        ("lose_confirmation", 0, 0),
        ("wait", 0, 0),
        ("place", 7, 23),
        ("fill_and_report", 20, 2),
    ]:
        world.step(*step)
    world.settle()
    assert sum(map(says_less_is_filled, world.events)) == 1
    assert str(world.book.orders["client:c0"].filled_quantity) == "3"


def test_a_leg_that_was_there_in_between_needs_its_whole_proof_again() -> None:
    """Also where nothing could be said of the leg when it was there: an order's fate was not known yet."""
    world = world_of(LegScheme.SIDED)
    for step in (
        ("lose_confirmation", 0, 1), ("believe", 2, 0), ("wait_long", 0, 0), ("look", 0, 0),
        ("change_silently", 2, 0), ("look", 0, 0), ("change_silently", 27, 1),
    ):  # fmt: skip
        world.step(*step)
    world.settle()
    world.check_truth()


def test_a_fill_that_waits_for_its_leg_is_no_fill_of_an_order_that_is_gone() -> None:
    world = world_of(LegScheme.TICKET)
    for step in (("place", 0, 0), ("lose_confirmation", 0, 0), ("report_barely", 0, 0)):
        world.step(*step)
    world.settle()
    world.check_truth()


def test_a_change_may_be_of_an_order_that_was_given_up_before_the_other_was_missed() -> None:
    world = world_of(LegScheme.NET)
    for step in (
        ("lose_confirmation", 0, 1), ("pass_a_day", 0, 0), ("lose_confirmation", 0, 1), ("believe", 2, 0),
        ("look", 0, 0), ("wait", 5, 0), ("look_late", 0, 0),
    ):  # fmt: skip
        world.step(*step)
    world.settle()
    world.check_truth()
    assert not any(event.type in FILLS for event in world.events)


def test_a_fill_shows_which_order_is_ours_where_another_with_its_client_id_took_its_place() -> None:
    world = world_of(LegScheme.NET, reports_fills=True)
    for step in (("place", 2, 0), ("report_barely", 0, 1), ("supersede", 0, 0), ("look", 0, 0)):
        world.step(*step)
    assert {key: order.filled_quantity for key, order in world.book.orders.items()} == {"client:c1": 2, "broker:B3": 0}
    world.settle()
    world.check_truth()


def test_a_fill_that_a_row_took_out_of_our_order_stays_as_reported_once_the_order_has_an_id() -> None:
    """The row of what took its place has the order's client id, lowered the order before the broker reported the fill,
    and then gives the order its id. A second pass over the same slice writes nothing."""
    world = world_of(LegScheme.NET, reports_fills=True)
    for step in (
        ("place", 2, 0), ("report_barely", 2, 1), ("wait_long", 0, 0), ("supersede", 0, 0), ("look", 0, 0),
        ("wait", 5, 0), ("look", 0, 0),
    ):  # fmt: skip
        world.step(*step)
    assert world.book.orders["client:c1"].lowered_by == 2
    world.settle()
    world.check_truth()
    assert world.book.orders["client:c1"].broker_order_id == "B3"


@pytest.mark.parametrize("correct", list(Correct))
def test_a_bust_that_is_corrected_again_changes_nothing(correct: Correct) -> None:
    """The execution was busted before the broker ever reported it: the second correction is of a quantity of 0."""
    world = world_of(LegScheme.NET, reports_fills=True)
    world.policy = replace(world.policy, correct=correct)
    for step in (*[("place", 0, 0)] * 7, ("fill_and_report", 0, 0), *[("correct_an_execution", 0, 0)] * 2):
        world.step(*step)
    world.look_badly(3, 0)
    if correct is Correct.AUTO:
        world.settle()
        world.check_truth()


def test_under_alert_a_fill_that_was_reported_is_not_reported_as_coming_after_a_change_too() -> None:
    """The order that may explain the change holds its leg back, whose break that closes: looks at the same rows took
    turns between the two reports."""
    world = world_of(LegScheme.NET, reports_fills=True)
    world.policy = replace(world.policy, correct=Correct.ALERT)
    for step in (
        ("place", 0, 0), ("place", 0, 0), ("lose_confirmation", 1, 1), ("believe", 18, 0), ("report_barely", 0, 0),
        ("pass_a_day", 0, 0), ("fill", 0, 0), ("look", 0, 0), ("change_silently", 1, 1),
    ):  # fmt: skip
        world.step(*step)
    assert world.look().events
    assert world.look().events == ()


def test_what_took_the_place_of_an_order_is_no_earlier_order_with_its_client_id() -> None:
    world = world_of(LegScheme.NET, tags=2)
    for step in (
        ("lose_confirmation", 0, 1), ("change_silently", 1, 1), ("lose_confirmation", 0, 0), ("pass_a_day", 0, 0),
        ("look", 0, 0), ("look_late", 0, 0), ("wait", 5, 0), ("look", 0, 0), ("place", 0, 1), ("supersede", 0, 0),
    ):  # fmt: skip
        world.step(*step)
    world.settle()
    world.check_truth()
    assert world.book.orders["client:c1"].filled_quantity == 1


def test_a_correction_shows_whose_the_execution_was_that_it_takes_back() -> None:
    """Our side had reported that execution without its order, and the broker's own row of it comes later."""
    world = world_of(LegScheme.NET, reports_fills=True)
    for step in (("place", 0, 0), ("report_barely", 1, 2), ("correct_an_execution", 0, 0), ("look", 0, 0)):
        world.step(*step)
    [order] = world.book.orders.values()
    assert order.filled_quantity == 0
    world.settle()
    world.check_truth()


UNDER_ALERT: dict[str, list[tuple[str, int, int]]] = {
    "a correction would place it": [
        ("place", 2, 0), ("fill", 0, 0), ("believe", 4, 0), ("look", 0, 0), ("report_barely", 0, 20),
        ("change_silently", 0, 1), ("report_barely", 0, 0), ("place", 0, 0), ("look", 0, 0),
    ],
    "a correction would explain its place": [
        ("place", 0, 0), ("report_barely", 0, 8), ("place", 0, 0), ("look", 0, 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", UNDER_ALERT.values(), ids=UNDER_ALERT)
def test_under_alert_a_fill_that_waits_for_its_leg_is_not_placed_by_a_correction_that_is_only_tried(
    program: list[tuple[str, int, int]],
) -> None:
    world = world_of(LegScheme.TICKET)
    world.policy = replace(world.policy, correct=Correct.ALERT)
    for step in program:
        world.step(*step)
    assert world.book.pending_fills()


@pytest.mark.parametrize(
    ("reports_fills", "steps", "found"),
    [
        (False, [("place", 0, 0), ("fill", 0, 0)], {"MISSED_FILL": "INFO"}),
        (
            True,
            [("place", 0, 0), ("fill", 0, 0), ("change_silently", 1, 1)],
            {"MISSED_FILL": "INFO", "POSITION_MISMATCH": "INFO"},
        ),
    ],
    ids=["a fill of a broker that lists none", "a position beside a fill"],
)
def test_what_the_first_look_found_is_no_news_in_the_next(
    reports_fills: bool, steps: list[tuple[str, int, int]], found: dict[str, str]
) -> None:
    world = world_of(LegScheme.NET, reports_fills=reports_fills)
    world.policy = replace(world.policy, correct=Correct.ALERT)
    for step in (*steps, ("look", 0, 0), ("restart", 0, 0), ("look", 0, 0)):
        world.step(*step)
    assert {str(one.type): str(one.severity) for one in world.book.breaks.values()} == found


def test_under_alert_what_differed_before_the_fills_is_reported_one_way() -> None:
    world = world_of(LegScheme.NET, reports_fills=True)
    world.policy = replace(world.policy, correct=Correct.ALERT)
    for step in (
        ("change_silently", 2, 0),
        ("look", 0, 0),
        ("trade_outside", 0, 1),
        ("pass_a_day", 0, 0),
        ("look", 0, 0),
    ):
        world.step(*step)
    assert {str(found.type) for found in world.book.breaks.values()} == {"MISSED_FILL", "POSITION_MISMATCH"}


def test_an_order_that_a_fill_named_is_not_the_one_that_took_its_place_and_bears_its_client_id() -> None:
    """Which row is whose by its client id was decided before the fill showed it, and held for the whole pass."""
    world = world_of(LegScheme.NET, reports_fills=True)
    for step in (
        ("place", 0, 0), ("place", 0, 0), ("fill", 0, 0), ("believe", 0, 0), ("supersede", 0, 16),
        ("report_barely", 0, 1), ("supersede", 0, 0),
    ):  # fmt: skip
        world.step(*step)
    world.settle()
    world.check_truth()


def test_under_alert_what_came_before_the_fills_of_a_first_look_is_no_news_in_the_next() -> None:
    world = world_of(LegScheme.NET, reports_fills=True)
    world.policy = replace(world.policy, correct=Correct.ALERT)
    for step in (("place", 0, 1), ("lose_confirmation", 0, 0), ("fill", 0, 0), ("trade_outside", 1, 0), ("look", 0, 0)):
        world.step(*step)
    before = dict(world.book.breaks)
    world.broker.now_ms += 1
    world.look()
    assert world.book.breaks == before


@pytest.mark.parametrize("resolution_ms", [1, 1000])
@pytest.mark.parametrize(
    "clock", [[], [("set_our_clock", 0, 0)], [("set_our_clock", 5, 0)]], ids=["steady", "back", "on"]
)
def test_an_ended_order_is_not_taken_up_again_whatever_the_clocks_do(
    resolution_ms: int, clock: list[tuple[str, int, int]]
) -> None:
    world = world_of(LegScheme.NET, shows_ended=True)
    world.broker.resolution_ms = resolution_ms
    for step in (("place", 0, 0), ("end", 0, 0), *clock, ("pass_a_day", 0, 0), ("pass_a_day", 0, 0), ("look", 0, 0)):
        world.step(*step)
    world.settle()
    assert not world.book.orders


def test_a_fill_whose_order_is_forgotten_is_no_news_when_the_broker_lists_it_once_more() -> None:
    """Our report did not say the broker's order, and the order that it was counted in ended two days before."""
    world = world_of(LegScheme.NET, shows_ended=True, reports_fills=True)
    for step in (
        *[("place", 0, 0)] * 5, ("look", 0, 0), ("report_barely", 0, 28), ("pass_a_day", 0, 0),
        ("set_our_clock", 0, 0), ("pass_a_day", 0, 0), ("fill", 0, 0), ("believe", 0, 0),
    ):  # fmt: skip
        world.step(*step)
    world.settle()
    assert "client:c1" not in world.book.orders
    world.broker.now_ms += GAP_MS
    assert {event.type for event in world.look().events} <= {EventType.RECONCILED}


def test_a_fill_that_a_row_took_out_of_an_order_does_not_name_it() -> None:
    """It was superseded thrice under one client id; the fill that we reported of it was of another of those."""
    world = world_of(LegScheme.NET, reports_fills=True, seed=41)
    for step in (
        ("trade_outside", 28, 0), ("place", 0, 23), ("fill", 19, 14), ("place", 0, 29), ("fill", 11, 0),
        ("pass_a_day", 17, 18), ("place", 0, 0), ("fill", 0, 0), ("place", 30, 0), ("amend", 18, 0),
        ("trade_outside", 0, 25), ("supersede", 0, 0), ("supersede", 14, 17), ("report_barely", 22, 22),
        ("supersede", 26, 24), ("place", 23, 27),
    ):  # fmt: skip
        world.step(*step)
    world.settle()
    world.broker.now_ms += GAP_MS
    assert {event.type for event in world.look().events} <= {EventType.RECONCILED}


@pytest.mark.parametrize("lots", [("1", "1", "1"), ("2", "5"), ("0.000000000001", "6"), ("7",)])
@pytest.mark.parametrize("ratio", ["1/3", "3", "2/7", "1/1000"])
def test_a_split_leaves_no_thirds_behind(lots: tuple[str, ...], ratio: str) -> None:
    """A third of a unit has no end in decimals: the lots of a split add up to their leg, then and after other fills."""
    top, _, bottom = ratio.partition("/")
    exact = Decimal(top) / Decimal(bottom or 1)
    leg, at = Leg("net", broker_time(datetime(2024, 1, 2, tzinfo=UTC))), datetime(2024, 1, 2, tzinfo=UTC)
    for place, quantity in enumerate(lots):
        leg.trade(Decimal(quantity), Decimal(3), f"F{place}", broker_time(at), CostBasis.FIFO)
    whole = leg.quantity
    leg.scale(exact)
    assert abs(leg.quantity * Decimal(bottom or 1) - whole * Decimal(top)) <= SPLIT_STEP * Decimal(bottom or 1)
    for quantity in ("3", "-1", "0.5"):
        leg.trade(Decimal(quantity), Decimal(2), None, broker_time(at), CostBasis.FIFO)
        assert sum((lot.quantity for lot in leg.lots), Decimal(0)) == leg.quantity


def test_a_row_that_is_one_order_of_ours_is_not_compared_with_another_under_its_client_id_too() -> None:
    """Two orders were sent under one id, and a bare report of a fill counts in the one that the broker still shows."""
    world = world_of(LegScheme.NET, tags=1)  # each order under the same client id
    for step in (("place", 1, 0), ("place", 0, 0), ("report_barely", 1, 1)):
        world.step(*step)
    world.settle()
    (shown,) = [order for order in world.broker.orders.values() if not order.status.terminal]
    held = world.book.find_order(shown.broker_order_id, None)
    assert held is not None
    assert (held.quantity, held.filled_quantity) == (shown.quantity, shown.filled_quantity)
    world.broker.now_ms += GAP_MS
    assert {event.type for event in world.look().events} <= {EventType.RECONCILED}


def test_two_successors_whose_quantities_add_up_to_an_order_of_their_client_id_are_not_its_slices() -> None:
    """Each of two orders sent under one id was replaced before the next look."""
    world = world_of(LegScheme.NET, tags=1)  # each order under the same client id
    for step in (("place", 0, 0), ("look", 0, 0), ("place", 8, 0), ("supersede", 0, 1), ("supersede", 0, 6)):
        world.step(*step)
    world.settle()
    world.check_truth()
