"""The settings of an account actor."""

from __future__ import annotations

from collections.abc import Callable

from actors.account.table_watch import BookTable
from brokers.frozen import dataclass


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Which account this is, and which instruments it manages. ``managed`` are the configured symbols; with
    ``discover`` the supervisor starts an actor for every other one, which is then no discrepancy. ``patience_s`` is how
    long a caller waits for the broker before it gets :class:`NoSlice`; the fetch itself goes on (``None``: wait until
    it ends). ``discover_every_s`` is how often, with ``discover``, the account is checked without any request.
    ``fingerprint`` covers everything that cannot be changed while the actor lives. ``open_table`` opens the table in
    which another system keeps the account's book, if there is one. With ``silent`` nothing is journaled, for a verdict
    that changes nothing."""

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
