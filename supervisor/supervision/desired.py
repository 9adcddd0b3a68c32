"""What should run: the configuration in force, and what was discovered beyond it.

The laws of this module: it holds what is desired, and knows no actor; an instrument is discovered only in an account
that manages all its instruments, and never one that the account ignores.
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
    """The managed accounts and instruments, and the children that follow from them."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._discovered: set[tuple[str, str]] = set()
        self._specs: dict[ChildKey, ChildSpec] = {}
        self._max_age_s: dict[tuple[str, str], float] = {}
        self._managed: dict[str, tuple[frozenset[str], frozenset[str]] | None] = {}

    # Accounts and instruments

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self._configuration

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the accounts that should run."""
        return tuple(account.name for account in self._configuration.enabled_accounts)

    def takes_all(self, account: str) -> bool:
        """Whether an account should run and manages all its instruments."""
        return account in self.accounts and self._configuration.account(account).instruments is None

    @property
    def instruments(self) -> int:
        """The number of instruments in all accounts."""
        return len(self._discovered) + sum(len(account.symbols) for account in self._configuration.enabled_accounts)

    def symbols(self, account: str) -> list[str]:
        """The instruments of an account: those that the configuration names, and those discovered."""
        found = sorted(symbol for name, symbol in self._discovered if name == account)
        return [*self._configuration.account(account).symbols, *found]

    def looks_after(self, account: str, symbol: str) -> bool:
        """Whether an instrument should run."""
        known = account in self.accounts and symbol in self._configuration.account(account).by_symbol
        return known or self.is_discovered(account, symbol)

    def directory(self) -> dict[str, dict[str, Any]]:
        """Each account: its ``broker``, the scheme of its ``legs``, its ``instruments``, and whether it manages
        ``all``."""
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
        """How old an instrument's last report may be. Cached, since every ``status`` needs it for each instrument."""
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
        """The scopes that a selection halts: an instrument without its account is halted in each account with it."""
        if account is None and instrument is not None:
            return tuple(self.chosen(None, instrument))
        return (scope_of(account, instrument),)

    # What is discovered

    def undiscovered(self, account: str, symbols: Iterable[str]) -> set[str]:
        """The symbols that would be new; none in an account that does not manage all its instruments."""
        if not self.takes_all(account):
            return set()
        ignored = self._configuration.account(account).ignore_instruments
        return {one for one in symbols if one not in ignored and (account, one) not in self._discovered}

    def discover(self, account: str, symbols: Iterable[str]) -> None:
        """Manage these instruments from now on."""
        self._discovered |= {(account, symbol) for symbol in symbols}

    def is_discovered(self, account: str, symbol: str) -> bool:
        """Whether an instrument is managed only because it was discovered."""
        return (account, symbol) in self._discovered and account in self.accounts

    def retire(self, account: str, symbol: str) -> None:
        """Stop managing a discovered instrument."""
        self._discovered.discard((account, symbol))

    # What follows for the tree

    def begin_with(self, configuration: Configuration) -> None:
        """Take the configuration that is in force after a start or a crash."""
        self._configuration = configuration
        self._forget_what_was_kept()

    def adopt(self, configuration: Configuration) -> None:
        """Replace the configuration in force, and keep the discovered instruments that the new one still manages."""
        self._discovered = specs.discovered_in(configuration, self._configuration, self._discovered)
        self._configuration = configuration
        self._forget_what_was_kept()

    def _forget_what_was_kept(self) -> None:
        self._max_age_s.clear()
        self._managed.clear()

    def specs_by(self, configuration: Configuration, marks: SecretFingerprints) -> tuple[ChildSpec, ...]:
        """The children under another configuration."""
        found = specs.discovered_in(configuration, self._configuration, self._discovered)
        return specs.children(configuration, sorted(found), marks)

    def settle(self, marks: SecretFingerprints) -> tuple[ChildSpec, ...]:
        """The children that should run from now on."""
        wanted = specs.children(self._configuration, sorted(self._discovered), marks)
        self._specs = {spec.key: spec for spec in wanted}
        return wanted

    def spec(self, key: ChildKey) -> ChildSpec | None:
        """A child as last settled; ``None`` where it should not run."""
        return self._specs.get(key)
