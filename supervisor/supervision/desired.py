"""What shall run: the configuration that stands, and what was discovered beyond it.

The laws of this module: it knows what is wanted, and of no actor; an instrument is discovered only in an account that
takes all it has, and never one that the account ignores.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.book.trading_permission import scope_of
from actors.names import instrument_name
from brokers.model import Conventions
from brokers.registry import CONVENTIONS
from supervisor.changes.diff import SecretFingerprints
from supervisor.config.models import Configuration
from supervisor.supervision import specs
from supervisor.tree.model import ChildKey, ChildSpec


class DesiredState:
    """The accounts and instruments that are looked after, and the children that come of them."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._discovered: set[tuple[str, str]] = set()
        self._specs: dict[ChildKey, ChildSpec] = {}
        self._max_age_s: dict[tuple[str, str], float] = {}
        self._managed: dict[str, tuple[frozenset[str], frozenset[str]] | None] = {}

    # Accounts and instruments

    @property
    def configuration(self) -> Configuration:
        """The one that stands."""
        return self._configuration

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of those that shall run."""
        return tuple(account.name for account in self._configuration.enabled_accounts)

    def takes_all(self, account: str) -> bool:
        """Whether it shall run, and have an actor for everything it has."""
        return account in self.accounts and self._configuration.account(account).instruments is None

    @property
    def instruments(self) -> int:
        """How many there are in all."""
        return len(self._discovered) + sum(len(account.symbols) for account in self._configuration.enabled_accounts)

    def symbols(self, account: str) -> list[str]:
        """The instruments of an account: those the configuration names, and those discovered."""
        found = sorted(symbol for name, symbol in self._discovered if name == account)
        return [*self._configuration.account(account).symbols, *found]

    def looks_after(self, account: str, symbol: str) -> bool:
        """Whether an instrument is among those that shall run."""
        known = account in self.accounts and symbol in self._configuration.account(account).by_symbol
        return known or self.is_discovered(account, symbol)

    def directory(self) -> dict[str, dict[str, Any]]:
        """Each account: its ``broker``, how it names ``legs``, its ``instruments``, and whether it takes ``all``."""
        return {
            name: {
                "broker": self._configuration.account(name).broker,
                "legs": CONVENTIONS.get(self._configuration.account(name).broker, Conventions()).legs,
                "instruments": self.symbols(name),
                "all": self.takes_all(name),
            }
            for name in self.accounts
        }

    def max_age_s(self, account: str, symbol: str) -> float:
        """How old the last word on an instrument may be. Kept, as every ``status`` asks it for each of them."""
        found = self._max_age_s.get((account, symbol))
        if found is None:
            found = self._configuration.instrument_settings(account, symbol).policy.max_age.total_seconds()
            self._max_age_s[account, symbol] = found
        return found

    def managed(self, account: str) -> tuple[frozenset[str], frozenset[str]] | None:
        """What an account looks after and what it ignores; ``None`` for one that is not to run. Kept, as above."""
        if account not in self._managed:
            self._managed[account] = specs.managed_by(self._configuration, account)
        return self._managed[account]

    # What a person selects

    def chosen(self, account: str | None, instrument: str | None) -> list[str]:
        """The names of the selected instruments; ``None`` selects all."""
        return [
            instrument_name(name, symbol)
            for name in self.accounts
            if account in (None, name)
            for symbol in self.symbols(name)
            if instrument in (None, symbol)
        ]

    def scopes(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """What a selection halts: an instrument named without its account, in each account that has it."""
        if account is None and instrument is not None:
            return tuple(self.chosen(None, instrument))
        return (scope_of(account, instrument),)

    # What is discovered

    def undiscovered(self, account: str, symbols: Iterable[str]) -> set[str]:
        """Those among the symbols that would be new; none in an account that does not take all it has."""
        if not self.takes_all(account):
            return set()
        ignored = self._configuration.account(account).ignore_instruments
        return {one for one in symbols if one not in ignored and (account, one) not in self._discovered}

    def discover(self, account: str, symbols: Iterable[str]) -> None:
        """Look after these from now on."""
        self._discovered |= {(account, symbol) for symbol in symbols}

    def is_discovered(self, account: str, symbol: str) -> bool:
        """Whether it is looked after only because it was discovered."""
        return (account, symbol) in self._discovered and account in self.accounts

    def retire(self, account: str, symbol: str) -> None:
        """Look after a discovered one no longer."""
        self._discovered.discard((account, symbol))

    # What follows for the tree

    def begin_with(self, configuration: Configuration) -> None:
        """The one that stands after a start, or after a crash."""
        self._configuration = configuration
        self._forget_what_was_kept()

    def adopt(self, configuration: Configuration) -> None:
        """Have this one stand in the place of the one before, with what was discovered as far as it goes on."""
        self._discovered = specs.discovered_in(configuration, self._configuration, self._discovered)
        self._configuration = configuration
        self._forget_what_was_kept()

    def _forget_what_was_kept(self) -> None:
        self._max_age_s.clear()
        self._managed.clear()

    def specs_by(self, configuration: Configuration, marks: SecretFingerprints) -> tuple[ChildSpec, ...]:
        """Everything that would run by another configuration."""
        found = specs.discovered_in(configuration, self._configuration, self._discovered)
        return specs.children(configuration, sorted(found), marks)

    def settle(self, marks: SecretFingerprints) -> tuple[ChildSpec, ...]:
        """Everything that shall run from now on."""
        wanted = specs.children(self._configuration, sorted(self._discovered), marks)
        self._specs = {spec.key: spec for spec in wanted}
        return wanted

    def spec(self, key: ChildKey) -> ChildSpec | None:
        """A child as it was last settled; ``None`` where it shall not run."""
        return self._specs.get(key)
