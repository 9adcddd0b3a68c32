"""The settings of an instrument actor: which instrument it keeps, and by which rules; and the trigger of a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from actors.book.policy import Policy
from actors.events import Json
from brokers.frozen import dataclass


@dataclass(frozen=True, slots=True)
class InstrumentSettings:
    """Which instrument, how often it is checked (seconds; 0 is as often as requested), how long one cycle may take, and
    by which rules. With ``venue`` the account has a venue of our own, which receives recorded orders. With
    ``keep_slices`` the grounds of each decision are kept beside the journal; with ``writable_table`` the table that
    holds its book is corrected. ``fingerprint`` covers all of this, to show whether it is still what is desired."""

    account: str
    instrument: str
    interval_s: float
    cycle_timeout_s: float
    policy: Policy
    venue: bool = False
    keep_slices: bool = False
    writable_table: bool = False
    fingerprint: str | None = None


class CycleTrigger(
    NamedTuple
):  # made in a fifth of a dataclass's time, in each actor's process; never leaves the actor
    """Why a cycle runs: no earlier than when the broker must be asked, the trade it follows, whether nothing but the
    interval requests it (``calm``), and the keys that name the requester (``asked``), where a person or a program
    requested it."""

    not_before: datetime
    trade: str | None = None
    dry_run: bool = False
    calm: bool = False
    asked: Mapping[str, Json] | None = None
