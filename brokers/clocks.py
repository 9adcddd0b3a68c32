"""Whose clock a time is of, as a type.

The laws of this module:

* A :class:`BrokerTime` is a time by the clock of one account's broker: of a fill, of a snapshot, of a watermark. It has
  an order among its own kind alone. mypy refuses to compare it with a time of ours, or to subtract one from the other.
* A plain ``datetime`` is ours, a reading of a monotonic clock is a ``float``: of these two mypy knows already.
* Who crosses from one clock to the other says so, by one of the functions below.

It is a type for whoever reads the code, and for mypy: at run time a :class:`BrokerTime` is the ``datetime`` that it was
made of. No book, record or answer differs by it, and nothing is slower.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from datetime import tzinfo as Zone  # noqa: N812 - a property below has its name
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:

    class BrokerTime:
        """A time by a broker's clock, aware UTC."""

        def __lt__(self, other: BrokerTime, /) -> bool: ...
        def __le__(self, other: BrokerTime, /) -> bool: ...
        def __gt__(self, other: BrokerTime, /) -> bool: ...
        def __ge__(self, other: BrokerTime, /) -> bool: ...
        def __add__(self, other: timedelta, /) -> BrokerTime: ...
        @overload
        def __sub__(self, other: BrokerTime, /) -> timedelta: ...
        @overload
        def __sub__(self, other: timedelta, /) -> BrokerTime: ...
        def __sub__(self, other: BrokerTime | timedelta, /) -> timedelta | BrokerTime: ...
        @property
        def tzinfo(self) -> Zone | None:
            """As of a ``datetime``."""

        def astimezone(self, tz: Zone, /) -> BrokerTime:
            """The same moment of the same clock."""

        def date(self) -> date:
            """Its day."""

        def isoformat(self, sep: str = ..., timespec: str = ...) -> str:
            """As it is written."""

else:
    BrokerTime = datetime


@overload
def broker_time(told: datetime) -> BrokerTime: ...
@overload
def broker_time(told: datetime | None) -> BrokerTime | None: ...
def broker_time(told: datetime | None) -> BrokerTime | None:
    """A time that the broker told, or that is to stand for one where it told none."""
    return told  # type: ignore[return-value]  # one object at run time, two types for whoever reads


@overload
def shown(time: BrokerTime) -> datetime: ...
@overload
def shown(time: BrokerTime | None) -> datetime | None: ...
def shown(time: BrokerTime | None) -> datetime | None:
    """A broker's time to be written or shown, to take its day, or to be kept where nothing is compared with it."""
    return time  # type: ignore[return-value]  # as above


def ahead_of_ours(broker: BrokerTime, ours: datetime) -> timedelta:
    """How far the broker's clock is ahead of ours, from its reading and ours of one moment. It says how far the two are
    apart, and never which of two things came first."""
    return shown(broker) - ours
