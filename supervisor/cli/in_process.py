"""The whole system in this process, without Ray, for one verdict: ``reconcile`` and ``record``.

The same actor classes on the local runtime. Accounts are independent: one that is down costs the others nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from loguru import logger

from actors.account.actor import Account
from actors.events import Json
from actors.instrument.actor import Instrument
from actors.instrument.views import NOTHING_KNOWN
from actors.journal.actor import Audit
from actors.journal.client import JOURNAL_TIMEOUT_S
from actors.journal.types import JournalError, JournalInUse
from actors.messages import AccountHealth, Connection, CycleReport, NoSlice
from actors.names import AUDIT, instrument_name
from actors.reconciliation.own_reports import Report, UnfitReports
from actors.reconciliation.reconciliation_pass import Status
from actors.runtime.ports import CallError, LocalRuntime
from brokers.frozen import dataclass
from brokers.registry import PAPER
from supervisor.changes.asking import asked, said_of, sender_keys
from supervisor.config.models import Configuration
from supervisor.supervision import specs
from supervisor.supervision.books import known_to_be_held
from supervisor.supervision.logins import double_logins

Verdicts = list[tuple[AccountHealth, list[CycleReport]]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which accounts and instruments; ``None`` is all of them."""

    account: str | None = None
    instrument: str | None = None


@asynccontextmanager
async def house(configuration: Configuration) -> AsyncIterator[LocalRuntime]:
    """A runtime with the audit actor in it. The journal is open for writing, or every call to it raises the reason;
    :class:`JournalInUse` is raised at once."""
    chance = random.Random()  # noqa: S311 - spreads retries; nothing secret rests on it
    runtime = LocalRuntime(lambda: datetime.now(UTC), time.monotonic, chance.random)
    audit = Audit(*specs.audit_actor(configuration))
    try:
        try:
            await audit.open()
        except JournalInUse:
            raise
        except JournalError as error:
            logger.error("{}", error)  # every verdict reports it too
        runtime.register(AUDIT, audit)
        yield runtime
    finally:
        await audit.close()


async def reconcile(configuration: Configuration, selection: Selection, *, dry_run: bool) -> Verdicts:
    """A verdict on every selected instrument."""
    names = [a.name for a in configuration.enabled_accounts if selection.account in (None, a.name)]
    async with house(configuration) as runtime:
        accounts = {}
        for name in names:
            made = specs.account_actor(configuration, name, runtime, one_verdict=True, silent=dry_run)
            accounts[name] = Account(*made)
            runtime.register(name, accounts[name])
        try:
            await asyncio.gather(*(account.recall() for account in accounts.values()))
            await _refuse_doubles(configuration, accounts)
            each = (_account(configuration, selection, runtime, one, dry_run=dry_run) for one in accounts.items())
            return list(await asyncio.gather(*each))
        finally:
            await asyncio.gather(*(account.close() for account in accounts.values()))


async def _refuse_doubles(configuration: Configuration, accounts: Mapping[str, Account]) -> None:
    """Check only the first of the accounts that reach one login. An account is asked only if it may be a double."""
    brokers = Counter(configuration.account(name).broker for name in accounts)
    asked = [name for name in accounts if brokers[configuration.account(name).broker] > 1]
    logins = dict(zip(asked, await asyncio.gather(*(accounts[name].login() for name in asked)), strict=True))
    for name, why in double_logins(logins, configuration).items():
        await accounts[name].refuse(why)


async def record(
    configuration: Configuration,
    account: str,
    reports: Mapping[str, Sequence[Report]],
    warn: Callable[[str], None] = lambda _: None,
) -> int:
    """Record reports in the books of one account; returns the number of newly recorded ones, and calls ``warn`` for
    each fill whose order its book does not have. Raises :class:`~actors.journal.client.JournalAway` when the journal
    does not accept them (the same reports sent again then count once), and :class:`UnfitReports` where any report is
    unfit; then none was recorded."""
    async with house(configuration) as runtime, _venue(configuration, account, runtime):
        actors = [Instrument(*specs.instrument_actor(configuration, account, name, runtime)) for name in reports]
        by = sender_keys(asked())
        unfit = [
            (name, place, words)
            for actor, name in zip(actors, reports, strict=True)
            for place, words in await actor.unfit(reports[name])
        ]
        if unfit:
            raise UnfitReports(tuple(unfit))
        new = sum([await actor.record(reports[name], by) for actor, name in zip(actors, reports, strict=True)])
        for actor, name in zip(actors, reports, strict=True):
            for words in await actor.of_no_order(reports[name]):
                warn(words)
        return new


@asynccontextmanager
async def _venue(configuration: Configuration, name: str, runtime: LocalRuntime) -> AsyncIterator[None]:
    """A paper account's venue, which receives recorded orders. No other account is opened."""
    if configuration.account(name).broker != PAPER:
        yield
        return
    account = Account(*specs.account_actor(configuration, name, runtime, one_verdict=True))
    runtime.register(name, account)
    try:
        yield
    finally:
        await account.close()


async def _account(
    configuration: Configuration,
    selection: Selection,
    runtime: LocalRuntime,
    named: tuple[str, Account],
    *,
    dry_run: bool,
) -> tuple[AccountHealth, list[CycleReport]]:
    name, account = named
    symbols = await _symbols(configuration, name, selection, account, runtime)
    await account.expect(frozenset(symbols))
    reports = []
    for symbol in symbols:
        actor = Instrument(*specs.instrument_actor(configuration, name, symbol, runtime, one_verdict=True))
        runtime.register(instrument_name(name, symbol), actor)
        reports.append(actor.reconcile_now(said_of(asked()), dry_run=dry_run))
    done = list(await asyncio.gather(*reports))
    return await account.health(), done


async def _symbols(
    configuration: Configuration, name: str, selection: Selection, account: Account, runtime: LocalRuntime
) -> tuple[str, ...]:
    given = configuration.account(name)
    if selection.instrument is not None:
        known = given.instruments is not None or await _is_known(name, selection.instrument, account, runtime)
        return (selection.instrument,) if known else ()
    if given.instruments is not None:
        return given.symbols
    found = await account.instruments(datetime.now(UTC))
    at_broker = set() if isinstance(found, NoSlice) else set(found)
    return tuple(sorted((at_broker | await known_to_be_held(name, runtime)) - set(given.ignore_instruments)))


async def _is_known(name: str, symbol: str, account: Account, runtime: LocalRuntime) -> bool:
    """Whether an account that manages all has the instrument, or one of our books has it. Where that is unknown, its
    verdict reports so."""
    found = await account.instruments(datetime.now(UTC))
    if isinstance(found, NoSlice) or symbol in found:
        return True
    try:
        return instrument_name(name, symbol) in await runtime.call(AUDIT, "streams", timeout_s=JOURNAL_TIMEOUT_S)
    except (CallError, JournalError):
        return True


def never_started(account: str, broker: str, instruments: Sequence[str], error: str) -> Verdicts:
    """The verdict on an account whose actors do not answer."""
    health = AccountHealth(account, broker, Connection.UNREACHABLE, error, 0, 0, None, (), (), 0)
    now = datetime.now(UTC)
    empty: dict[str, Json] = {"legs": [], "open_orders": []}
    reports = [
        CycleReport(
            account, name, Status.DEGRADED, error, now, 0.0, 0, dict(empty), dict(NOTHING_KNOWN), unverified=True
        )
        for name in instruments
    ]
    return [(health, reports)]
