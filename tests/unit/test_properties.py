"""Whatever a broker does and however badly it says so, a book arrives at the truth, once, and only on proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.book.policy import Correct, Policy
from actors.events import EventType
from brokers.model import CostBasis, LegScheme
from tests.unit.model_broker import ModelBroker
from tests.unit.world import CAMPAIGN, GAP_MS, SETTLE_MS, World, programs, runs, worlds

pytestmark = pytest.mark.timeout(120 * CAMPAIGN)


@runs(500)
@given(worlds, programs)
def test_a_book_arrives_at_the_brokers_truth(world: World, program: list[tuple[str, int, int]]) -> None:
    for step in program:
        world.step(*step)
    last = world.settle()
    world.check_truth()
    world.check_commissions()
    assert last.status == "SUCCESS"
    assert not world.book.breaks
    world.broker.now_ms += GAP_MS
    assert all(event.type is EventType.RECONCILED for event in world.look().events)
    world.restart(0, 0)
    world.restart_from_checkpoint(len(program), 5)


def test_a_bust_of_what_was_never_reported_is_decided_after_every_fill_of_its_slice() -> None:
    """Decided in its place by time, it waits for positions that are shown already: a second pass found it explained."""
    conventions = LegScheme.NET, CostBasis.WEIGHTED, False, True, False, 1
    policy = Policy(settle=timedelta(milliseconds=SETTLE_MS), confirm_gap=timedelta(milliseconds=GAP_MS))
    world = World(ModelBroker(*conventions), policy, Random(0), tags=99, cheapest=10)  # noqa: S311 - the same each time
    program = (
        ("place", 0, 1), ("look", 0, 0), ("place", 0, 0), ("amend", 0, 0), ("report_barely", 0, 0), ("fill", 0, 0),
        ("fill", 0, 0), ("report_barely", 0, 0), ("correct_an_execution", 1, 1), ("trade_outside", 0, 0),
        ("correct_an_execution", 3, 0), ("believe", 4, 0),
    )  # fmt: skip
    for step in program:
        world.step(*step)
    world.look()  # which applies its own slice a second time
    last = world.settle()
    world.check_truth()
    assert (last.status, world.book.breaks) == ("SUCCESS", {})


STREAMING = (
    "place", "place", "fill_and_stream", "fill_and_stream", "fill_and_stream", "trade_and_stream", "trade_and_stream",
    "stream", "fill", "report_barely", "look", "look_late", "look_torn", "look_lagging", "wait", "wait_long", "restart",
)  # fmt: skip


@runs(300)
@given(worlds, programs, st.lists(st.tuples(st.sampled_from(STREAMING), st.integers(0, 30), st.integers(0, 30))))
def test_what_a_stream_reports_early_twice_or_never_comes_to_the_same_book(
    world: World, before: list[tuple[str, int, int]], program: list[tuple[str, int, int]]
) -> None:
    """PEERS 11: in books that are in step when the stream begins to report, so that most of it is taken at once."""
    world.broker.reports_fills = True
    for step in before[:8]:
        world.step(*step)
    world.settle()
    world.broker.now_ms += SETTLE_MS
    for step in program:
        world.step(*step)
    last = world.settle()
    world.check_truth()
    world.check_commissions()
    assert last.status == "SUCCESS"
    assert not world.book.breaks
    world.restart(0, 0)


@runs(200)
@given(worlds, programs)
def test_under_alert_nothing_but_breaks_changes(world: World, program: list[tuple[str, int, int]]) -> None:
    world.policy = replace(world.policy, correct=Correct.ALERT)
    for step in program:
        world.step(*step)
    for event in world.look().events:
        assert event.type in {
            EventType.RECONCILIATION_DISCREPANCY,
            EventType.DISCREPANCY_RESOLVED,
            EventType.COMMISSION_REPORTED,
            EventType.FILL_RESTATED,
            EventType.RECONCILED,
        }
