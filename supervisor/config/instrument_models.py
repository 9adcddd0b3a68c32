"""The keys that may stand under ``defaults``, in an account or in an instrument, and what applies to one instrument.

The law of this module: this is the only place that decides what applies. An instrument's own key comes first, then its
account's, then that of ``defaults``, then the broker's default, then that of :class:`~actors.book.policy.Policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StrictBool, model_validator

from actors.book.discrepancies import DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.events import Severity
from brokers.model import Conventions
from brokers.registry import CONVENTIONS
from supervisor.config.errors import expected
from supervisor.config.values import (
    Fraction,
    Interval,
    Labels,
    Milliseconds,
    Model,
    PerActor,
    Quantity,
    Raw,
    Seconds,
    Symbol,
    Timeout,
    whole,
)
from supervisor.config.yaml_source import Number

T = TypeVar("T")
Mode = Literal["live", "paper"]
BreakType = Literal[
    "MISSING_LOCALLY", "NAKED_POSITION", "POSITION_MISMATCH", "ORDER_STATUS_MISMATCH", "MISSED_FILL", "ORDER_MISSING",
    "FILLED_MISMATCH", "EXTERNAL_ORDER", "ORDER_REJECTED", "DUPLICATE_ORDER", "OVERFILL",
    "OPPOSITE_LEGS",
]  # fmt: skip
HaltingType = Literal[
    "MISSING_LOCALLY", "NAKED_POSITION", "POSITION_MISMATCH", "PRICE_MISMATCH", "STALE_DATA", "ORDER_STATUS_MISMATCH",
    "MISSED_FILL", "ORDER_MISSING", "FILLED_MISMATCH", "EXTERNAL_ORDER", "STALE_ORDER", "ORDER_REJECTED",
    "MALFORMED_DATA", "DUPLICATE_ORDER", "OVERFILL", "OPPOSITE_LEGS", "UNPROTECTED", "OVERSIZED_ORDER",
]  # fmt: skip
SeverityName = Literal["INFO", "WARNING", "CRITICAL"]

_INTERVAL_S: Mapping[str, float] = {"oanda": 300, "kite": 2, "ib": 300, "mt5": 15, "paper": 5}
_KITE_PAPER_INTERVAL_S = 5.0
# IB's average cost contains commissions, so it differs a little from the average of the fills.
_PRICE_TOLERANCE: Mapping[str, Decimal] = {"ib": Decimal("0.002")}
_LEAST_UNVERIFIED_S = 60.0
# With an interval of 0 (always at once) three intervals would be nothing, and every snapshot stale.
_LEAST_MAX_AGE_S = 1.0
# Keys for which null is a value of its own ("no limit"), unlike leaving the key out.
NULL_COUNTS = frozenset({"max_correction", "stale_order_s", "protection"})


class Overrides(Model):
    """The keys of ``defaults``, an account or one instrument; ``None`` where this level does not set one."""

    correct: Literal["auto", "alert"] | None = None
    confirmations: Annotated[int, whole("a whole number from 1 to 100", 1, 100)] | None = None
    confirm_gap_ms: Milliseconds | None = None
    settle_ms: Milliseconds | None = None
    quantity_tolerance: Quantity | None = None
    price_tolerance: Fraction | None = None
    max_correction: Quantity | None = None
    stale_order_s: Seconds | None = None
    cancel_stale_orders: StrictBool | None = None
    max_age_s: Seconds | None = None
    unverified_s: Seconds | None = None
    may_stand: tuple[BreakType, ...] | None = None
    protection: Literal["INFO", "WARNING"] | None = None
    halt_on: tuple[HaltingType, ...] | None = None
    halt_after_s: dict[SeverityName, Seconds] | None = None
    four_eyes: StrictBool | None = None
    interval_s: Interval | None = None


class Defaults(Overrides):
    """The keys of ``defaults`` and of an account. ``place`` are the labels of the nodes that an account's actor may run
    on, in a cluster of several; its instruments run on the same node, or with ``spread`` wherever there is room."""

    timeout_ms: Timeout | None = None
    include_holdings: StrictBool | None = None
    instruments_per_actor: PerActor | None = None
    place: Labels = None
    spread: StrictBool | None = None


class Instrument(Overrides):
    """One instrument of an account, as its symbol alone or with settings of its own."""

    symbol: Symbol = Field(description="the instrument's symbol at the broker")

    @model_validator(mode="before")
    @classmethod
    def _symbol_alone(cls, value: Raw) -> Raw:
        if isinstance(value, list):
            raise expected("a symbol, or a mapping with symbol")
        return {"symbol": value} if isinstance(value, str | Number | bool | None) else value


def merged(*levels: Overrides) -> Overrides:
    """The first level that sets a key decides, key by key."""
    decided: dict[str, object] = {}
    for level in levels:
        for key in Overrides.model_fields.keys() & level.model_fields_set:
            value = getattr(level, key)
            if key not in decided and (value is not None or key in NULL_COUNTS):
                decided[key] = value
    return Overrides.model_construct(None, **decided)


_AS_THEY_ARE = (
    "confirmations", "quantity_tolerance", "max_correction", "cancel_stale_orders", "four_eyes",
)  # fmt: skip
"""The keys that a policy has under the same names and in the same units."""


class Applying:
    """What applies to one instrument of a broker, from its merged keys."""

    def __init__(self, keys: Overrides, broker: str, mode: Mode) -> None:
        self._keys = keys
        self._broker = broker
        self._mode = mode
        kite_paper = broker == "kite" and mode == "paper"
        self.interval_s = _first(keys.interval_s, _KITE_PAPER_INTERVAL_S if kite_paper else _INTERVAL_S[broker])
        self._max_age_s = _first(keys.max_age_s, max(3 * self.interval_s, _LEAST_MAX_AGE_S))
        self._unverified_s = _first(keys.unverified_s, max(3 * self.interval_s, _LEAST_UNVERIFIED_S))

    def policy(self) -> Policy:
        """The policy; keys that no level sets are as :class:`Policy` has them."""
        keys = self._keys
        given: dict[str, Any] = {key: getattr(keys, key) for key in _AS_THEY_ARE} | {
            "correct": keys.correct and Correct(keys.correct),
            "confirm_gap": _span(keys.confirm_gap_ms, 1000),
            "settle": _span(keys.settle_ms, 1000),
            "price_tolerance": _first(keys.price_tolerance, _PRICE_TOLERANCE.get(self._broker)),
            "stale_order": _span(keys.stale_order_s),
            "protection": keys.protection and Severity(keys.protection),
        }
        return Policy(
            positions=self._mode == "live",
            conventions=CONVENTIONS.get(self._broker, Conventions()),
            max_age=timedelta(seconds=self._max_age_s),
            unverified=timedelta(seconds=self._unverified_s),
            may_stand=frozenset(map(DiscrepancyType, keys.may_stand or ())),
            halt_on=tuple(map(DiscrepancyType, keys.halt_on or ())),
            halt_after=tuple(
                (Severity(name), timedelta(seconds=after_s)) for name, after_s in (keys.halt_after_s or {}).items()
            ),
            **{key: value for key, value in given.items() if value is not None},
        )

    def document(self) -> dict[str, Any]:
        """The same under the configuration's key names, in their order, with every default; times in seconds."""
        keys, policy = self._keys, self.policy()
        return {
            "interval_s": self.interval_s,
            "correct": policy.correct.value,
            "confirmations": policy.confirmations,
            "confirm_gap_s": policy.confirm_gap.total_seconds(),
            "settle_s": policy.settle.total_seconds(),
            "quantity_tolerance": policy.quantity_tolerance,
            "price_tolerance": policy.price_tolerance,
            "max_correction": policy.max_correction,
            "stale_order_s": keys.stale_order_s,
            "cancel_stale_orders": policy.cancel_stale_orders,
            "max_age_s": self._max_age_s,
            "unverified_s": self._unverified_s,
            "mode": self._mode,
            "may_stand": keys.may_stand or (),
            "halt_on": keys.halt_on or (),
            "halt_after_s": dict(keys.halt_after_s or {}),
            "four_eyes": policy.four_eyes,
            "protection": keys.protection,
        }


def _first(given: T | None, default: T) -> T:
    return default if given is None else given


def _span(length: float | None, a_second: int = 1) -> timedelta | None:
    return None if length is None else timedelta(seconds=length / a_second)
