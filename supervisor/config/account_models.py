"""The accounts of a configuration: the keys common to every broker, and those of each broker."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, StrictBool, field_validator, model_validator

from brokers.paper.prices import Market
from brokers.spec import SecretRef, Setting
from supervisor.config.errors import expected
from supervisor.config.instrument_models import Defaults, Instrument, Mode
from supervisor.config.values import (
    AccountId,
    ActorName,
    ColumnName,
    Host,
    HttpUrl,
    Model,
    Port,
    Price,
    Raw,
    Seconds,
    Secret,
    SocketUrl,
    Spread,
    Step,
    Symbol,
    TimeZone,
    ZmqEndpoint,
    whole,
)
from supervisor.config.yaml_source import Number

BrokerName = Literal["oanda", "kite", "ib", "mt5", "paper"]

_INDEXES: dict[str, list[tuple[tuple[Instrument, ...], Mapping[str, Instrument]]]] = {}
_INDEXES_KEPT = 2
"""The keys of an account that hold what runs and what it is compared with: each as large as all instruments."""


def _by_symbol(account: str, instruments: tuple[Instrument, ...]) -> Mapping[str, Instrument]:
    """Cached by the tuple and not in the account, whose copies would carry the cache along."""
    known = _INDEXES.setdefault(account, [])
    for kept, index in known:
        if kept is instruments:
            return index
    made = {instrument.symbol: instrument for instrument in reversed(instruments)}
    known.insert(0, (instruments, made))
    del known[_INDEXES_KEPT:]
    return made


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
"""What delta-rs needs for an object store. A whole ``${NAME}`` is a reference, resolved where it is used."""


def _texts(value: Raw) -> Raw:
    values = value if isinstance(value, list | tuple) else (value,)
    found = tuple(one.text if isinstance(one, Number) else one for one in values)
    if found and all(isinstance(one, str) and one for one in found):
        return found
    raise expected("a text, or a list of texts")


class BookColumns(Model):
    """The column names of a book's table: either ``symbol`` (the configured instrument) or ``con_id`` (the broker's
    permanent id of it), ``quantity`` (signed) and ``time`` (of the row; the newest row counts), and those of the others
    that the table has. ``order`` decides which of two rows with the same time is later."""

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
            raise expected("either symbol or con_id, the column that names the contract")
        return self


class DeltaBook(Model):
    """A book that another system keeps in a Delta table: its newest rows are our side of every position comparison.
    ``where`` are columns with the texts that select rows. The book is stale when its newest row or version is older
    than ``max_age_s`` (``None``: never). With ``writable``, corrections are appended to it."""

    delta: str = Field(description="the table: a path, s3://…", min_length=1)
    columns: BookColumns = Field(description="the names of its columns")
    where: dict[ColumnName, Annotated[tuple[str, ...], BeforeValidator(_texts)]] = Field(default_factory=dict)
    writable: StrictBool = False
    max_age_s: Seconds | None = None
    storage_options: StoreOptions = Field(default_factory=dict)


class DeltaSink(Model):
    """A Delta table that receives the position updates of the journal."""

    delta: str = Field(description="the table: a path, s3://…", min_length=1)
    storage_options: StoreOptions = Field(default_factory=dict)


class Account(Defaults):
    """The keys common to the accounts of every broker. ``instruments`` is ``None`` for ``all``.
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
        """The configured symbols; none where the account manages all its instruments."""
        return tuple(instrument.symbol for instrument in self.instruments or ())

    @property
    def by_symbol(self) -> Mapping[str, Instrument]:
        """The configured instruments by symbol; none where the account manages all its instruments."""
        return _by_symbol(self.name, self.instruments or ())

    def settings(self) -> dict[str, Setting]:
        """The broker's own keys, without secrets; without a real broker's endpoint where the broker is simulated."""
        return {k: None if self.simulator and k in self.endpoint_keys else getattr(self, k) for k in self.plain_keys}

    def secrets(self) -> dict[str, SecretRef]:
        """The references to the broker's secrets."""
        return {key: getattr(self, key) for key in self.secret_keys}


class OandaAccount(Account):
    """An OANDA v20 account. ``rest_url`` and ``stream_url`` are the hosts, without ``/v3``; ``None`` takes those of
    ``environment``."""

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
    """A Zerodha Kite account. The access token expires every morning at six, Indian time."""

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
    """An account at Interactive Brokers behind TWS or its gateway. ``sec_types`` of ``None`` are all types.
    ``timezone`` is that in which TWS shows times, where TWS does not name it itself."""

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
    """An MT5 terminal behind a ZeroMQ gateway. A ``login`` of ``None`` accepts whichever the gateway is logged in to.
    ``curve_key`` and ``curve_server_key`` are certificate files, for a gateway that requires keys: our secret key and
    the gateway's public key; they work only together. A gateway on another machine without them causes a warning,
    unless ``insecure`` declares its network as trusted."""

    broker: Literal["mt5"]
    endpoint: ZmqEndpoint = "tcp://127.0.0.1:5555"
    events_endpoint: ZmqEndpoint | None = None
    login: Annotated[int, whole("the login: a whole number", 1, 10**18 - 1)] | None = None
    curve_key: str | None = None
    curve_server_key: str | None = None
    insecure: StrictBool = False

    plain_keys = ("endpoint", "events_endpoint", "login", "curve_key", "curve_server_key")
    endpoint_keys = frozenset({"endpoint", "events_endpoint"})


class PaperMarket(Model):
    """How one symbol trades at the venue of a paper account (see :class:`brokers.paper.prices.Market`); without
    ``start`` its prices are fed."""

    start: Price | None = None
    tick: Price | None = None
    spread: Spread = Decimal(0)
    seed: Annotated[int, whole("a whole number, 0 or more", 0, 10**18 - 1)] | None = None
    step_s: Step = 1.0
    slippage: Spread = Decimal(0)
    liquidity: Price | None = None


class PaperAccount(Account):
    """An account at a venue of our own, embedded in its actor. ``prices`` define how its symbols trade; symbols without
    an entry have no price before one is fed. A fed price older than ``stale_price_s`` executes nothing (``None``: any
    age is accepted)."""

    broker: Literal["paper"]
    mode: Mode = "paper"
    prices: dict[Symbol, PaperMarket] = Field(default_factory=dict)
    stale_price_s: Seconds | None = 60.0

    plain_keys = ("stale_price_s",)

    @property
    def markets(self) -> tuple[Market, ...]:
        """How its symbols trade, in the venue's form."""
        return tuple(Market(symbol=symbol, **dict(given)) for symbol, given in self.prices.items())


AnyAccount = Annotated[
    OandaAccount | KiteAccount | IbAccount | Mt5Account | PaperAccount, Field(discriminator="broker")
]
