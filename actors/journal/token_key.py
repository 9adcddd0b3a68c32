"""A signing key that never leaves its token: PKCS #11, named by an RFC 7512 URI.

``pkcs11:token=NAME;object=LABEL?module-path=/…/libsofthsm2.so&pin-value=${PIN}`` (or ``pin-source=file:/path``): the
token and the label of the key pair, the library that reaches it, and where its PIN is. The PIN is read where the token
is opened, and stands nowhere. Needs the library ``python-pkcs11``, and a token that has Ed25519 (CKM_EDDSA).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from actors.journal.types import JournalUnavailable
from brokers.frozen import dataclass

PKCS11: Final = "pkcs11:"
_ATTEMPTED: Final = "use the token that signs the journal's heads"
_ED25519: Final = "1.3.101.112"
_FORM: Final = (
    "pkcs11:token=NAME;object=LABEL?module-path=/path/of/library.so&pin-value=${NAME} (or pin-source=file:/path)"
)


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What such a URI says; ``pin`` is ``${NAME}``, or the path of a file."""

    token: str
    label: str
    module: str
    pin: str

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Raises ``ValueError`` with what was expected; a PIN itself may not stand there."""
        path, _, query = text.removeprefix(PKCS11).partition("?")
        said = {**_pairs(path, ";"), **_pairs(query, "&")}
        unknown = said.keys() - {"token", "object", "type", "module-path", "pin-value", "pin-source"}
        pin = said.get("pin-value") or said.get("pin-source", "").removeprefix("file:")
        literal = "pin-value" in said and not re.fullmatch(r"\$\{\w+\}", said["pin-value"])
        if unknown or literal or not (said.get("token") and said.get("object") and said.get("module-path") and pin):
            raise ValueError(_FORM)
        return cls(said["token"], said["object"], said["module-path"], pin)


class TokenKey:
    """One key pair in a token. Each signature opens the token for itself: it may be taken out in between."""

    def __init__(self, uri: TokenUri, label: str, public: bytes) -> None:
        self._uri = uri
        self._label = label
        self.public = public

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of the data. Raises :class:`JournalUnavailable`."""
        pkcs11 = _library()
        with _opened(self._uri) as session:
            key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self._label)
            return bytes(key.sign(data, mechanism=pkcs11.Mechanism.EDDSA))

    def take_over(self) -> None:
        """Be the key of that name from now on; the one before keeps its place under another. Raises
        :class:`JournalUnavailable`."""
        pkcs11 = _library()
        with _opened(self._uri, write=True) as session:
            kinds = (pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.ObjectClass.PUBLIC_KEY)
            before = f"{self._uri.label}-before-{self.public.hex()[:8]}"
            for old, new in ((self._uri.label, before), (self._label, self._uri.label)):
                for kind in kinds:
                    session.get_key(object_class=kind, label=old)[pkcs11.Attribute.LABEL] = new
        self._label = self._uri.label


def find(where: str) -> TokenKey | None:
    """The key that a URI names; ``None`` where its token has none. Raises :class:`JournalUnavailable`."""
    uri, pkcs11 = _parsed(where), _library()
    with _opened(uri) as session:
        try:
            key = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=uri.label)
            session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=uri.label)
        except pkcs11.NoSuchKey:
            return None
        return TokenKey(uri, uri.label, _raw(key[pkcs11.Attribute.EC_POINT]))


def make(where: str, *, following: bool = False) -> TokenKey:
    """A new key pair in the token, under the name of the URI, or beside it for :meth:`TokenKey.take_over`. Raises
    :class:`JournalUnavailable`."""
    uri, pkcs11 = _parsed(where), _library()
    curve = import_module("pkcs11.util.ec").encode_named_curve_parameters(_ED25519)
    label = f"{uri.label}-{os.urandom(4).hex()}" if following else uri.label
    with _opened(uri, write=True) as session:
        kind = pkcs11.KeyType.EC_EDWARDS
        of = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
        sensitive = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
        public, _ = of.generate_keypair(store=True, label=label, private_template=sensitive)
        return TokenKey(uri, label, _raw(public[pkcs11.Attribute.EC_POINT]))


def _pairs(text: str, separator: str) -> Mapping[str, str]:
    pairs = (one.partition("=") for one in text.split(separator) if one)
    return {key: unquote(value) for key, _, value in pairs}


def _parsed(where: str) -> TokenUri:
    try:
        return TokenUri.parse(where)
    except ValueError as error:
        raise JournalUnavailable(_ATTEMPTED, "journal.key names no token", f"Write {error}") from None


def _raw(point: bytes) -> bytes:
    # A DER octet string of 32 bytes; some tokens give the 32 alone.
    return bytes(point[-32:])


@contextlib.contextmanager
def _opened(uri: TokenUri, *, write: bool = False) -> Iterator[Any]:
    pkcs11 = _library()
    try:
        token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
        with token.open(rw=write, user_pin=_pin(uri)) as session:
            yield session
    except pkcs11.NoSuchKey:
        raise
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        found = f"the token {uri.token} of {uri.module}: {str(error) or type(error).__name__}"
        raise JournalUnavailable(_ATTEMPTED, found, "Check the token, its PIN and the path of its library") from None


def _pin(uri: TokenUri) -> str:
    if not uri.pin.startswith("${"):
        try:
            return Path(uri.pin).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            found = f"its PIN in {uri.pin}: {getattr(error, 'strerror', None) or 'it is no text'}"
            raise JournalUnavailable(_ATTEMPTED, found, "Make it readable for this user") from None
    name = uri.pin[2:-1]
    if not os.environ.get(name, "").strip():
        raise JournalUnavailable(_ATTEMPTED, f"${{{name}}}, its PIN, is not set", "Set it in the environment")
    return os.environ[name].strip()


def _library() -> Any:
    try:
        return import_module("pkcs11")
    except ImportError:
        raise JournalUnavailable(
            _ATTEMPTED, "the library python-pkcs11 is not installed", "Install the extra 'pkcs11' of this package"
        ) from None
