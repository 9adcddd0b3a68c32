"""What an account actor is told: which account it keeps, and whose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from actors.account.table_watch import BookTable


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Which account this is and whose it looks after. ``managed`` are the configured symbols; with ``discover`` it
    is for the supervisor to start an actor for every other one, and no discrepancy. ``patience_s`` is how long a caller
    is kept waiting for the broker before it is told so; the fetch itself goes on (``None``: until it ends).
    ``discover_every_s`` is how often, with ``discover``, the account is looked at though nobody asks. ``fingerprint``
    stands for what cannot be changed while the actor lives. ``open_table`` opens the table in which somebody else keeps
    the account's book, where there is one. With ``silent`` it journals nothing, as for a verdict that is to change
    nothing."""

    account: str
    broker: str
    managed: frozenset[str]
    ignored: frozenset[str] = frozenset()
    discover: bool = False
    patience_s: float | None = None
    discover_every_s: float = 60.0
    fingerprint: str | None = None
    open_table: Callable[[], BookTable] | None = None
    silent: bool = False
