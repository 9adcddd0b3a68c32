"""Answers of our own actors that are not the asker's: another instrument's, or an earlier one. None of them counts,
whatever mixed them up on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.events import StreamTail
from actors.journal.types import Appended
from actors.messages import Unchanged
from actors.names import AUDIT
from brokers.model import Slice
from tests.unit.fakes import EURUSD, FX, House, a_house, passes, quantities
from tests.unit.virtual_time import virtual_time

OTHER = "GBP_USD"


def of_another_instrument(answer: Slice) -> Slice:
    return replace(answer, instrument=OTHER)


def of_another_account(answer: Slice) -> Slice:
    return replace(answer, account="other")


def unchanged_since_another(answer: Slice) -> Unchanged:
    return Unchanged("1:GBP_USD:7", answer.requested_at, answer.as_of, answer.fills_cursor, asked=answer.asked)


def of_another_stream(answer: StreamTail) -> StreamTail:
    return replace(answer, records=tuple(replace(record, stream=f"{FX}/{OTHER}") for record in answer.records))


def of_another_append(answer: Appended) -> Appended:
    return replace(answer, version=answer.version + 7)


def mixed_up(house: House, whose: str, which: str, change: Callable[[Any], Any]) -> None:
    """Every answer to this call is another one from now on."""

    async def deliver(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await send()
        return change(answer) if (actor, method) == (whose, which) else answer

    house.runtime.deliver = deliver


@pytest.mark.parametrize("change", [of_another_instrument, of_another_account, unchanged_since_another])
@virtual_time
async def test_a_slice_that_was_not_asked_for_is_no_slice(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    async with a_house(tmp_path) as house:
        instrument = house.instrument()
        house.broker.hold(5)
        await instrument.reconcile_now()
        house.broker.hold(7)
        await passes(1)
        mixed_up(house, FX, "slice", change)
        report = await instrument.reconcile_now()
        assert (report.status, quantities(report)) == ("DEGRADED", {"net": "5"})
        assert f"{FX} answered with what {FX}/{EURUSD} did not ask for" in str(report.error)


@virtual_time
async def test_a_book_is_never_made_of_another_one_s_records(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        await house.instrument().reconcile_now()
        mixed_up(house, AUDIT, "load", of_another_stream)
        instrument = await house.replace_instrument()
        report = await instrument.reconcile_now()
        assert report.status == "DEGRADED"
        assert f"{FX}/{EURUSD}: the answer has the records of {FX}/{OTHER}" in str(report.error)


@virtual_time
async def test_nothing_is_taken_for_durable_by_the_answer_to_another_append(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        mixed_up(house, AUDIT, "append", of_another_append)
        report = await house.instrument().reconcile_now()
        assert (report.status, quantities(report)) == ("DEGRADED", {})
        house.runtime.deliver = as_it_is
        await passes(1)
        assert quantities(await house.instrument().reconcile_now()) == {"net": "5"}


async def as_it_is(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
    del actor, method
    return await send()
