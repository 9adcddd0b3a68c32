"""What an account actor needs to open its adapter: plain values, and references to its secrets.

A :class:`SecretRef` says where a secret is found and never what it is. It may be an argument of an actor, or stand in a
repr or in JSON, and is resolved inside the actor that needs it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from brokers.errors import Refused
from brokers.frozen import dataclass
from brokers.paper.prices import Market
from brokers.secret_keeper import asked
from brokers.versions import across_versions

Setting = str | int | float | bool | None | tuple[str, ...]

_OPEN, _CLOSE = "${", "}"


class SecretSource(StrEnum):
    """Where a secret is found."""

    ENVIRONMENT = "environment"  # in one environment variable
    FILE = "file"  # in the configuration file, as it stands there or around ${NAME}
    SECRET_FILE = "secret file"  # noqa: S105 - the whole of a file of its own
    KEYRING = "keyring"  # in the system's keyring
    DEMONSTRATION = "demonstration"  # nowhere: an embedded simulator accepts this well-known value


READ_FROM_FILES = frozenset({SecretSource.FILE, SecretSource.SECRET_FILE})
"""Sources whose value is read anew at each request, and may have changed by then."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_IN_FILE, _IN_KEYRING = "file:", "keyring:"

DEMONSTRATION_VALUE = "demonstration"
"""The value of every secret of a simulated account. It opens nothing but our own simulators."""


@across_versions
@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where one secret of one account is found.

    ``key`` is its key in the configuration, ``place`` the name of the environment variable, the absolute path of the
    file, or the SERVICE/NAME of the keyring. An empty ``account`` means the section ``journal``.
    """

    source: SecretSource
    account: str
    key: str
    place: str = ""

    def __repr__(self) -> str:
        return f"SecretRef({self})"

    def __str__(self) -> str:
        return f"{self._owner}.{self.key} from {self._described()}"

    @property
    def _owner(self) -> str:
        return self.account or "journal"

    def _described(self) -> str:
        if self.source is SecretSource.ENVIRONMENT:
            return f"environment variable {self.place}"
        if self.source in READ_FROM_FILES:
            return self.place
        return f"keyring entry {self.place}" if self.source is SecretSource.KEYRING else "the demonstration"

    @property
    def renewal(self) -> str:
        """How a running process gets another value of this secret, as a sentence; that depends on the source."""
        if self.source is SecretSource.ENVIRONMENT:
            return (
                f"{self.key} of {self._owner} comes from environment variable {self.place}, and a running process "
                "keeps the environment it was started with: stop, set the variable and start; or write the new value "
                f"itself as {self.key} into the configuration file and apply it, as from there it is read again "
                "without a restart"
            )
        if self.source is SecretSource.FILE:
            return (
                f"Write the new value as {self.key} of {self._owner} into {self.place}: it is read from there again "
                "without a restart"
            )
        if self.source in (SecretSource.SECRET_FILE, SecretSource.KEYRING):
            return f"Put the new value into {self._described()}: it is read from there again without a restart"
        return "A simulated account takes no other value"

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """The secret itself. Call it where the value is used, and keep the result out of everything that is shown.

        ``environ`` is the process's environment unless passed. Raises ``Refused``, which names what is missing and
        never quotes a value.
        """
        variables = os.environ if environ is None else environ
        if self.source is SecretSource.DEMONSTRATION:
            return DEMONSTRATION_VALUE
        if self.source is SecretSource.ENVIRONMENT:
            value = self._variable(self.place, variables)
        elif self.source is SecretSource.SECRET_FILE:
            value = self._from_secret_file()
        elif self.source is SecretSource.KEYRING:
            value = self._from_keyring()
        else:
            value = self._filled_in(self._from_file(), variables)
        value = value.strip()
        if not value:
            raise self._refused("it is empty")
        # With a line break in it, an HTTP client would quote the whole header in its error.
        if not value.isprintable():
            raise self._refused("it contains control characters")
        return value

    def _variable(self, name: str, environ: Mapping[str, str]) -> str:
        value = environ.get(name)
        if value is None:
            value = asked(name, environ)  # the keeper has it, so that no other process does
        if value is None:
            raise self._refused(f"environment variable {name} is not set")
        return value

    def _filled_in(self, text: str, environ: Mapping[str, str]) -> str:
        done = ""
        while _OPEN in text:
            before, _, rest = text.partition(_OPEN)
            name, _, text = rest.partition(_CLOSE)
            done += before + self._variable(name, environ)
        return done + text

    def _from_secret_file(self) -> str:
        try:
            with open(self.place, encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                if _others_may_read(self.place, status):
                    found = f"others may read {self.place} (mode {stat.S_IMODE(status.st_mode):o})"
                    raise self._refused(found, f"chmod 600 {self.place}")
                return file.read(_LONGEST_SECRET)
        except OSError as error:
            raise self._refused(f"{self.place}: {error.strerror or 'it cannot be read'}") from None
        except UnicodeDecodeError:
            raise self._refused(f"{self.place} is no text") from None

    def _from_keyring(self) -> str:
        service, _, name = self.place.partition("/")
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            remedy = "Install the extra keyring: pip install 'reconciliation-supervisor[keyring]'"
            raise self._refused("the package keyring is not installed", remedy) from None
        try:
            value = keyring.get_password(service, name)
        except KeyringError as error:
            raise self._refused(f"the keyring does not answer ({type(error).__name__})") from None
        if value is None:
            raise self._refused(f"the keyring has no entry {name} of {service}", f"keyring set {service} {name}")
        return value

    def _from_file(self) -> str:
        from ruamel.yaml import YAML  # here alone: an actor whose secrets are in its environment needs no YAML
        from ruamel.yaml.error import YAMLError

        try:
            with open(self.place, encoding="utf-8-sig") as file:
                root = YAML(typ="safe", pure=True).compose(file)
        # The cause is cut off: the error of a parser or decoder quotes the text where it failed.
        except OSError as error:
            raise self._refused(f"{self.place}: {error.strerror or 'it cannot be read'}") from None
        except (YAMLError, UnicodeDecodeError):
            raise self._refused(f"{self.place} is no longer readable YAML") from None
        value = _child(self._section(root), self.key)
        if value is None or not isinstance(value.value, str):
            raise self._refused(f"{self.place} no longer holds it")
        return value.value

    def _section(self, root: Any) -> Any:
        if not self.account:
            return _child(root, "journal")
        accounts = _child(root, "accounts")
        entries = accounts.value if accounts is not None and isinstance(accounts.value, list) else ()
        for entry in entries:
            name = _child(entry, "name")
            if name is not None and name.value == self.account:
                return entry
        return None

    def _refused(self, found: str, remedy: str | None = None) -> Refused:
        usual = (
            f"Set {self.key} of {self._owner} in the configuration, or what it names there, where the account's actor "
            "runs."
        )
        return Refused(f"read its {self.key}", self._owner, found, remedy or usual)


_LONGEST_SECRET = 100_000


def _others_may_read(path: str, status: os.stat_result) -> bool:
    """Whether anybody but its owner may open a file: by its own mode, where its folder does not keep them out."""
    if status.st_uid not in (os.geteuid(), 0):
        return True
    if not status.st_mode & 0o077:
        return False
    folder = os.stat(os.path.dirname(path) or ".")
    return bool(folder.st_mode & 0o077) or folder.st_uid not in (os.geteuid(), 0)


def reference(account: str, key: str, written: str, folder: str) -> SecretRef | None:
    """The secret to which ``${NAME}``, ``file:PATH`` (relative to ``folder``) or ``keyring:SERVICE/NAME`` in a
    configuration refers; ``None`` for anything else."""
    variable = _VARIABLE.fullmatch(written)
    if variable:
        return SecretRef(SecretSource.ENVIRONMENT, account, key, variable[1])
    if written.startswith(_IN_FILE) and written != _IN_FILE:
        path = os.path.expanduser(written.removeprefix(_IN_FILE))
        return SecretRef(SecretSource.SECRET_FILE, account, key, os.path.normpath(os.path.join(folder, path)))
    service, slash, name = written.removeprefix(_IN_KEYRING).partition("/")
    if written.startswith(_IN_KEYRING) and service and slash and name:
        return SecretRef(SecretSource.KEYRING, account, key, f"{service}/{name}")
    return None


def _child(node: Any, key: str) -> Any:
    held = getattr(node, "value", None)  # a scalar's is text, a sequence's are nodes, a mapping's pairs of nodes
    if not isinstance(held, list):
        return None
    pairs = (pair for pair in held if isinstance(pair, tuple))
    return next((value for name, value in pairs if name.value == key), None)


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """One account at one broker, as its adapter needs it.

    ``broker`` is ``oanda``, ``kite``, ``ib``, ``mt5`` or ``paper``. ``timeout_s`` bounds one call. ``settings`` holds
    the broker's own keys of the configuration under the names they have there. With ``simulated`` the endpoint is the
    embedded simulator's, and ``settings`` holds no real one. ``instruments`` are the configured symbols, empty when the
    account reconciles everything. ``state_dir`` is an absolute directory for what must outlive a process, and
    ``journal`` the name of the journal to which it belongs. ``markets`` are how the symbols of a paper account trade.
    """

    account: str
    broker: str
    timeout_s: float
    settings: Mapping[str, Setting] = field(default_factory=dict)
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    simulated: bool = False
    instruments: tuple[str, ...] = ()
    state_dir: str = ""
    journal: str = "journal"
    markets: tuple[Market, ...] = ()
