"""The changes that may be requested at run time, and the configuration that results from each. Pure.

The law of this module: a change is made as a whole or refused as a whole, with what was found and what to do.
"""

from __future__ import annotations

from brokers.frozen import dataclass
from brokers.versions import across_versions
from supervisor.changes.diff import SecretFingerprints, all_of, key_changes, said_by
from supervisor.config.models import AnyAccount, Configuration, Instrument
from supervisor.errors import HandleError

FIXED = ("ray", "journal", "console")
"""The sections that cannot change while a supervisor runs."""


class ChangeRefused(HandleError):
    """A refused change; nothing of it was made. ``attempted`` is the change, ``found`` the reason, ``remedy`` what the
    reader can do."""

    def __init__(self, attempted: str, found: str, remedy: str) -> None:
        super().__init__(f"nothing was changed: {attempted}: {found.rstrip('.')}. {remedy}")
        self.args = (attempted, found, remedy)
        self.attempted = attempted
        self.found = found
        self.remedy = remedy


@across_versions
@dataclass(frozen=True, slots=True)
class AddAccount:
    """One more account."""

    account: AnyAccount

    def __str__(self) -> str:
        return f"add account {self.account.name}"


@across_versions
@dataclass(frozen=True, slots=True)
class RemoveAccount:
    """Stop an account and its instruments; their records stay in the journal."""

    account: str

    def __str__(self) -> str:
        return f"remove account {self.account}"


@across_versions
@dataclass(frozen=True, slots=True)
class AddInstrument:
    """One more instrument of an account."""

    account: str
    instrument: Instrument

    def __str__(self) -> str:
        return f"add instrument {self.account}/{self.instrument.symbol}"


@across_versions
@dataclass(frozen=True, slots=True)
class RemoveInstrument:
    """Stop an instrument; its records stay in the journal."""

    account: str
    symbol: str

    def __str__(self) -> str:
        return f"remove instrument {self.account}/{self.symbol}"


@across_versions
@dataclass(frozen=True, slots=True)
class SetInterval:
    """Another interval (seconds) for an instrument, or with ``symbol`` ``None`` for all instruments of the account that
    have none of their own."""

    account: str
    symbol: str | None
    interval_s: float

    def __str__(self) -> str:
        name = self.account if self.symbol is None else f"{self.account}/{self.symbol}"
        return f"set the interval of {name} to {self.interval_s:g} s"


@across_versions
@dataclass(frozen=True, slots=True)
class Apply:
    """Make the running configuration this one. ``source`` is where it was read from."""

    configuration: Configuration
    source: str

    def __str__(self) -> str:
        return f"apply {self.source}"


Change = AddAccount | RemoveAccount | AddInstrument | RemoveInstrument | SetInterval | Apply


def changed(
    configuration: Configuration,
    change: Change,
    marks: SecretFingerprints | None = None,
    new_marks: SecretFingerprints | None = None,
) -> Configuration:
    """The configuration after the change. Raises :class:`ChangeRefused`."""
    match change:
        case AddAccount(account):
            return _with_account(configuration, account, str(change))
        case RemoveAccount(name):
            _account(configuration, name, str(change))
            kept = tuple(account for account in configuration.accounts if account.name != name)
            if not kept:
                raise ChangeRefused(str(change), "it is the only account", "Stop the supervisor instead.")
            return configuration.model_copy(update={"accounts": kept})
        case AddInstrument(name, instrument):
            return _with_instrument(configuration, name, instrument, str(change))
        case RemoveInstrument(name, symbol):
            return _without_instrument(configuration, name, symbol, str(change))
        case SetInterval(name, symbol, interval_s):
            return _with_interval(configuration, name, symbol, interval_s, str(change))
        case Apply(new):
            _refuse_what_is_fixed(configuration, new, str(change), marks or {}, new_marks or {})
            return new


def _account(configuration: Configuration, name: str, attempted: str) -> AnyAccount:
    try:
        return configuration.account(name)
    except LookupError as error:
        raise ChangeRefused(attempted, str(error), "Choose one of these.") from None


def _with(configuration: Configuration, account: AnyAccount) -> Configuration:
    others = {one.name: one for one in configuration.accounts}
    return configuration.model_copy(update={"accounts": tuple((others | {account.name: account}).values())})


def _with_account(configuration: Configuration, account: AnyAccount, attempted: str) -> Configuration:
    there = next((one for one in configuration.accounts if one.name == account.name), None)
    if there is not None and said_by(there) != said_by(account):
        raise ChangeRefused(
            attempted,
            f"account {account.name} exists already with other settings",
            "Give it another name, remove that one first, or change it with apply.",
        )
    return _with(configuration, account)


def _listed(account: AnyAccount, attempted: str) -> tuple[Instrument, ...]:
    if account.instruments is None:
        raise ChangeRefused(
            attempted,
            f"account {account.name} takes all its instruments and lists none",
            "Set it for the account, or list its instruments in the configuration and apply that.",
        )
    return account.instruments


def _with_instrument(configuration: Configuration, name: str, instrument: Instrument, attempted: str) -> Configuration:
    account = _account(configuration, name, attempted)
    listed = _listed(account, attempted)
    there = next((one for one in listed if one.symbol == instrument.symbol), None)
    if there is not None:
        if said_by(there) == said_by(instrument):
            return configuration
        found = f"account {name} has it already with other settings"
        raise ChangeRefused(attempted, found, "Change them with apply, or its interval with set_interval.")
    if instrument.symbol in account.ignore_instruments:
        found = f"it is in ignore_instruments of account {name}"
        raise ChangeRefused(attempted, found, "Remove it there, and apply that configuration.")
    return _with(configuration, account.model_copy(update={"instruments": (*listed, instrument)}))


def _entry(account: AnyAccount, symbol: str, attempted: str) -> Instrument:
    for one in _listed(account, attempted):
        if one.symbol == symbol:
            return one
    found = f"account {account.name} has no instrument {symbol!r}. It has {', '.join(account.symbols)}"
    raise ChangeRefused(attempted, found, "Choose one of these.")


def _without_instrument(configuration: Configuration, name: str, symbol: str, attempted: str) -> Configuration:
    account = _account(configuration, name, attempted)
    gone = _entry(account, symbol, attempted)
    kept = tuple(one for one in account.instruments or () if one is not gone)
    if not kept:
        found = f"it is the only instrument of account {name}"
        raise ChangeRefused(attempted, found, f"Remove the account instead: remove_account({name!r}).")
    update: dict[str, object] = {"instruments": kept}
    prices = getattr(account, "prices", {})
    if symbol in prices:
        update["prices"] = {one: market for one, market in prices.items() if one != symbol}
    return _with(configuration, account.model_copy(update=update))


def _with_interval(
    configuration: Configuration, name: str, symbol: str | None, interval_s: float, attempted: str
) -> Configuration:
    account = _account(configuration, name, attempted)
    if symbol is None:
        return _with(configuration, account.model_copy(update={"interval_s": interval_s}))
    old = _entry(account, symbol, attempted)
    new = old.model_copy(update={"interval_s": interval_s})
    entries = tuple(new if one is old else one for one in account.instruments or ())
    return _with(configuration, account.model_copy(update={"instruments": entries}))


def _refuse_what_is_fixed(
    old: Configuration, new: Configuration, attempted: str, old_marks: SecretFingerprints, new_marks: SecretFingerprints
) -> None:
    found = []
    for section in FIXED:
        was, becomes = all_of(getattr(old, section)), all_of(getattr(new, section))
        found += [f"{section}.{one}" for one in key_changes(was, becomes, section, old_marks, new_marks)]
    if found:
        beside = ""
        if any(one.startswith("console.") for one in found):
            beside = " The page also runs by itself, beside a supervisor: python -m supervisor console --port PORT."
        raise ChangeRefused(
            attempted,
            f"this cannot be changed while a supervisor runs: {'; '.join(found)}",
            f"Leave it as it is, or stop the supervisor and start this configuration.{beside}",
        )
