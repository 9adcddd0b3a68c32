"""From the configuration to actors: what each is made of, and when it counts as hung. Used by the cluster and by the
one-process run alike, so that both run the same system."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

from actors.account import Account, AccountSettings
from actors.events import stream_of
from actors.instrument import Instrument, InstrumentSettings
from actors.policy import Correct, Policy
from actors.runtime import Runtime
from brokers.model import Conventions
from brokers.port import Broker
from brokers.registry import CONVENTIONS, open_broker
from supervisor.children import AUDIT, ChildKey, ChildSpec, Kind
from supervisor.config import Configuration

MakeBroker = Callable[..., Broker]
""":func:`brokers.registry.open_broker`, or a stand-in of its signature that pickles where actors are processes."""

CYCLE_MARGIN_S = 5.0
"""How much longer than one call to its broker a cycle may take: the journal, the decision, the way there and back."""

ADAPTER_TRIES = 10
"""An adapter tries a call a few times, and proves the account again in between: all of it ends within this many."""

_HOUSE_INTERVAL_S = 5.0
_HOUSE_TIMEOUT_S = 15.0
"""Accounts and the audit actor have no interval; they have to answer a probe within half a minute."""


def account_actor(
    configuration: Configuration,
    name: str,
    runtime: Runtime,
    *,
    one_verdict: bool = False,
    make_broker: MakeBroker = open_broker,
) -> tuple[AccountSettings, Callable[[], Broker], Runtime]:
    """The arguments of one account's actor. For ``one_verdict`` it waits for its broker as long as the adapter tries,
    and a simulated broker stands still."""
    account = configuration.account(name)
    settings = AccountSettings(
        account=name,
        broker=account.broker,
        managed=frozenset(account.symbols),
        ignored=frozenset(account.ignore_instruments),
        discover=account.instruments is None,
        patience_s=None if one_verdict else configuration.timeout_s(name),
        discover_every_s=max(1.0, configuration.instrument_settings(name, "").interval_s),
    )
    return settings, partial(make_broker, configuration.broker_spec(name), lively=not one_verdict), runtime


def instrument_actor(
    configuration: Configuration, account: str, symbol: str, runtime: Runtime, *, one_verdict: bool = False
) -> tuple[InstrumentSettings, Runtime]:
    """The arguments of one instrument's actor. For ``one_verdict`` it waits as long as its account does, and sends
    nothing to the broker that changes anything there."""
    given = configuration.instrument_settings(account, symbol)
    policy = Policy(
        correct=Correct(given.correct),
        confirmations=given.confirmations,
        confirm_gap=timedelta(seconds=given.confirm_gap_s),
        settle=timedelta(seconds=given.settle_s),
        quantity_tolerance=given.quantity_tolerance,
        price_tolerance=given.price_tolerance,
        max_correction=given.max_correction,
        stale_order=None if given.stale_order_s is None else timedelta(seconds=given.stale_order_s),
        cancel_stale_orders=given.cancel_stale_orders and not one_verdict,
        max_age=timedelta(seconds=given.max_age_s),
        unverified=timedelta(seconds=given.unverified_s),
        positions=given.mode == "live",
        conventions=CONVENTIONS.get(configuration.account(account).broker, Conventions()),
    )
    timeout_s = configuration.timeout_s(account)
    timeout_s = timeout_s * ADAPTER_TRIES + CYCLE_MARGIN_S if one_verdict else timeout_s + CYCLE_MARGIN_S
    return InstrumentSettings(account, symbol, given.interval_s, timeout_s, policy), runtime


def children(configuration: Configuration, discovered: Iterable[tuple[str, str]] = ()) -> tuple[ChildSpec, ...]:
    """Everything that shall run: the audit actor, the enabled accounts, and their instruments; ``discovered`` are
    (account, symbol) pairs beyond those the configuration names."""
    specs = [ChildSpec(AUDIT, _HOUSE_INTERVAL_S, _HOUSE_TIMEOUT_S)]
    more: dict[str, list[str]] = {}
    for name, symbol in discovered:
        more.setdefault(name, []).append(symbol)
    for account in configuration.enabled_accounts:
        key = ChildKey(Kind.ACCOUNT, account.name)
        spec = configuration.broker_spec(account.name)
        specs.append(ChildSpec(key, _HOUSE_INTERVAL_S, _HOUSE_TIMEOUT_S, _fingerprint(spec, account)))
        for symbol in (*account.symbols, *more.get(account.name, ())):
            given = configuration.instrument_settings(account.name, symbol)
            timeout_s = configuration.timeout_s(account.name) + CYCLE_MARGIN_S
            child = ChildKey(Kind.INSTRUMENT, stream_of(account.name, symbol))
            specs.append(ChildSpec(child, given.interval_s, timeout_s, _fingerprint(given)))
    return tuple(specs)


def actor_of(key: ChildKey) -> type:
    """The class of a child's actor. The audit actor's is imported by whoever starts it: it brings a database."""
    return Account if key.kind is Kind.ACCOUNT else Instrument


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
