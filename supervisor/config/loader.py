"""Turns a file into a checked configuration, and collects every problem on the way.

The environment is filled in before anything is checked, and references replace secrets before anything could show them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import cast

from pydantic import BaseModel, ValidationError

from actors.journal.token_key import PKCS11
from brokers.spec import SecretRef, SecretSource, reference
from supervisor.config.account_models import (
    Account,
    BookColumns,
    DeltaBook,
    DeltaSink,
    IbAccount,
    KiteAccount,
    Mt5Account,
    OandaAccount,
    PaperAccount,
    PaperMarket,
)
from supervisor.config.alert_models import LOOPBACK_URL
from supervisor.config.errors import SECRET_KEYS, ConfigurationError, Problem, Translator, at, dotted, from_findings
from supervisor.config.instrument_models import Instrument
from supervisor.config.journal_models import DEFAULT_JOURNAL_URL, SQLITE
from supervisor.config.models import Configuration
from supervisor.config.yaml_source import Data, Document, Number, Path, read, scalar

_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_OPENS_A_STORE = re.compile(r"(?i)secret|password|token|access_key|account_key|credential")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WITHOUT_BRACES = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_JOURNAL_URL: Path = ("journal", "url")
_HEADS: Path = ("journal", "heads")
_KEY: Path = ("journal", "key")
_MODELS: Mapping[str, type[Account]] = {
    "oanda": OandaAccount, "kite": KiteAccount, "ib": IbAccount, "mt5": Mt5Account, "paper": PaperAccount,
}  # fmt: skip
# What a simulated account need not set. Secrets are handled separately.
_SIMULATED: Mapping[str, Mapping[str, Data]] = {
    "oanda": {"account_id": "101-001-0000001-001"},
    "kite": {"user_id": "SIM001"},
    "ib": {"account_id": "DU0000001", "port": Number("4002"), "client_id": Number("17")},
    "mt5": {"login": Number("5001")},
}


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Configuration:
    """Read and check a configuration file.

    ``environ`` is the process's environment unless given. Relative paths in the file are taken from the file's own
    folder. Raises :class:`ConfigurationError`, which holds every problem.
    """
    file = os.fspath(path)
    environ = os.environ if environ is None else environ
    document = read(_text(file))
    problems = from_findings(document.findings, file)
    if document.data is None and not problems:
        problems = [Problem(file, 1, "", "an empty file", "a configuration with at least accounts")]
    if document.data is None:
        raise ConfigurationError(tuple(problems))
    loader = _Loader(file, document, environ, problems)
    configuration = loader.configuration()
    if problems or configuration is None:
        raise ConfigurationError(tuple(sorted(problems, key=lambda problem: problem.line)))
    return configuration


def load_place(path: str | os.PathLike[str], also: Collection[str] = ()) -> Configuration:
    """The place of a configuration's journal and cluster, and nothing of its accounts: for a program that only calls
    the supervisor and has none of the accounts' secrets. ``also`` names further sections to read. Raises
    :class:`ConfigurationError`."""
    file = os.fspath(path)
    document = read(_text(file))
    problems = from_findings(document.findings, file)
    if isinstance(document.data, dict):
        kept: dict[str, Data] = {key: document.data[key] for key in ("ray", "journal", *also) if key in document.data}
        if isinstance(kept.get("journal"), dict):
            # Only the process that signs heads sends them, and needs the variables in their places.
            kept["journal"] = {key: one for key, one in kept["journal"].items() if key != "heads"}  # type: ignore[union-attr]
        kept["accounts"] = [{"name": "none", "broker": "paper", "instruments": "all"}]
        document.data.clear()
        document.data.update(kept)
    elif not problems:
        problems = [Problem(file, 1, "", "no mapping", "a configuration with at least accounts")]
    configuration = None if problems else _Loader(file, document, os.environ, problems, signs=False).configuration()
    if problems or configuration is None:
        raise ConfigurationError(tuple(problems))
    return configuration


def check_data(data: Data, where: str, environ: Mapping[str, str]) -> Configuration:
    """As :func:`load`, for data that is in no file: its problems have no line numbers. Raises
    :class:`ConfigurationError`."""
    problems: list[Problem] = []
    loader = _Loader(where, Document(data, {(): 0}), environ, problems)
    configuration = loader.configuration()
    if problems or configuration is None:
        raise ConfigurationError(tuple(problems))
    return configuration


def _text(file: str) -> str:
    wanted = "a readable YAML file"
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except FileNotFoundError:
        found, line = "no such file", 0
    except IsADirectoryError:
        found, line = "a directory", 0
    except OSError as error:
        found, line = f"a file that cannot be read ({error.strerror})", 0
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            found, wanted = "bytes that are not UTF-8", "a text file in UTF-8"
            line = data.count(b"\n", 0, error.start) + 1
    raise ConfigurationError((Problem(file, line, "", found, wanted),)) from None


class _Loader:
    def __init__(
        self,
        file: str,
        document: Document,
        environ: Mapping[str, str],
        problems: list[Problem],
        *,
        signs: bool = True,
    ) -> None:
        self._file = file
        self._signs = signs
        self._document = document
        self._environ = environ
        self._problems = problems
        self._origins: dict[Path, str] = {}
        self._reported: set[Path] = {finding.path for finding in document.findings}

    def configuration(self) -> Configuration | None:
        """The configuration, or ``None`` after the reasons were added to the problems."""
        self._fill_in(self._document.data, ())
        self._journal()
        self._console()
        log = self._at(("log",))
        if isinstance(log, dict) and isinstance(log.get("file"), str) and log["file"]:
            log["file"] = self._from_here(str(log["file"]))
        for place, account in self._accounts():
            self._secrets(account)
            self._simulated(account)
            self._gateway(place, account)
            self._symbols(place, account)
            self._prices(place, account)
            self._tables((*place, "book"), [account.get("book")], account)
        root = self._document.data
        sinks = root.get("sinks") if isinstance(root, dict) else None
        self._tables(("sinks",), sinks if isinstance(sinks, list) else [], None)
        self._alert_routes()
        self._account_names()
        self._logins()
        return self._checked()

    def _checked(self) -> Configuration | None:
        try:
            return Configuration.model_validate(self._document.data)
        except ValidationError as error:
            translator = Translator(self._file, self._document, self._origins, self._known_keys, self._description)
            for detail in error.errors(include_url=False):
                path, problem = translator.problem(detail)
                if path not in self._reported:
                    self._problems.append(problem)
        return None

    def _problem(self, path: Path, found: str, expected: str) -> None:
        self._reported.add(path)
        self._problems.append(Problem(self._file, self._document.line_of(path), dotted(path), found, expected))

    def _accounts(self) -> Iterator[tuple[Path, dict[str, Data]]]:
        root = self._document.data
        accounts = root.get("accounts") if isinstance(root, dict) else None
        for place, account in enumerate(accounts if isinstance(accounts, list) else ()):
            if isinstance(account, dict):
                yield ("accounts", place), account

    # The environment

    def _fill_in(self, data: Data, path: Path) -> None:
        """Replace ``${NAME}`` by its value; what is or may contain a secret stays as written."""
        inner: list[tuple[str | int, Data]] = []
        if isinstance(data, dict | list):
            inner += data.items() if isinstance(data, dict) else enumerate(data)
        for key, value in inner:
            here: Path = (*path, key)
            if isinstance(value, str) and _WITHOUT_BRACES.fullmatch(value.strip()):
                self._problem(here, f"{value.strip()}, which is not a reference", f"${{{value.strip()[1:]}}}")
            elif isinstance(value, str) and "${" in value and here == _KEY and value.startswith(PKCS11):
                if self._signs:  # the PIN of its token is read where heads are signed; nothing else needs it
                    self._all_set(here, value)
            elif isinstance(value, str) and "${" in value:
                if self._all_set(here, value) and not _is_secret(here):
                    self._origins[here] = value
                    data[key] = _value_of(self._expanded(value))  # type: ignore[index]  # key is of data, whichever kind it is
            else:
                self._fill_in(value, here)

    def _all_set(self, path: Path, text: str) -> bool:
        before = len(self._problems)
        for name, closed in _REFERENCE.findall(text):
            if not closed or not _NAME.fullmatch(name):
                self._problem(path, "${ without the name of a variable and }", "${NAME}")
            elif name not in self._environ:
                if not self._unused(path):
                    self._problem(path, f"${{{name}}}, which is not set", f"environment variable {name}")
            elif not self._environ[name].strip():
                self._problem(path, f"${{{name}}}, which is set but empty", f"a value in environment variable {name}")
        return len(self._problems) == before

    def _unused(self, path: Path) -> bool:
        """Whether it is a secret of a disabled account: nothing will need it."""
        return _is_secret(path) and path[0] == "accounts" and self._at((*path[:2], "enabled")) is False

    def _expanded(self, text: str) -> str:
        return _REFERENCE.sub(lambda match: self._environ.get(match[1], match[0]), text)

    def _at(self, path: Path) -> Data:
        try:
            return at(self._document.data, path)
        except LookupError:
            return None

    # Secrets

    def _reference(self, account: str, key: str, written: str) -> SecretRef:
        found = reference(account, key, written, self._folder)
        return found or SecretRef(SecretSource.FILE, account, key, os.path.abspath(self._file))

    def _journal(self) -> None:
        root = self._document.data
        if isinstance(root, dict) and root.get("journal") is None:
            root["journal"] = {}
        found = self._at(("journal",))
        if not isinstance(found, dict):
            return
        section = cast("dict[str, object]", found)
        url = section.setdefault("url", DEFAULT_JOURNAL_URL)
        for key in ("head_file", "state_dir"):
            if isinstance(section.get(key), str) and section[key]:
                section[key] = self._from_here(str(section[key]))
        self._evidence(section)
        if not isinstance(url, str):
            return
        elsewhere = reference("", "url", url, self._folder)
        if elsewhere is not None and elsewhere.source is not SecretSource.ENVIRONMENT:
            section["url"] = elsewhere  # of PostgreSQL: what is a secret in a file's name?
            section.setdefault("state_dir", self._from_here("var"))
            return
        expanded = self._expanded(url)
        is_postgresql = re.match(r"postgresql(\+\w+)?://.", expanded) is not None
        self._origins.update({_JOURNAL_URL: url} if expanded != url else {})
        if is_postgresql:
            section["url"] = self._reference("", "url", url)
            section.setdefault("state_dir", self._from_here("var"))
            return
        path = expanded.removeprefix(SQLITE)
        plain = path != expanded and path and not path.startswith(":") and not path.endswith("/")
        section["url"] = f"{SQLITE}{self._from_here(path)}" if plain else expanded

    def _console(self) -> None:
        section = self._at(("console",))
        tokens = section.get("tokens") if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(tokens, str) and tokens:
            section["tokens"] = self._from_here(tokens)

    def _evidence(self, section: dict[str, object]) -> None:
        key, places, stamped = section.get("key"), section.get("heads"), section.get("timestamp")
        if isinstance(key, str) and key and not key.startswith(("keyring:", PKCS11)):
            section["key"] = self._from_here(key)
        if isinstance(places, list):
            section["heads"] = [
                self._from_here(place) if isinstance(place, str) and place and "://" not in place else place
                for place in places
            ]
        if isinstance(stamped, dict) and isinstance(stamped.get("roots"), str) and stamped["roots"]:
            stamped["roots"] = self._from_here(str(stamped["roots"]))

    def _from_here(self, path: str) -> str:
        """Make a relative path absolute: from the configuration's folder, whatever the working directory is; for data
        in no file, from the working directory."""
        ends = "/" if path.endswith("/") else ""
        return os.path.normpath(os.path.join(self._folder, os.path.expanduser(path))) + ends

    @property
    def _folder(self) -> str:
        return os.path.dirname(os.path.abspath(self._file)) if os.path.isfile(self._file) else os.getcwd()

    def _secrets(self, account: dict[str, Data]) -> None:
        name = account.get("name")
        owner = name.text if isinstance(name, Number) else str(name)
        section = cast("dict[str, object]", account)
        for key in SECRET_KEYS & account.keys():
            value = account[key]
            written = value.text if isinstance(value, Number) else value
            if isinstance(written, str) and written.strip():
                section[key] = self._reference(owner, key, written)

    def _tables(self, place: Path, tables: list[Data], account: dict[str, Data] | None) -> None:
        """Make the tables' paths absolute from the configuration's folder, and hide what opens their stores."""
        owner = "sinks" if account is None else _text_of(account.get("name"))
        seen: set[str] = set()
        for index, table in enumerate(tables):
            if not isinstance(table, dict):
                continue
            uri = table.get("delta")
            if isinstance(uri, str) and uri and "://" not in uri:
                table["delta"] = self._from_here(uri)
            uri = _text_of(table.get("delta"))
            if uri in seen:
                self._problem((*place, index, "delta"), f"{uri!r} a second time", "each table once")
            seen.add(uri)
            options = table.get("storage_options")
            for key, value in options.items() if isinstance(options, dict) else ():
                written = value if isinstance(value, str) else ""
                here: Path = place if account is not None else (*place, index)
                if str(key).lower().endswith("allow_invalid_certificates") and str(value).lower() != "false":
                    found, wanted = "certificates that nobody vouches for", "no such option: they are always verified"
                    self._problem((*here, "storage_options", key), found, wanted)
                opens = _OPENS_A_STORE.search(str(key)) is not None
                ref = reference(owner, str(key), written, self._folder)
                if ref is not None and (opens or ref.source is SecretSource.ENVIRONMENT):
                    cast("dict[str, object]", options)[key] = ref
                elif written and opens:
                    found = "a secret written in the file"
                    self._problem((*here, "storage_options", key), found, "${NAME} from the environment")

    def _alert_routes(self) -> None:
        """Hide the URLs of alerts: whoever has one can use it."""
        routes = self._at(("alerts", "routes"))
        listed = [
            (index, one)
            for index, one in enumerate(routes if isinstance(routes, list) else ())
            if isinstance(one, dict)
        ]
        names = [_text_of(route.get("name")) for _, route in listed]
        known = {_text_of(account.get("name")) for _, account in self._accounts()}
        for index, route in listed:
            here: Path = ("alerts", "routes", index)
            if names.count(_text_of(route.get("name"))) > 1:
                self._problem((*here, "name"), f"{_text_of(route.get('name'))} twice", "a name of its own")
            written = route.get("url")
            ref = reference("alerts", "url", written, self._folder) if isinstance(written, str) else None
            if ref is not None:
                cast("dict[str, object]", route)["url"] = ref
            elif isinstance(written, str) and not LOOPBACK_URL.fullmatch(written):
                found = "a URL written in the file, or none"
                self._problem((*here, "url"), found, "${NAME} from the environment (one on loopback may stand here)")
            named = route.get("accounts")
            for place, one in enumerate(named if isinstance(named, list) else ()):
                if _text_of(one) not in known:
                    where: Path = (*here, "accounts", place)
                    self._problem(where, f"{_text_of(one)}, which is not an account here", "the name of an account")

    # Optional keys

    def _simulated(self, account: dict[str, Data]) -> None:
        broker = account.get("broker")
        if account.get("simulator") is not True or not isinstance(broker, str) or broker not in _MODELS:
            return
        for key, value in _SIMULATED.get(broker, {}).items():
            if account.get(key) is None:
                account[key] = value
        section = cast("dict[str, object]", account)
        for key in _MODELS[broker].secret_keys:
            section[key] = SecretRef(SecretSource.DEMONSTRATION, str(account.get("name")), key)

    def _gateway(self, place: Path, account: dict[str, Data]) -> None:
        """Use the environment names that users of MT5 gateways know."""
        if account.get("broker") != "mt5":
            return
        if account.get("simulator") is not True and account.get("endpoint") is None:
            host, port = self._environ.get("GTW_HOST", "127.0.0.1"), self._environ.get("GTW_PORT", "5555")
            account["endpoint"] = f"tcp://{host}:{port}"
            self._origins[(*place, "endpoint")] = "GTW_HOST and GTW_PORT"
        for key, name in (("timeout_ms", "GTW_TIMEOUT_MS"), ("interval_s", "SYNC_INTERVAL_SEC")):
            configured = account.get(key) is not None or self._at(("defaults", key)) is not None
            if not configured and name in self._environ:
                account[key] = scalar(self._environ[name].strip())
                self._origins[(*place, key)] = name

    # Checks across entries

    def _account_names(self) -> None:
        first: dict[str, int] = {}
        for place, account in self._accounts():
            name, path = _text_of(account.get("name")), (*place, "name")
            if name in first:
                self._problem(path, f"{name!r} a second time (first on line {first[name]})", "a name of its own")
            elif name:
                first[name] = self._document.line_of(path)

    def _logins(self) -> None:
        """Refuse two accounts that reach one login (they would keep two books of one account), and two connections with
        one client id at one IB gateway (it disconnects the first)."""
        first: dict[tuple[str, ...], str] = {}
        for place, account in self._accounts():
            if account.get("simulator") is True or account.get("enabled") is False:
                continue
            for key, words in _login_keys(account):
                if key in first:
                    found = f"{words} a second time (first in account {first[key]})"
                    self._problem((*place, "name"), found, "one account for each login")
                else:
                    first[key] = _text_of(account.get("name")) or ""

    def _symbols(self, place: Path, account: dict[str, Data]) -> None:
        listed = account.get("instruments")
        seen: dict[str, int] = {}
        for index, entry in enumerate(listed if isinstance(listed, list) else ()):
            path = (*place, "instruments", index)
            symbol = _text_of(entry.get("symbol") if isinstance(entry, dict) else entry)
            line = self._document.line_of(path)
            if symbol in seen:
                found = f"{symbol!r} a second time (first on line {seen[symbol]})"
                self._problem(path, found, "each instrument once in an account")
            elif symbol:
                seen[symbol] = line
        ignored = account.get("ignore_instruments")
        for index, entry in enumerate(ignored if isinstance(ignored, list) else ()):
            if _text_of(entry) in seen:
                found = f"{_text_of(entry)!r}, which is also in instruments"
                self._problem((*place, "ignore_instruments", index), found, "a symbol that is not reconciled")

    def _prices(self, place: Path, account: dict[str, Data]) -> None:
        """Check a paper account's prices as a whole, beyond what one key can check."""
        prices, listed = account.get("prices"), account.get("instruments")
        entries = listed if isinstance(listed, list) else ()
        symbols = {_text_of(entry.get("symbol") if isinstance(entry, dict) else entry) for entry in entries}
        for symbol, market in prices.items() if isinstance(prices, dict) else ():
            here: Path = (*place, "prices", symbol)
            if symbols and symbol not in symbols:
                self._problem(here, f"{symbol!r}, which is not in instruments", "a symbol of instruments")
            walks = isinstance(market, dict) and market.get("seed") is not None
            for key in ("start", "tick") if walks else ():
                if isinstance(market, dict) and market.get(key) is None:
                    self._problem((*here, key), "nothing besides seed", f"{key}, as a walk needs a start and a step")

    # What the models know about themselves

    def _model(self, path: Path) -> type[BaseModel] | None:
        if not path:
            return Configuration
        if path[0] == "accounts" and len(path) == 2:
            return _MODELS.get(str(self._at((*path, "broker"))), Account)
        if path[0] == "accounts" and len(path) == 4 and path[2] == "instruments":
            return Instrument
        if path[0] == "accounts" and len(path) == 4 and path[2] == "prices":
            return PaperMarket
        if path[0] == "accounts" and path[2:] in (("book",), ("book", "columns")):
            return DeltaBook if len(path) == 3 else BookColumns
        if path[0] == "sinks" and len(path) == 2:
            return DeltaSink
        field = Configuration.model_fields.get(str(path[0])) if len(path) == 1 else None
        kind = field.annotation if field is not None else None
        return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None

    def _known_keys(self, path: Path) -> frozenset[str]:
        model = self._model(path)
        return frozenset(model.model_fields) if model else frozenset()

    def _description(self, path: Path) -> str:
        model = self._model(path[:-1])
        field = model.model_fields.get(str(path[-1])) if model and path else None
        return (field.description if field else None) or "a value"


def _login_keys(account: dict[str, Data]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What must be unique among the accounts of one broker, each with its description."""

    def text(key: str, default: str = "") -> str:
        found: object = account.get(key)
        if isinstance(found, SecretRef):
            return found.place if found.source is SecretSource.ENVIRONMENT else ""
        return _text_of(account.get(key)) or default

    broker = text("broker")
    where = text("host", "127.0.0.1") + ":" + text("port")
    keys = {
        "oanda": ((text("account_id"), text("environment"), text("rest_url")),),
        "kite": ((text("user_id") or text("api_key"), text("rest_url")),),
        "mt5": ((text("endpoint"),),),
        "ib": ((text("account_id"), where), ("client_id", text("client_id"), where)),
    }.get(broker, ())
    words = {
        "oanda": (f"the login {text('account_id')}",),
        "kite": ("one login",),
        "mt5": (f"the gateway {text('endpoint')}",),
        "ib": (f"the login {text('account_id')} at {where}", f"client_id {text('client_id')} at {where}"),
    }.get(broker, ())
    for key, said in zip(keys, words, strict=True):
        if key[0]:
            yield (broker, *key), said


def _is_secret(path: Path) -> bool:
    return (
        path == _JOURNAL_URL
        or path[:2] == _HEADS
        or (len(path) == 3 and path[0] == "accounts" and path[2] in SECRET_KEYS)
        or (len(path) > 3 and path[-2] == "storage_options")
        or (len(path) == 4 and path[:2] == ("alerts", "routes") and path[3] == "url")
    )


def _value_of(text: str) -> Data:
    """The value of a variable's text: a number or a truth value, and never null, since the variable is set."""
    meaning = scalar(text)
    return text if meaning is None else meaning


def _text_of(value: Data) -> str:
    return value.text if isinstance(value, Number) else value if isinstance(value, str) else ""
