"""What the tests of the account actor share: slices, refusals, and what it journals."""

from __future__ import annotations

from datetime import datetime

from actors.events import EventType
from actors.messages import NoSlice, SliceRequest
from brokers.model import (
    OrderQuery,
    Slice,
)
from tests.unit.fakes import (
    EURUSD,
    FX,
    T0,
    House,
    passes,
)

QUERY = OrderQuery(EURUSD, "1", None)


def request(not_before: datetime = T0, since: int | None = None, instrument: str = EURUSD) -> SliceRequest:
    return SliceRequest(instrument, not_before, since)


async def sliced(house: House, not_before: datetime | None = None, since: int | None = None) -> Slice:
    answer = await house.account.slice(request(not_before or house.clock(), since))
    assert isinstance(answer, Slice), answer
    return answer


async def none(house: House, not_before: datetime | None = None, since: int | None = None) -> NoSlice:
    answer = await house.account.slice(request(not_before or house.clock(), since))
    assert isinstance(answer, NoSlice), answer
    return answer


async def said(house: House) -> list[EventType]:
    await passes(0.01)
    return await house.kinds(FX)
