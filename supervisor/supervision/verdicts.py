"""Unscheduled verdicts on what runs, each made by the instrument's own actor.

The law of this module: an actor that does not answer is an unverified instrument in the result, never left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from actors.events import Json
from actors.messages import AccountHealth, CycleReport
from actors.names import instrument_name
from actors.runtime.ports import CallError, Runtime
from supervisor.supervision import status
from supervisor.supervision.desired import DesiredState
from supervisor.supervision.health import HealthRegistry
from supervisor.tree.model import PROBE_TIMEOUT_S, Child, ChildKey, Kind

VERDICT_MARGIN_S = 30.0
"""How much longer a verdict may take than its broker calls and its pauses between confirmations."""


class Verdicts:
    """Requests verdicts. ``children`` is the tree's live view of the children."""

    def __init__(
        self, runtime: Runtime, children: Mapping[ChildKey, Child], desired: DesiredState, healths: HealthRegistry
    ) -> None:
        self._runtime = runtime
        self._children = children
        self._desired = desired
        self._healths = healths

    async def on(
        self,
        account: str | None,
        instrument: str | None,
        *,
        dry_run: bool,
        asked: Mapping[str, Json] | None = None,
    ) -> list[tuple[AccountHealth, list[CycleReport]]]:
        """A verdict on every selected instrument, by account. ``asked`` are the keys that identify the requester."""
        chosen = [name for name in self._desired.accounts if account in (None, name)]
        work = [self._of_account(name, instrument, asked, dry_run=dry_run) for name in chosen]
        return list(await asyncio.gather(*work))

    async def _of_account(
        self, account: str, instrument: str | None, asked: Mapping[str, Json] | None, *, dry_run: bool
    ) -> tuple[AccountHealth, list[CycleReport]]:
        symbols = [symbol for symbol in self._desired.symbols(account) if instrument in (None, symbol)]
        reports = await asyncio.gather(*(self._of(account, symbol, asked, dry_run=dry_run) for symbol in symbols))
        try:
            health = await self._runtime.call(account, "health", timeout_s=PROBE_TIMEOUT_S)
        except CallError:
            health = self._healths.account(account)
        return health, list(reports)

    async def _of(self, account: str, symbol: str, asked: Mapping[str, Json] | None, *, dry_run: bool) -> CycleReport:
        name = instrument_name(account, symbol)
        policy = self._desired.configuration.instrument_settings(account, symbol).policy
        bound_s = (policy.settle + policy.confirmations * policy.confirm_gap).total_seconds()
        timeout_s = bound_s + 2 * self._desired.configuration.timeout_s(account) + VERDICT_MARGIN_S
        asking = ("detect_drift",) if dry_run else ("reconcile_now", asked)
        try:
            report: CycleReport = await self._runtime.call(name, *asking, timeout_s=timeout_s)
        except CallError as error:
            child = self._children.get(ChildKey(Kind.INSTRUMENT, name))
            return status.absent(account, symbol, child, None, self._runtime.now(), str(error))
        return report
