"""What an instrument actor is told: which instrument it keeps, by which rules, and why it looks at the broker now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from actors.book.policy import Policy
from actors.events import Json


@dataclass(frozen=True, slots=True)
class InstrumentSettings:
    """Which instrument, how often it is checked (seconds; 0 is as often as asked), how long one cycle may take, and by
    which rules. With ``venue`` the account has a venue of our own, and orders that are recorded are handed to it. With
    ``keep_slices`` what each decision rested on is kept beside the journal; with
    ``writable_table`` the table in which its book is kept is corrected.
    ``fingerprint`` stands for all of this, for whoever asks whether it is still what is wanted."""

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
    """Why the broker is looked at: no earlier than when it is to be asked, the trade after which, whether anything but
    the interval asks for it (``calm``: nothing does), and the keys that name who ``asked``, where a person or a program
    did."""

    not_before: datetime
    trade: str | None = None
    dry_run: bool = False
    calm: bool = False
    asked: Mapping[str, Json] | None = None
