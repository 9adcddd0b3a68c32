"""``accounts.yaml`` as checked, typed models. The parts are in ``*_models``.

* A configuration is read as a whole or not at all: :func:`load` raises one :class:`ConfigurationError` with every
  problem.
* Exact numbers come from their text, never from a float.
* A secret is held as a reference to its place. No repr, JSON or error of anything here contains one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from actors.book.break_work import REASON_CODES
from actors.instrument.settings import InstrumentSettings
from actors.runtime.nodes import EVERYWHERE, Place, place_of
from brokers.registry import PAPER
from brokers.spec import BrokerSpec
from supervisor.config.account_models import Account, AnyAccount, DeltaSink, Mt5Account, PaperAccount, PaperMarket
from supervisor.config.alert_models import AlertsSettings
from supervisor.config.errors import ConfigurationError, Problem, expected
from supervisor.config.instrument_models import NULL_COUNTS, Applying, Defaults, Instrument, merged
from supervisor.config.journal_models import SQLITE, JournalSettings, LogSettings
from supervisor.config.values import (
    ActorName,
    Backoff,
    FilePath,
    Host,
    HttpUrl,
    Model,
    Port,
    Raw,
    RayAddress,
    Seconds,
    text,
    whole,
)

__all__ = [
    "NULL_COUNTS", "SUPPORTED_BROKERS", "Account", "AnyAccount", "Configuration", "ConfigurationError", "DeltaSink",
    "Instrument", "LogSettings", "Mt5Account", "PaperAccount", "PaperMarket", "Problem", "is_loopback",
]  # fmt: skip

SUPPORTED_BROKERS = frozenset({"oanda", "mt5", "kite", "ib", "paper"})
"""The brokers that this version can open. Accounts of others are read and checked, and cannot be started."""

CYCLE_MARGIN_S = 5.0
"""How much longer than one broker call a cycle may take: the journal, the decision, and the calls between actors."""

_TIMEOUT_MS: Mapping[str, float] = {"mt5": 5000}
_OTHER_TIMEOUT_MS = 10000.0


class RaySettings(Model):
    """The Ray cluster, and the namespace of our actors in it. ``require_auth`` refuses an existing cluster that admits
    everybody: whoever reaches it can run code in it."""

    address: RayAddress = "local"
    namespace: ActorName = "reconciliation"
    require_auth: bool = True


class SupervisionSettings(Model):
    """More than ``intensity`` restarts of one actor within ``period_s`` quarantine it; ``backoff_s`` are the smallest
    and the largest delay before a restart after the first."""

    intensity: Annotated[int, whole("a whole number, 0 to 1000", 0, 1000)] = 5
    period_s: Seconds = 60.0
    backoff_s: Backoff = (0.5, 30.0)


ReasonCode = Annotated[str, text("a code of capitals, digits and _, such as PRIME_BROKER", r"[A-Z][A-Z0-9_]{1,39}")]


class BreaksSettings(Model):
    """Settings for the work on all breaks. ``reason_codes`` are added to the fixed ones."""

    reason_codes: tuple[ReasonCode, ...] = ()

    @property
    def all_reason_codes(self) -> tuple[str, ...]:
        """The fixed reason codes, and those that this configuration adds."""
        return tuple(dict.fromkeys((*REASON_CODES, *self.reason_codes)))


class ConsoleSettings(Model):
    """The page for operators: where it listens (``port``, ``None``: ``start`` serves none; ``host``), the file of the
    people who may sign in (``tokens``, absolute; ``None``: beside the journal), and the address under which a proxy
    with TLS serves it (``url``), which a host beyond loopback requires."""

    port: Port | None = None
    host: Host = "127.0.0.1"
    tokens: FilePath = None
    url: HttpUrl | None = None

    @field_validator("url", mode="after")
    @classmethod
    def _bare_url(cls, value: str | None) -> str | None:
        """In a browser's form: without the protocol's usual port."""
        if value is None:
            return None
        bare = value.rstrip("/").lower()
        return bare.removesuffix(":443" if bare.startswith("https:") else ":80")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not is_loopback(self.host) and self.url is None:
            raise expected(
                "127.0.0.1, or the URL of a TLS proxy in front of it: traffic on the network would be unencrypted"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether a host of that name or address is reachable from this machine only."""
    return host in ("localhost", "[::1]", "::1") or host.startswith("127.")


def _some_accounts(value: Raw) -> Raw:
    if isinstance(value, list | tuple) and value:
        return value
    raise expected("a list of at least one account")


class Configuration(Model):
    """A complete, checked configuration. It pickles, and holds no secret."""

    ray: RaySettings = RaySettings()
    journal: JournalSettings = Field(default_factory=JournalSettings)
    defaults: Defaults = Defaults()
    supervision: SupervisionSettings = SupervisionSettings()
    breaks: BreaksSettings = BreaksSettings()
    log: LogSettings = LogSettings()
    sinks: tuple[DeltaSink, ...] = ()
    alerts: AlertsSettings = AlertsSettings()
    console: ConsoleSettings = ConsoleSettings()
    accounts: Annotated[tuple[AnyAccount, ...], BeforeValidator(_some_accounts)] = Field(
        description="a list of at least one account"
    )

    @property
    def enabled_accounts(self) -> tuple[AnyAccount, ...]:
        """The accounts that should run."""
        return tuple(account for account in self.accounts if account.enabled)

    @property
    def journal_url(self) -> str:
        """The journal's URL, with its password if it has one: pass it to the journal only, and show
        :attr:`journal_name` instead. Raises ``Refused`` where a PostgreSQL URL can no longer be resolved."""
        url = self.journal.url
        return url if isinstance(url, str) else url.resolve()

    @property
    def journal_name(self) -> str:
        """The journal's name for display, without a password."""
        return str(self.journal.url)

    @property
    def state_dir(self) -> Path:
        """The absolute directory of the files beside the journal: that of its SQLite file, else ``state_dir``."""
        url = self.journal.url
        if isinstance(url, str):
            return Path(url.removeprefix(SQLITE)).parent
        return Path(self.journal.state_dir or "var").absolute()

    @property
    def journal_file(self) -> str:
        """The common name of the files beside the journal."""
        url = self.journal.url
        return Path(url.removeprefix(SQLITE)).name if isinstance(url, str) else "journal"

    @property
    def beside_journal(self) -> Path:
        """The path of which the files beside the journal are named: its own file, where it is one."""
        return self.state_dir / self.journal_file

    @property
    def signing_key(self) -> str:
        """The key that signs the journal's heads: a path, or ``keyring:SERVICE/NAME``."""
        return self.journal.key or str(self.state_dir / f"{self.journal_file}.key")

    @property
    def public_keys(self) -> str:
        """The file that lists the public keys of the journal's heads."""
        return str(self.state_dir / f"{self.journal_file}.pub")

    @property
    def kept_slices(self) -> str:
        """The file that keeps the grounds of decisions, if they are kept."""
        return str(self.state_dir / f"{self.journal_file}.slices")

    @property
    def console_tokens(self) -> str:
        """The file of the people who may sign in to the page."""
        return self.console.tokens or str(self.state_dir / f"{self.journal_file}.tokens")

    def account(self, name: str) -> AnyAccount:
        """The account of that name; raises a ``LookupError`` that lists the known ones."""
        for account in self.accounts:
            if account.name == name:
                return account
        known = ", ".join(account.name for account in self.accounts)
        raise LookupError(f"there is no account {name!r} in the configuration, which has {known}")

    def timeout_s(self, account: str) -> float:
        """The bound of one call to the account's broker."""
        found = self.account(account)
        for given in (found.timeout_ms, self.defaults.timeout_ms):
            if given is not None:
                return given / 1000
        return _TIMEOUT_MS.get(found.broker, _OTHER_TIMEOUT_MS) / 1000

    def instruments_per_actor(self, account: str) -> int | Literal["auto"]:
        """How many instruments of an account may share an actor's process; 1 by default."""
        given = (self.account(account).instruments_per_actor, self.defaults.instruments_per_actor)
        return next((one for one in given if one is not None), 1)

    @property
    def several_nodes(self) -> bool:
        """Whether the cluster may have several machines: one that exists without us may."""
        return self.ray.address != "local"

    def place(self, account: str) -> Place:
        """The nodes for an account's actor, and for its instruments unless they are spread. A cluster of our own is one
        machine."""
        given = (self.account(account).place, self.defaults.place)
        found = next((one for one in given if one is not None), None)
        return place_of(found) if self.several_nodes else EVERYWHERE

    @property
    def journal_place(self) -> Place:
        """The nodes for everything that reads the journal's file or the files beside it."""
        return place_of(self.journal.place) if self.several_nodes else EVERYWHERE

    def is_spread(self, account: str) -> bool:
        """Whether an account's instruments may run on other nodes than it does."""
        given = (self.account(account).spread, self.defaults.spread)
        return self.several_nodes and next((one for one in given if one is not None), False)

    def broker_spec(self, account: str) -> BrokerSpec:
        """The arguments with which the account's actor opens its adapter."""
        found = self.account(account)
        settings = found.settings()
        if found.broker == "kite":
            holdings = found.include_holdings
            settings["include_holdings"] = bool(self.defaults.include_holdings if holdings is None else holdings)
        return BrokerSpec(
            account=found.name,
            broker=found.broker,
            timeout_s=self.timeout_s(account),
            settings=settings,
            secrets=found.secrets(),
            simulated=found.simulator,
            instruments=found.symbols,
            state_dir=str(self.state_dir),
            journal=self.journal_file,
            markets=found.markets if isinstance(found, PaperAccount) else (),
        )

    def instrument_settings(self, account: str, symbol: str) -> InstrumentSettings:
        """What applies to an instrument. One that the configuration does not name (``all`` discovers such) has the
        settings of its account."""
        found, applying = self.account(account), self._applying(account, symbol)
        return InstrumentSettings(
            account,
            symbol,
            applying.interval_s,
            self.timeout_s(account) + CYCLE_MARGIN_S,
            applying.policy(),
            venue=found.broker == PAPER,
            keep_slices=self.journal.keep_slices,
            writable_table=found.book is not None and found.book.writable,
        )

    def instrument_keys(self, account: str, symbol: str) -> dict[str, Any]:
        """The same under the configuration's key names, with every default filled in; times are in seconds, under names
        that end in ``_s``."""
        return self._applying(account, symbol).document()

    def _applying(self, account: str, symbol: str) -> Applying:
        found = self.account(account)
        named = found.by_symbol.get(symbol)
        levels = (found, self.defaults) if named is None else (named, found, self.defaults)
        return Applying(merged(*levels), found.broker, found.mode)
