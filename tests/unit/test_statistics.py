"""Statistics of an instrument over the actors that looked after it."""

from __future__ import annotations

from actors.instrument.statistics import Tally, Totals
from actors.messages import CycleReport, InstrumentHealth, Statistics
from actors.reconciliation.reconciliation_pass import Status
from tests.unit.builders import at


def health(cycles: int, corrections: int, mean_cycle_ms: float = 1.0) -> InstrumentHealth:
    done = Statistics(
        cycles=cycles,
        successes=cycles,
        corrections=corrections,
        by_type={"MISSED_FILL": corrections},
        mean_cycle_ms=mean_cycle_ms,
        longest_cycle_ms=mean_cycle_ms,
        by_status={"SUCCESS": cycles},
    )
    return InstrumentHealth(None, done, 0.0, False, 1, 1)


def test_what_an_actor_did_before_it_died_is_not_forgotten() -> None:
    """FEATURES 9"""
    totals = Totals()
    assert totals.with_former("fx/A", 1, health(10, 2)).statistics.cycles == 10
    assert totals.with_former("fx/A", 1, health(12, 3)).statistics.corrections == 3
    after = totals.with_former("fx/A", 2, health(4, 1, mean_cycle_ms=5.0)).statistics
    assert (after.cycles, after.successes, after.corrections, after.by_type) == (16, 16, 4, {"MISSED_FILL": 4})
    assert after.by_status == {"SUCCESS": 16}
    assert (after.mean_cycle_ms, after.longest_cycle_ms, after.success_rate) == (2.0, 5.0, 1.0)
    assert totals.with_former("fx/A", 3, health(1, 0)).statistics.cycles == 17
    assert totals.with_former("fx/B", 3, health(1, 0)).statistics.cycles == 1


def test_cycles_are_counted_by_how_they_ended() -> None:
    tally = Tally()
    for status in (Status.SUCCESS, Status.DEGRADED, Status.SUCCESS):
        tally.count(CycleReport("fx", "A", status, None, at(0), 1.0, 1, {}, {}))
    assert tally.statistics.by_status == {"SUCCESS": 2, "DEGRADED": 1}
    assert tally.statistics.plus(tally.statistics).by_status == {"SUCCESS": 4, "DEGRADED": 2}
