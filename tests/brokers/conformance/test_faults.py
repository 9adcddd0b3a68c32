"""What goes wrong between an adapter and its broker: nothing of it hides a row, and nothing of it lasts."""

from __future__ import annotations

import pickle
from collections.abc import Set as AbstractSet

import pytest

from brokers.errors import BrokerError, Refused
from brokers.model import Complete, Completeness, Failed, Partial, SectionName, Snapshot, rows_of
from brokers.simulators.base import Fault
from tests.brokers.conformance.adapters import (
    BUY,
    FILLS,
    ORDERS,
    POSITIONS,
    SELL,
    Adapter,
    Clock,
    D,
    every_adapter,
    one_of_each_kind,
)
from tests.brokers.reading import a_failure, completeness, fill_ids, held, legs, outcome

C = Completeness.COMPLETE
every_fault = pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: str(fault.value))
FOR_LONG = 3


@every_fault
@one_of_each_kind()
async def test_a_fault_that_lasts_is_named_by_its_remedy_and_never_an_empty_account(
    adapter: Adapter, fault: Fault
) -> None:
    """PEERS 1, PEERS 7"""
    clock = Clock()
    async with adapter.alone(clock=clock, timeout_s=adapter.timeout_s(fault)) as (simulator, broker):
        simulator.trade(adapter.symbols[0], BUY, adapter.lot)
        simulator.faults.add(fault, times=3 * FOR_LONG, match=adapter.knocks.get(fault, ""))
        expected = adapter.failures.get(fault)
        if expected is None:
            await broker.connect()
        else:
            error = await a_failure(broker.connect())
            assert type(error) is expected
            assert (error.account, bool(error.remedy)) == (adapter.account, True)
            assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own
        simulator.faults.clear()
        clock.passes(adapter.forgives_after_s)
        await broker.connect()
        assert legs(await broker.snapshot(None)) == simulator.positions()


@every_fault
@one_of_each_kind()
async def test_a_fault_that_happens_once_is_ridden_out_where_a_read_may_be_repeated(
    adapter: Adapter, fault: Fault
) -> None:
    """FEATURES 4"""
    clock = Clock()
    async with adapter.alone(clock=clock, timeout_s=adapter.timeout_s(fault)) as (simulator, broker):
        simulator.faults.add(fault, match=adapter.knocks.get(fault, ""))
        if fault in adapter.rides_out or fault not in adapter.failures:
            await broker.connect()
        else:
            await a_failure(broker.connect())
        clock.passes(adapter.forgives_after_s)
        await broker.connect()  # may be called again after any of them
        assert completeness(await broker.snapshot(None)) == (C, C, C)


SECTIONS = (POSITIONS, ORDERS, FILLS)


@pytest.mark.parametrize("times", [1, FOR_LONG], ids=["once", "for long"])
@pytest.mark.parametrize("spoiled", SECTIONS, ids=lambda name: str(name.value))
@every_fault
@every_adapter("oanda hedging", "mt5 netting")
async def test_a_fault_in_one_list_hides_nothing_leaves_the_others_and_is_over_with_the_next(
    adapter: Adapter, fault: Fault, spoiled: SectionName, times: int
) -> None:
    """PEERS 1, PEERS 4, PEERS 12, PEERS 13, FEATURES 21"""
    clock = Clock()
    one, other = adapter.symbols
    async with adapter.alone(clock=clock, timeout_s=adapter.timeout_s(fault)) as (simulator, broker):
        simulator.trade(one, BUY, 3 * adapter.lot)
        rests = simulator.place_limit(other, BUY, adapter.lot, D("1.0"))
        before = await broker.snapshot(None)
        simulator.trade(one, SELL, adapter.lot)
        simulator.faults.add(fault, times=1 if fault is Fault.EMPTY else times, match=adapter.lists[spoiled])
        seen: list[str] = []
        cursor = before.fills_cursor
        during = await outcome(broker.snapshot(cursor))
        if isinstance(during, BrokerError):
            assert (during.account, bool(during.remedy)) == (adapter.account, True)
        else:
            _hides_nothing(adapter, fault, spoiled, during, set(simulator.positions().items()), rests)
            # What a PARTIAL list gives it gives again, until the whole can be read.
            seen = fill_ids(during) if during.fills.completeness is C else []
            cursor = during.fills_cursor
        simulator.faults.clear()
        clock.passes(adapter.forgives_after_s)
        after = await broker.snapshot(cursor)
        assert completeness(after) == (C, C, C)
        assert legs(after) == simulator.positions()
        if fault is not Fault.EMPTY or spoiled is not FILLS or FILLS not in adapter.believes_empty:
            seen += fill_ids(after)
            assert len(seen) == len(set(seen)) == 1


def _hides_nothing(
    adapter: Adapter,
    fault: Fault,
    spoiled: SectionName,
    during: Snapshot,
    truth: AbstractSet[object],
    rests: str,
) -> None:
    """Each section is COMPLETE and right, or says what is lacking; what is not asked for in the same request stands."""
    believed = fault is Fault.EMPTY and spoiled in adapter.believes_empty
    if during.positions.completeness is C and not (believed and spoiled is POSITIONS):
        assert set(held(during).items()) == truth
    if during.orders.completeness is C and not (believed and spoiled is ORDERS):
        assert rests in {row.broker_order_id for row in rows_of(during.orders)}
    if during.fills.completeness is C and not (believed and spoiled is FILLS):
        assert len(fill_ids(during)) == 1
    for name, section in zip(SECTIONS, (during.positions, during.orders, during.fills), strict=True):
        if adapter.lists[name] != adapter.lists[spoiled]:
            assert isinstance(section, Complete), (name, section)
        elif isinstance(section, Failed):
            assert section.reason
        elif isinstance(section, Partial):
            assert section.problems
            assert fault is Fault.MALFORMED_ROW or adapter.id.startswith("ib")


@every_adapter()
async def test_where_no_list_at_all_can_be_had_that_is_an_error(adapter: Adapter) -> None:
    async with adapter.alone(timeout_s=adapter.timeout_s(Fault.RESET)) as (simulator, broker):
        await broker.snapshot(None)
        simulator.faults.add(Fault.RESET, times=99)
        error = await a_failure(broker.snapshot(1))
        assert not isinstance(error, Refused)
