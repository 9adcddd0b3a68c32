"""Turns the configuration into the arguments of actors, and into the time after which each counts as hung. The cluster
and the one-process run both use it, so that both run the same system."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType

import psutil

from actors.account.actor import Account, AccountSettings
from actors.alerts.actor import Alerts, AlertsSettings
from actors.alerts.router import Route, RouterSettings
from actors.alerts.windows import Window
from actors.delta.book_spec import EXTRA, BookTableSpec, open_book_table
from actors.delta.sink_actor import SinkSettings
from actors.events import Severity
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.evidence import EvidenceSettings
from actors.names import instrument_name, sink_name
from actors.runtime.cell import SIZE
from actors.runtime.deployment import Carried
from actors.runtime.nodes import EVERYWHERE, Place
from actors.runtime.ports import Runtime
from brokers.model import Conventions, LegScheme
from brokers.port import Broker
from brokers.registry import CONVENTIONS, PAPER, open_broker
from brokers.spec import READ_FROM_FILES, BrokerSpec, SecretRef
from supervisor.config.models import CYCLE_MARGIN_S, Configuration
from supervisor.tree.model import ALERTS, AUDIT, ChildKey, ChildSpec, Kind

MakeBroker = Callable[..., Broker]
""":func:`brokers.registry.open_broker`, or a stand-in of its signature that pickles where actors are processes."""

NO_MARKS: Mapping[str, str] = MappingProxyType({})

_OPENED_WITH_INSTRUMENTS = frozenset({"ib", PAPER})
"""The brokers whose adapter needs the configured instruments: to identify them, or to trade in them."""

ADAPTER_TRIES = 10
"""An adapter tries a call a few times and proves the account in between: all of it takes at most this many calls."""

_MEMORY_OF_ONE = 54_000_000
_ONES_PER_CORE = 75
"""The load of one instrument's process: its own memory in bytes, and how many of them occupy one core."""

_HOUSE_INTERVAL_S = 3.0
_HOUSE_TIMEOUT_S = 1.0
"""Accounts and the audit actor have no interval: one that answers no probe for 10 s (three probe time-outs and a
second) is hung."""


def account_actor(
    configuration: Configuration,
    name: str,
    runtime: Runtime,
    *,
    one_verdict: bool = False,
    silent: bool = False,
    make_broker: MakeBroker = open_broker,
    marks: Mapping[str, str] = NO_MARKS,
) -> tuple[AccountSettings, Callable[[], Broker], Runtime]:
    """The arguments of one account's actor. With ``one_verdict`` it waits for its broker as long as the adapter tries,
    and a simulated broker's market stands still. With ``silent`` it journals nothing. ``marks`` are the fingerprints
    that distinguish literal secrets."""
    settings = _account_settings(configuration, name, one_verdict=one_verdict)
    spec = configuration.broker_spec(name)
    table = book_spec(configuration, name)
    open_table = None if table is None else partial(open_book_table, table)
    fingerprint = _account_fingerprint(settings, spec, marks, table, configuration.place(name))
    settings = replace(settings, fingerprint=fingerprint, open_table=open_table, silent=silent)
    return settings, partial(make_broker, spec, lively=not one_verdict), runtime


def book_spec(configuration: Configuration, name: str) -> BookTableSpec | None:
    """The table that holds an account's book; ``None`` where the journal does."""
    account = configuration.account(name)
    book = account.book
    if book is None:
        return None
    columns = book.columns
    return BookTableSpec(
        account=name,
        uri=book.delta,
        key=columns.symbol or columns.con_id or "",
        quantity=columns.quantity,
        time=columns.time,
        by_identity=columns.con_id is not None,
        leg=columns.leg,
        average_price=columns.average_price,
        order=columns.order,
        source=columns.source,
        discrepancy=columns.discrepancy,
        where=dict(book.where),
        legs=CONVENTIONS.get(account.broker, Conventions()).legs if account.broker == "oanda" else LegScheme.NET,
        max_age_s=book.max_age_s,
        writable=book.writable,
        options=dict(book.storage_options),
    )


def _account_settings(configuration: Configuration, name: str, *, one_verdict: bool = False) -> AccountSettings:
    account = configuration.account(name)
    return AccountSettings(
        account=name,
        broker=account.broker,
        managed=frozenset(account.symbols),
        ignored=frozenset(account.ignore_instruments),
        discover=account.instruments is None,
        patience_s=None if one_verdict else configuration.timeout_s(name),
        discover_every_s=max(1.0, configuration.instrument_settings(name, "").interval_s),
    )


def _account_fingerprint(
    settings: AccountSettings,
    spec: BrokerSpec,
    marks: Mapping[str, str],
    table: BookTableSpec | None,
    place: Place,
) -> str:
    """Covers the settings that a living account actor cannot be sent, so that a change of them restarts it. It can be
    sent which instruments it manages, unless the broker's adapter is opened with them."""
    secrets = {key: _known_as(ref, marks.get(f"{spec.account}.{key}")) for key, ref in spec.secrets.items()}
    instruments = spec.instruments if spec.broker in _OPENED_WITH_INSTRUMENTS else ()
    every_s = settings.discover_every_s if settings.discover else None
    opened = replace(spec, secrets={}, instruments=instruments)
    more = (*(() if table is None else (table,)), *_of_place(place))
    return _fingerprint(opened, secrets, settings.discover, settings.patience_s, every_s, *more)


def _known_as(ref: SecretRef, mark: str | None) -> tuple[str, str]:
    return ref.source.value, ref.place if mark is None or ref.source not in READ_FROM_FILES else mark


def instrument_actor(
    configuration: Configuration, account: str, symbol: str, runtime: Runtime, *, one_verdict: bool = False
) -> tuple[InstrumentSettings, Runtime]:
    """The arguments of one instrument's actor. With ``one_verdict`` it waits as long as its account does, and sends
    nothing that changes anything at the broker."""
    settings = configuration.instrument_settings(account, symbol)
    if one_verdict:
        timeout_s = configuration.timeout_s(account) * ADAPTER_TRIES + CYCLE_MARGIN_S
        policy = replace(settings.policy, cancel_stale_orders=False)
        settings = replace(settings, cycle_timeout_s=timeout_s, policy=policy)
    return replace(settings, fingerprint=_instrument_fingerprint(configuration, settings)), runtime


def carried_by(configuration: Configuration, account: str, many: int) -> Carried | None:
    """The cells that carry the instruments of an account, where ``many`` instruments run in all; ``None`` where each
    has a process of its own."""
    size = configuration.instruments_per_actor(account)
    if size == "auto":
        size = 1 if many <= room_for_processes() else SIZE
    return None if size == 1 else Carried(account, size)


def room_for_processes() -> int:
    """How many instruments this machine runs in a process each: limited by half of its memory and by its cores."""
    by_memory = psutil.virtual_memory().total // 2 // _MEMORY_OF_ONE
    return int(min(by_memory, _ONES_PER_CORE * (psutil.cpu_count() or 1)))


def _instrument_fingerprint(configuration: Configuration, settings: InstrumentSettings) -> str:
    """Covers what an instrument is started with, and the size of its cells where that was configured."""
    shared = configuration.instruments_per_actor(settings.account)
    spread = ("spread",) if configuration.is_spread(settings.account) else ()
    where = (*_of_place(instrument_place(configuration, settings.account)), *spread)
    return _fingerprint(settings, *where) if shared == 1 else _fingerprint(settings, shared, *where)


def instrument_place(configuration: Configuration, account: str) -> Place:
    """The nodes on which the instruments of an account may run."""
    return EVERYWHERE if configuration.is_spread(account) else configuration.place(account)


def _of_place(place: Place) -> tuple[Place, ...]:
    """What a place adds to a fingerprint; nothing where every node is allowed."""
    return (place,) if place else ()


def audit_actor(configuration: Configuration) -> tuple[str, str | None, EvidenceSettings]:
    """The arguments of the audit actor."""
    journal = configuration.journal
    stamped = journal.timestamp
    evidence = EvidenceSettings(
        configuration.signing_key,
        configuration.public_keys,
        journal.heads,
        None if stamped is None else stamped.url,
        None if stamped is None else stamped.roots,
        configuration.kept_slices if journal.keep_slices else None,
        str(configuration.beside_journal),
    )
    return configuration.journal_url, journal.head_file, evidence


def sinks(configuration: Configuration) -> tuple[SinkSettings, ...]:
    """What each sink is started with; empty where the library that writes tables is not installed, which ``check`` and
    ``status`` report."""
    if lacks_delta():
        return ()
    made = []
    for number, sink in enumerate(configuration.sinks, 1):
        fingerprint = _fingerprint(sink.delta, sorted(map(repr, sink.storage_options.items())))
        options = dict(sink.storage_options)
        url = configuration.journal_url
        made.append(SinkSettings(sink_name(number), sink.delta, url, options=options, fingerprint=fingerprint))
    return tuple(made)


def sink_actor(configuration: Configuration, name: str, runtime: Runtime) -> tuple[SinkSettings, Runtime]:
    """The arguments of one sink's actor."""
    return next(one for one in sinks(configuration) if one.name == name), runtime


def lacks_delta() -> str | None:
    """Why no table in Delta Lake can be written or read here, with what to do; ``None`` where one can."""
    lacking = [name for name in ("deltalake", "pyarrow", "numpy") if find_spec(name) is None]
    if not lacking:
        return None
    return f"{' and '.join(lacking)} not installed: pip install -e '.[{EXTRA}]'"


def children(
    configuration: Configuration,
    discovered: Iterable[tuple[str, str]] = (),
    marks: Mapping[str, str] = NO_MARKS,
) -> tuple[ChildSpec, ...]:
    """Everything that should run: the audit actor, the sinks, the enabled accounts with their instruments, and alerts.
    ``discovered`` are (account, symbol) pairs beyond those that the configuration names. ``marks`` are the fingerprints
    that distinguish literal secrets."""
    house = configuration.journal_place
    specs = [ChildSpec(AUDIT, _HOUSE_INTERVAL_S, _HOUSE_TIMEOUT_S, place=house)]
    for sink in sinks(configuration):
        key = ChildKey(Kind.SINK, sink.name)
        specs.append(ChildSpec(key, _HOUSE_INTERVAL_S, _HOUSE_TIMEOUT_S, sink.fingerprint or "", place=house))
    more: dict[str, list[str]] = {}
    for name, symbol in discovered:
        more.setdefault(name, []).append(symbol)
    many = sum(len(one.symbols) for one in configuration.enabled_accounts) + sum(map(len, more.values()))
    for account in configuration.enabled_accounts:
        key = ChildKey(Kind.ACCOUNT, account.name)
        settings, spec = _account_settings(configuration, account.name), configuration.broker_spec(account.name)
        place = configuration.place(account.name)
        fingerprint = _account_fingerprint(settings, spec, marks, book_spec(configuration, account.name), place)
        specs.append(ChildSpec(key, _HOUSE_INTERVAL_S, _HOUSE_TIMEOUT_S, fingerprint, place=place))
        place = instrument_place(configuration, account.name)
        for symbol in (*account.symbols, *more.get(account.name, ())):
            made = configuration.instrument_settings(account.name, symbol)
            child = ChildKey(Kind.INSTRUMENT, instrument_name(account.name, symbol))
            fingerprint = _instrument_fingerprint(configuration, made)
            carried = carried_by(configuration, account.name, many) is not None
            specs.append(ChildSpec(child, made.interval_s, made.cycle_timeout_s, fingerprint, carried, place))
    if configuration.alerts.routes:
        alerts = alerts_settings(configuration)
        specs.append(ChildSpec(ALERTS, _HOUSE_INTERVAL_S, _HOUSE_TIMEOUT_S, alerts.fingerprint or "", place=house))
    return tuple(specs)


def alerts_settings(configuration: Configuration) -> AlertsSettings:
    """The settings of the alerts actor."""
    given = configuration.alerts
    routes = tuple(
        Route(
            name=one.name,
            severity=Severity(one.severity),
            kinds=frozenset(one.types),
            accounts=frozenset(one.accounts),
            after=timedelta(seconds=one.after_s or 0),
            heartbeat=one.heartbeat,
        )
        for one in given.routes
    )
    quiet = given.quiet
    router = RouterSettings(
        routes=routes,
        brokers={account.name: account.broker for account in configuration.enabled_accounts},
        remind_every=None if given.remind_every_s is None else timedelta(seconds=given.remind_every_s),
        digest_above=given.digest_above,
        heartbeat_every=None if given.heartbeat_s is None else timedelta(seconds=given.heartbeat_s),
        quiet=None if quiet is None else Window("quiet hours", quiet.begin, quiet.end, quiet.timezone),
        quiet_below=Severity.CRITICAL if quiet is None else Severity(quiet.below),
    )
    urls = tuple((one.name, one.url) for one in given.routes)
    return AlertsSettings(router, urls, _fingerprint(given, router.brokers))


def discovered_in(
    configuration: Configuration, before: Configuration, discovered: Iterable[tuple[str, str]]
) -> set[tuple[str, str]]:
    """The instruments, discovered or listed ``before``, that accounts which now manage all instruments keep."""
    listed = {(one.name, symbol) for one in before.enabled_accounts for symbol in one.symbols}
    takes_all = {one.name: one for one in configuration.enabled_accounts if one.instruments is None}
    return {
        (account, symbol)
        for account, symbol in listed.union(discovered)
        if account in takes_all and symbol not in takes_all[account].ignore_instruments
    }


def managed_by(configuration: Configuration, account: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """The instruments that an account manages, and those it ignores; ``None`` for an account that should not run."""
    for one in configuration.enabled_accounts:
        if one.name == account:
            return frozenset(one.symbols), frozenset(one.ignore_instruments)
    return None


def actor_of(key: ChildKey) -> type:
    """The class of an account's, an instrument's or the alerts actor. Factories make the others."""
    if key.kind is Kind.ALERTS:
        return Alerts
    return Account if key.kind is Kind.ACCOUNT else Instrument


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(repr(_in_order(parts)).encode()).hexdigest()[:16]


def _in_order(value: object) -> object:
    """The same value in every process: the iteration order of a set differs between processes."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, [(one.name, _in_order(getattr(value, one.name))) for one in fields(value)]
    if isinstance(value, Set):
        return sorted(repr(_in_order(one)) for one in value)
    if isinstance(value, Mapping):
        return sorted((repr(key), _in_order(one)) for key, one in value.items())
    if isinstance(value, tuple | list):
        return [_in_order(one) for one in value]
    return value
