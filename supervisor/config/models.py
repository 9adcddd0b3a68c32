"""``accounts.yaml`` as checked, typed models.

* A configuration is read whole or not at all: :func:`load` raises one :class:`ConfigurationError` with every problem.
* Exact numbers come from their text, never by way of a float.
* A secret is held as the reference to where it is found. No repr, JSON or error of anything here contains one.
* What applies to an instrument is decided here once: instrument before account before defaults before broker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    field_validator,
    model_validator,
)

from actors.book.break_work import REASON_CODES
from actors.journal.token_key import PKCS11, TokenUri
from brokers.paper.prices import Market
from brokers.spec import BrokerSpec, SecretRef, Setting
from supervisor.config.alert_models import AlertsSettings
from supervisor.config.errors import ConfigurationError, Problem, expected
from supervisor.config.values import (
    AccountId,
    ActorName,
    Backoff,
    ColumnName,
    Fraction,
    Host,
    HttpUrl,
    Interval,
    Milliseconds,
    PerActor,
    Port,
    Price,
    Quantity,
    Raw,
    RayAddress,
    Seconds,
    Secret,
    SocketUrl,
    Spread,
    Step,
    Symbol,
    Timeout,
    TimeZone,
    ZmqEndpoint,
    duration,
    text,
    whole,
)
from supervisor.config.yaml_source import Number

__all__ = ["SUPPORTED_BROKERS", "Configuration", "ConfigurationError", "InstrumentSettings", "Problem"]

SUPPORTED_BROKERS = frozenset({"oanda", "mt5", "kite", "ib", "paper"})
"""The brokers that this version can open. The others are read and checked, and their accounts cannot be started."""

T = TypeVar("T")
BrokerName = Literal["oanda", "kite", "ib", "mt5", "paper"]
Mode = Literal["live", "paper"]
Correct = Literal["auto", "alert"]
BreakType = Literal[
    "MISSING_LOCALLY", "NAKED_POSITION", "POSITION_MISMATCH", "ORDER_STATUS_MISMATCH", "MISSED_FILL", "ORDER_MISSING",
    "FILLED_MISMATCH", "EXTERNAL_ORDER", "ORDER_REJECTED", "DUPLICATE_ORDER", "OVERFILL",
    "OPPOSITE_LEGS",
]  # fmt: skip
HaltingType = Literal[
    "MISSING_LOCALLY", "NAKED_POSITION", "POSITION_MISMATCH", "PRICE_MISMATCH", "STALE_DATA", "ORDER_STATUS_MISMATCH",
    "MISSED_FILL", "ORDER_MISSING", "FILLED_MISMATCH", "EXTERNAL_ORDER", "STALE_ORDER", "ORDER_REJECTED",
    "MALFORMED_DATA", "DUPLICATE_ORDER", "OVERFILL", "OPPOSITE_LEGS", "UNPROTECTED", "OVERSIZED_ORDER",
]  # fmt: skip
SeverityName = Literal["INFO", "WARNING", "CRITICAL"]

_INTERVAL_S: Mapping[str, float] = {"oanda": 300, "kite": 2, "ib": 300, "mt5": 15, "paper": 5}
_KITE_PAPER_INTERVAL_S = 5.0
_TIMEOUT_MS: Mapping[str, float] = {"mt5": 5000}
_OTHER_TIMEOUT_MS = 10000.0
# IB's average cost contains commissions, so it differs a little from the average of the fills.
_PRICE_TOLERANCE: Mapping[str, Decimal] = {"ib": Decimal("0.002")}
_OTHER_PRICE_TOLERANCE = Decimal("0.00001")
_LEAST_UNVERIFIED_S = 60.0
# With an interval of 0 (always at once) three intervals are nothing, and every snapshot would be stale.
_LEAST_MAX_AGE_S = 1.0
# Keys for which null is a value of its own ("no limit") and not the same as being left out.
NULL_COUNTS = frozenset({"max_correction", "stale_order_s", "protection"})


@dataclass(frozen=True, slots=True)
class InstrumentSettings:
    """What applies to one instrument, with every default filled in. Units: seconds, a fraction of the price for
    ``price_tolerance``, the leg's own units for ``quantity_tolerance`` and ``max_correction``."""

    symbol: str
    interval_s: float
    correct: Correct
    confirmations: int
    confirm_gap_s: float
    settle_s: float
    quantity_tolerance: Decimal
    price_tolerance: Decimal
    max_correction: Decimal | None
    stale_order_s: float | None
    cancel_stale_orders: bool
    max_age_s: float
    unverified_s: float
    mode: Mode
    may_stand: tuple[str, ...] = ()
    halt_on: tuple[str, ...] = ()
    halt_after_s: Mapping[str, float] = field(default_factory=dict)
    four_eyes: bool = False
    protection: str | None = None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Overrides(_Model):
    """What may be said for all, for an account or for one instrument; ``None`` is said by nobody here."""

    correct: Correct | None = None
    confirmations: Annotated[int, whole("a whole number from 1 to 100", 1, 100)] | None = None
    confirm_gap_ms: Milliseconds | None = None
    settle_ms: Milliseconds | None = None
    quantity_tolerance: Quantity | None = None
    price_tolerance: Fraction | None = None
    max_correction: Quantity | None = None
    stale_order_s: Seconds | None = None
    cancel_stale_orders: StrictBool | None = None
    max_age_s: Seconds | None = None
    unverified_s: Seconds | None = None
    may_stand: tuple[BreakType, ...] | None = None
    protection: Literal["INFO", "WARNING"] | None = None
    halt_on: tuple[HaltingType, ...] | None = None
    halt_after_s: dict[SeverityName, Seconds] | None = None
    four_eyes: StrictBool | None = None
    interval_s: Interval | None = None


class Defaults(Overrides):
    """What may be said for all or for an account."""

    timeout_ms: Timeout | None = None
    include_holdings: StrictBool | None = None
    instruments_per_actor: PerActor | None = None


class Instrument(Overrides):
    """One instrument of an account, by its symbol alone or with settings of its own."""

    symbol: Symbol = Field(description="the instrument's symbol at the broker")

    @model_validator(mode="before")
    @classmethod
    def _symbol_alone(cls, value: Raw) -> Raw:
        if isinstance(value, list):
            raise expected("a symbol, or a mapping with symbol")
        return {"symbol": value} if isinstance(value, str | Number | bool | None) else value


_INDEXES: dict[int, tuple[tuple[Instrument, ...], Mapping[str, Instrument]]] = {}
_INDEXES_KEPT = 256


def _by_symbol(instruments: tuple[Instrument, ...]) -> Mapping[str, Instrument]:
    """Kept for each tuple and not in its account, whose copies take along all that is kept in it."""
    kept, index = _INDEXES.get(id(instruments), (None, {}))
    if kept is not instruments:
        if len(_INDEXES) >= _INDEXES_KEPT:
            _INDEXES.clear()
        index = {instrument.symbol: instrument for instrument in reversed(instruments)}
        _INDEXES[id(instruments)] = instruments, index
    return index


def _instruments(value: Raw) -> Raw:
    if value == "all":
        return None
    if isinstance(value, list | tuple) and value:
        return value
    raise expected("all, or a list of at least one symbol")


def _option(value: Raw) -> Raw:
    if isinstance(value, SecretRef | str):
        return value
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool):
        return str(value).lower()
    raise expected("text, or ${NAME} from the environment")


StoreOptions = dict[str, Annotated[str | SecretRef, BeforeValidator(_option), PlainSerializer(str, return_type=str)]]
"""What delta-rs needs to know of an object store. A whole ``${NAME}`` is a reference, resolved where it is used."""


def _texts(value: Raw) -> Raw:
    values = value if isinstance(value, list | tuple) else (value,)
    found = tuple(one.text if isinstance(one, Number) else one for one in values)
    if found and all(isinstance(one, str) and one for one in found):
        return found
    raise expected("a text, or a list of texts")


class BookColumns(_Model):
    """What the columns of a book's table are called: either ``symbol`` (the instrument as it is configured) or
    ``con_id`` (the broker's lasting id of it), ``quantity`` (signed) and ``time`` (of the row; the newest counts), and
    those of the others that there are. ``order`` tells which of two rows of one time came later."""

    symbol: ColumnName | None = None
    con_id: ColumnName | None = None
    quantity: ColumnName = Field(description="the column of the signed quantity")
    time: ColumnName = Field(description="the column of the row's time")
    average_price: ColumnName | None = None
    leg: ColumnName | None = None
    order: ColumnName | None = None
    source: ColumnName = "source"
    discrepancy: ColumnName = "discrepancy_id"

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.symbol is None) == (self.con_id is None):
            raise expected("either symbol or con_id, the column that tells the contract")
        return self


class DeltaBook(_Model):
    """A book that somebody else keeps in a Delta table: its newest rows are our side of every comparison of positions.
    ``where`` are columns and the texts that count in them. It is stale when its newest row or version is older than
    ``max_age_s`` (``None``: never). With ``writable`` what it lacks is appended to it."""

    delta: str = Field(description="the table: a path, s3://…", min_length=1)
    columns: BookColumns = Field(description="the names of its columns")
    where: dict[ColumnName, Annotated[tuple[str, ...], BeforeValidator(_texts)]] = Field(default_factory=dict)
    writable: StrictBool = False
    max_age_s: Seconds | None = None
    storage_options: StoreOptions = Field(default_factory=dict)


class DeltaSink(_Model):
    """A Delta table that gets the position updates of the journal."""

    delta: str = Field(description="the table: a path, s3://…", min_length=1)
    storage_options: StoreOptions = Field(default_factory=dict)


class Account(Defaults):
    """What the accounts of every broker have in common. ``instruments`` is ``None`` for ``all``.
    An instrument found by ``all`` is retired after it has been empty for ``retire_after_s`` (``None``: never)."""

    name: ActorName = Field(description="a name for the account")
    broker: BrokerName = Field(description="oanda, kite, ib, mt5 or paper")
    enabled: StrictBool = True
    simulator: StrictBool = False
    mode: Mode = "live"
    instruments: Annotated[tuple[Instrument, ...] | None, BeforeValidator(_instruments)] = Field(
        description="all, or a list of at least one symbol"
    )
    ignore_instruments: tuple[Symbol, ...] = ()
    book: DeltaBook | None = None
    retire_after_s: Seconds | None = 3600.0

    @field_validator("book", mode="before")
    @classmethod
    def _journal_is_none(cls, value: Raw) -> Raw:
        if value in (None, "journal"):
            return None
        if isinstance(value, dict | DeltaBook):
            return value
        raise expected("journal, or a mapping with delta and columns")

    @model_validator(mode="after")
    def _book_can_be_compared(self) -> Self:
        book = self.book
        if book is None:
            return self
        if self.mode == "paper":
            raise expected("mode: live where the book is a Delta table, as mode paper compares orders alone")
        if book.columns.leg is not None:
            return self
        if self.broker == "kite":
            raise expected("book.columns.leg, as the legs of a position at this broker are its products")
        if self.broker == "oanda" and book.writable:
            raise expected("book.columns.leg where it is writable, as this broker keeps a long and a short side")
        return self

    secret_keys: ClassVar[tuple[str, ...]] = ()
    plain_keys: ClassVar[tuple[str, ...]] = ()
    endpoint_keys: ClassVar[frozenset[str]] = frozenset()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The configured symbols; none where the account reconciles all it has."""
        return tuple(instrument.symbol for instrument in self.instruments or ())

    @property
    def by_symbol(self) -> Mapping[str, Instrument]:
        """The configured instruments by their symbols; none where the account reconciles all it has."""
        return _by_symbol(self.instruments or ())

    def settings(self) -> dict[str, Setting]:
        """The broker's own keys, without secrets; no endpoint of a real broker where it is simulated."""
        return {k: None if self.simulator and k in self.endpoint_keys else getattr(self, k) for k in self.plain_keys}

    def secrets(self) -> dict[str, SecretRef]:
        """Where the broker's secrets are found."""
        return {key: getattr(self, key) for key in self.secret_keys}


class OandaAccount(Account):
    """An OANDA v20 account. ``rest_url`` and ``stream_url`` are the hosts' parts, without ``/v3``; ``None`` leaves
    them to ``environment``."""

    broker: Literal["oanda"]
    account_id: AccountId = Field(description="the account id, such as 101-001-1234567-001")
    token: Secret = Field(description="the API token, best as ${NAME} from the environment")
    environment: Literal["practice", "live"] = "practice"
    rest_url: HttpUrl | None = None
    stream_url: HttpUrl | None = None

    secret_keys = ("token",)
    plain_keys = ("account_id", "environment", "rest_url", "stream_url")
    endpoint_keys = frozenset({"rest_url", "stream_url"})


class KiteAccount(Account):
    """A Zerodha Kite account. The access token dies every morning at six, Indian time."""

    broker: Literal["kite"]
    api_key: Secret = Field(description="the API key, best as ${NAME} from the environment")
    access_token: Secret = Field(description="today's access token, itself or as ${NAME} from the environment")
    user_id: AccountId | None = None
    rest_url: HttpUrl | None = None
    stream_url: SocketUrl | None = None

    secret_keys = ("api_key", "access_token")
    plain_keys = ("user_id", "rest_url", "stream_url")
    endpoint_keys = frozenset({"rest_url", "stream_url"})


SecType = Literal[
    "STK", "OPT", "FUT", "FOP", "CASH", "IND", "CFD", "BOND", "CMDTY", "FUND", "WAR", "BAG", "CRYPTO", "CONTFUT", "IOPT"
]


class IbAccount(Account):
    """An account at Interactive Brokers behind TWS or its gateway. ``sec_types`` of ``None`` are all.
    ``timezone`` is what TWS shows times in, where it does not say so itself."""

    broker: Literal["ib"]
    host: Host = "127.0.0.1"
    port: Port = Field(description="the port of TWS or its gateway, such as 4002")
    client_id: Annotated[int, whole("a whole number from 0 to 2147483647", 0, 2**31 - 1)] = Field(
        description="a client id that no other program uses"
    )
    account_id: AccountId = Field(description="the account id, such as DU1234567")
    sec_types: tuple[SecType, ...] | None = None
    timezone: TimeZone | None = None

    plain_keys = ("host", "port", "client_id", "account_id", "sec_types", "timezone")
    endpoint_keys = frozenset({"host", "port"})


class Mt5Account(Account):
    """An MT5 terminal behind a ZeroMQ gateway. ``login`` of ``None`` takes whichever the gateway is logged in to.
    ``curve_key`` and ``curve_server_key`` are certificate files, for a gateway that wants keys: our secret one, and the
    gateway's public one; only both together are used. A gateway beyond this machine that is spoken to without them is
    warned of, unless ``insecure`` says that its network is trusted."""

    broker: Literal["mt5"]
    endpoint: ZmqEndpoint = "tcp://127.0.0.1:5555"
    events_endpoint: ZmqEndpoint | None = None
    login: Annotated[int, whole("the login: a whole number", 1, 10**18 - 1)] | None = None
    curve_key: str | None = None
    curve_server_key: str | None = None
    insecure: StrictBool = False

    plain_keys = ("endpoint", "events_endpoint", "login", "curve_key", "curve_server_key")
    endpoint_keys = frozenset({"endpoint", "events_endpoint"})


class PaperMarket(_Model):
    """How one symbol trades at the venue of a paper account, as :class:`brokers.paper.prices.Market` tells; without
    ``start`` its prices are fed."""

    start: Price | None = None
    tick: Price | None = None
    spread: Spread = Decimal(0)
    seed: Annotated[int, whole("a whole number, 0 or more", 0, 10**18 - 1)] | None = None
    step_s: Step = 1.0
    slippage: Spread = Decimal(0)
    liquidity: Price | None = None


class PaperAccount(Account):
    """An account at a venue of our own, embedded in its actor. ``prices`` say how its symbols trade; one that is not
    there has no price before one is fed. A fed price older than ``stale_price_s`` executes nothing (``None``: any)."""

    broker: Literal["paper"]
    mode: Mode = "paper"
    prices: dict[Symbol, PaperMarket] = Field(default_factory=dict)
    stale_price_s: Seconds | None = 60.0

    plain_keys = ("stale_price_s",)

    @property
    def markets(self) -> tuple[Market, ...]:
        """How its symbols trade, as the venue takes it."""
        return tuple(Market(symbol=symbol, **dict(given)) for symbol, given in self.prices.items())


AnyAccount = Annotated[
    OandaAccount | KiteAccount | IbAccount | Mt5Account | PaperAccount, Field(discriminator="broker")
]


class RaySettings(_Model):
    """Which Ray cluster, and the namespace of our actors in it. ``require_auth`` refuses a cluster of somebody else's
    that lets in whoever reaches it: all who do can run code in it."""

    address: RayAddress = "local"
    namespace: ActorName = "reconciliation"
    require_auth: bool = True


def _timestamp_url(value: Raw) -> str:
    # The answer is signed and what is sent is a hash: plain http is usual and gives nothing away.
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s@]+", value):
        raise expected("http(s)://host[:port]/path")
    return value


SQLITE = "sqlite:///"
DEFAULT_JOURNAL_URL = "sqlite:///var/journal.db"
_JOURNAL_URL = "sqlite:///PATH of a file, or postgresql://…"


class LogSettings(_Model):
    """The log of ``start``. ``file``, absolute, gets it beside standard error (``None``: nowhere else); it is put aside
    when it is ``rotate_mb`` (of 10^6 bytes) long or a new period of ``rotate_h`` hours begins, and ``keep`` of those
    before are kept. ``format`` json is one JSON document a line, wherever no terminal reads it."""

    file: str | None = None
    format: Literal["text", "json"] = "text"
    rotate_mb: Annotated[
        float, duration("a number of megabytes from 0.01 to 10000", lambda n: 1 <= 100 * n <= 10**6)
    ] = 10.0
    rotate_h: Annotated[float, duration("a number of hours from 1 to 8784", lambda n: 1 <= n <= 8784)] = 24.0
    keep: Annotated[int, whole("a whole number from 0 to 10000", 0, 10_000)] = 14

    @field_validator("file", mode="before")
    @classmethod
    def _absolute_file(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected("the path of a file, or null")
        return os.path.abspath(os.path.expanduser(value))


class TimestampSettings(_Model):
    """A time-stamp server (RFC 3161) for one head an hour, and the PEM file of the roots that its answers lead to."""

    url: Annotated[str, BeforeValidator(_timestamp_url)]
    roots: str

    @field_validator("roots", mode="before")
    @classmethod
    def _absolute_roots(cls, value: Raw) -> str:
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected("the path of a PEM file with the roots of the time-stamp server")
        return os.path.abspath(os.path.expanduser(value))


class JournalSettings(_Model):
    """Where the journal is. An SQLite URL is absolute; a PostgreSQL one may hold a password and is a reference.

    ``head_file``, absolute, is where the end of the journal is noted from time to time (``None``: nowhere).
    ``state_dir``, absolute, is the directory of what lies beside a journal that is no file (the run file, the venues of
    paper accounts); a file's is its own.
    ``key`` signs the heads: a path, ``keyring:SERVICE/NAME`` or ``pkcs11:…`` (``None``: beside the journal). ``heads``
    are the places that get signed heads, as they are written: a ``${NAME}`` in them is put in where they are used.
    ``timestamp`` is who stamps them. ``keep_slices`` has what each decision rested on kept beside the journal.
    """

    url: str | SecretRef = Field(default=DEFAULT_JOURNAL_URL, validate_default=True)
    head_file: str | None = None
    state_dir: str | None = None
    key: str | None = None
    heads: tuple[str, ...] = ()
    timestamp: TimestampSettings | None = None
    keep_slices: bool = False

    @field_validator("url", mode="before")
    @classmethod
    def _absolute(cls, value: Raw) -> str | SecretRef:
        if isinstance(value, SecretRef):
            return value
        path = value.removeprefix(SQLITE) if isinstance(value, str) else ""
        if not path or path == value or path.startswith(":") or path.endswith("/") or "?" in path:
            raise expected(_JOURNAL_URL)
        return f"{SQLITE}{os.path.abspath(os.path.expanduser(path))}"

    @field_validator("state_dir", mode="before")
    @classmethod
    def _absolute_directory(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise expected("the path of a directory, or null")
        return os.path.abspath(os.path.expanduser(value))

    @field_validator("head_file", mode="before")
    @classmethod
    def _absolute_head_file(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected("the path of a file, or null")
        return os.path.abspath(os.path.expanduser(value))

    @field_validator("key", mode="before")
    @classmethod
    def _absolute_key(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected("the path of a file, keyring:SERVICE/NAME, pkcs11:…, or null")
        if value.startswith(PKCS11):
            try:
                TokenUri.parse(value)
            except ValueError as error:
                raise expected(str(error)) from None
            return value
        if value.startswith("keyring:"):
            return value
        return os.path.abspath(os.path.expanduser(value))

    @field_validator("heads", mode="before")
    @classmethod
    def _places(cls, value: Raw) -> tuple[str, ...]:
        wanted = "a list of paths of files, https:// (http:// on loopback only) and smtp(s)://host/?from=A&to=B"
        if not isinstance(value, list | tuple):
            raise expected(wanted)
        return tuple(_head_place(one, wanted) for one in value)


def _head_place(value: Raw, wanted: str) -> str:
    if not isinstance(value, str) or not value:
        raise expected(wanted)
    scheme, separator, rest = value.partition("://")
    if not separator:
        if value.endswith("/") or "${" in value:
            raise expected(wanted)
        return os.path.abspath(os.path.expanduser(value))
    loopback = re.match(r"([^@/]*@)?(127\.|localhost|\[::1\])", rest) is not None
    mail = scheme in {"smtp", "smtps"} and "from=" in rest and "to=" in rest
    if not (scheme == "https" or mail or (scheme == "http" and loopback)):
        raise expected(wanted)
    return value


class SupervisionSettings(_Model):
    """More than ``intensity`` restarts of one actor within ``period_s`` quarantine it; ``backoff_s`` are the smallest
    and the largest delay before a restart that is not the first."""

    intensity: Annotated[int, whole("a whole number, 0 to 1000", 0, 1000)] = 5
    period_s: Seconds = 60.0
    backoff_s: Backoff = (0.5, 30.0)


ReasonCode = Annotated[str, text("a code of capitals, digits and _, such as PRIME_BROKER", r"[A-Z][A-Z0-9_]{1,39}")]


class BreaksSettings(_Model):
    """What is common to the work on all breaks. ``reason_codes`` are those beside the fixed ones."""

    reason_codes: tuple[ReasonCode, ...] = ()

    @property
    def all_reason_codes(self) -> tuple[str, ...]:
        """The fixed ones, and those that this configuration adds."""
        return tuple(dict.fromkeys((*REASON_CODES, *self.reason_codes)))


class ConsoleSettings(_Model):
    """The page for operators: where it listens (``port``, ``None``: ``start`` shows none; ``host``), who may sign in
    (``tokens``, absolute, a file; ``None``: beside the journal), and the address under which a proxy with TLS shows it
    (``url``), which is what a host beyond loopback needs."""

    port: Port | None = None
    host: Host = "127.0.0.1"
    tokens: str | None = None
    url: HttpUrl | None = None

    @field_validator("tokens", mode="before")
    @classmethod
    def _absolute_tokens(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected("the path of a file, or null")
        return os.path.abspath(os.path.expanduser(value))

    @field_validator("url", mode="after")
    @classmethod
    def _bare_url(cls, value: str | None) -> str | None:
        """As a browser writes it: without the port that is usual."""
        if value is None:
            return None
        bare = value.rstrip("/").lower()
        return bare.removesuffix(":443" if bare.startswith("https:") else ":80")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not is_loopback(self.host) and self.url is None:
            raise expected(
                "127.0.0.1, or the url under which a proxy with TLS shows it: what goes over a network is in the clear"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host of that name or address."""
    return host in ("localhost", "[::1]", "::1") or host.startswith("127.")


def _some_accounts(value: Raw) -> Raw:
    if isinstance(value, list | tuple) and value:
        return value
    raise expected("a list of at least one account")


class Configuration(_Model):
    """A whole configuration that has been checked. Pickles, and holds no secret."""

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
        """The accounts that are to run."""
        return tuple(account for account in self.accounts if account.enabled)

    @property
    def journal_url(self) -> str:
        """The journal's URL, with its password where it has one: hand it on to the journal alone, and show
        :attr:`journal_name` instead. Raises ``Refused`` where a PostgreSQL URL can no longer be resolved."""
        url = self.journal.url
        return url if isinstance(url, str) else url.resolve()

    @property
    def journal_name(self) -> str:
        """The journal in words that may be shown."""
        return str(self.journal.url)

    @property
    def state_dir(self) -> Path:
        """The absolute directory for what lies beside the journal: that of its SQLite file, else ``state_dir``."""
        url = self.journal.url
        if isinstance(url, str):
            return Path(url.removeprefix(SQLITE)).parent
        return Path(self.journal.state_dir or "var").absolute()

    @property
    def journal_file(self) -> str:
        """The name that what lies beside the journal carries."""
        url = self.journal.url
        return Path(url.removeprefix(SQLITE)).name if isinstance(url, str) else "journal"

    @property
    def signing_key(self) -> str:
        """Where the key is that signs the journal's heads: a path, or ``keyring:SERVICE/NAME``."""
        return self.journal.key or str(self.state_dir / f"{self.journal_file}.key")

    @property
    def public_keys(self) -> str:
        """The file that lists the public keys of the journal's heads."""
        return str(self.state_dir / f"{self.journal_file}.pub")

    @property
    def kept_slices(self) -> str:
        """The file in which what decisions rested on is kept, where it is."""
        return str(self.state_dir / f"{self.journal_file}.slices")

    @property
    def console_tokens(self) -> str:
        """The file that says who may sign in to the page."""
        return self.console.tokens or str(self.state_dir / f"{self.journal_file}.tokens")

    def account(self, name: str) -> AnyAccount:
        """The account of that name; raises ``LookupError`` that lists those there are."""
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
        """How many instruments of an account may share an actor's process; 1 where nothing else is said."""
        given = (self.account(account).instruments_per_actor, self.defaults.instruments_per_actor)
        return next((one for one in given if one is not None), 1)

    def broker_spec(self, account: str) -> BrokerSpec:
        """What the account's actor opens its adapter with."""
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
        """What applies to an instrument. One that the configuration does not name, as ``all`` discovers them, has the
        settings of its account."""
        found = self.account(account)
        named = found.by_symbol.get(symbol)
        return _settled(symbol, found, (found, self.defaults) if named is None else (named, found, self.defaults))


def _settled(symbol: str, account: Account, levels: tuple[Overrides, ...]) -> InstrumentSettings:
    merged = _merged(levels)
    interval_s = _first(merged.interval_s, _default_interval_s(account))
    max_age_s = max(3 * interval_s, _LEAST_MAX_AGE_S)
    return InstrumentSettings(
        symbol=symbol,
        interval_s=interval_s,
        correct=merged.correct or "auto",
        confirmations=_first(merged.confirmations, 2),
        confirm_gap_s=_first(merged.confirm_gap_ms, 500.0) / 1000,
        settle_s=_first(merged.settle_ms, 5000.0) / 1000,
        quantity_tolerance=_first(merged.quantity_tolerance, Decimal(0)),
        price_tolerance=_first(merged.price_tolerance, _PRICE_TOLERANCE.get(account.broker, _OTHER_PRICE_TOLERANCE)),
        max_correction=merged.max_correction,
        stale_order_s=merged.stale_order_s,
        cancel_stale_orders=bool(merged.cancel_stale_orders),
        max_age_s=_first(merged.max_age_s, max_age_s),
        unverified_s=_first(merged.unverified_s, max(3 * interval_s, _LEAST_UNVERIFIED_S)),
        mode=account.mode,
        may_stand=merged.may_stand or (),
        halt_on=merged.halt_on or (),
        halt_after_s={str(name): after_s for name, after_s in (merged.halt_after_s or {}).items()},
        four_eyes=bool(merged.four_eyes),
        protection=merged.protection,
    )


def _merged(levels: tuple[Overrides, ...]) -> Overrides:
    """The first level that says something decides, key by key."""
    decided: dict[str, object] = {}
    for level in levels:
        for key in Overrides.model_fields.keys() & level.model_fields_set:
            value = getattr(level, key)
            if key not in decided and (value is not None or key in NULL_COUNTS):
                decided[key] = value
    return Overrides.model_construct(None, **decided)


def _first(given: T | None, default: T) -> T:
    return default if given is None else given


def _default_interval_s(account: Account) -> float:
    if account.broker == "kite" and account.mode == "paper":
        return _KITE_PAPER_INTERVAL_S
    return _INTERVAL_S[account.broker]
