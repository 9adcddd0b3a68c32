"""Where the key is that signs a journal's heads: made at the first start, for its owner alone, and followed by others.

* The private key is a PEM file (PKCS #8, 0600), an entry of the system's keyring that holds the same text, or in a
  token that it never leaves (:mod:`token_key`). It is read where heads are signed and stands in no message.
* Beside it ``….pub`` lists the public keys, one a line as ``NAME+ID+BASE64``: the first, and each that followed it.
  That file is meant to be given away; who checks a journal for somebody else uses a copy that he got earlier.
* A key that is gone is not quietly replaced: heads by a key nobody knows would prove nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from actors.journal import token_key
from actors.journal.signed_head import HeadError, PublicKey, Signer, raw_public
from actors.journal.token_key import PKCS11, TokenKey
from actors.journal.types import JournalUnavailable
from brokers.kit.whole_file import write_whole

SigningKey = Ed25519PrivateKey | TokenKey

KEYRING: Final = "keyring:"
_ATTEMPTED: Final = "read the key that signs the journal's heads"


def default_key(journal: Path) -> Path:
    """The key of a journal's file, where the configuration names no other."""
    return journal.with_name(journal.name + ".key")


def public_file(journal: Path) -> Path:
    """The list of a journal's public keys."""
    return journal.with_name(journal.name + ".pub")


def read_public(file: Path) -> list[PublicKey]:
    """The public keys that a file lists; raises :class:`HeadError`, also where there is no such file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HeadError(f"the public keys in {file} cannot be read: {getattr(error, 'strerror', error)}") from None
    keys = [PublicKey.parse(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not keys:
        raise HeadError(f"{file} lists no public key")
    return keys


def load_or_make(where: str, public: Path, origin: str | None) -> Signer:
    """The signer of a journal's heads, made with its key at the first start.

    ``where`` is a path, ``keyring:SERVICE/NAME`` or ``pkcs11:…``, ``public`` the list of public keys, ``origin`` what
    earlier heads are named by. Raises :class:`JournalUnavailable` where the key cannot be read or made, or is gone.
    """
    key = _found(where)
    if key is None:
        if origin is not None or public.exists():
            raise JournalUnavailable(
                _ATTEMPTED,
                f"{where} is gone, and heads were signed with it",
                f"Put it back. If it is lost, remove {public} as well: another key is made at the next start, which "
                "nobody trusts yet, and give its public key to those who check your heads",
            )
        if where.startswith(PKCS11):
            key = token_key.make(where)
        else:
            key = Ed25519PrivateKey.generate()
            write_private(where, key)
    if not public.exists():
        signer = Signer(origin or _name_of(key), key)
        write_public(public, [signer.public])
        return signer
    name = _listed(where, key, public)
    return Signer(origin or name, key)


def _listed(where: str, key: SigningKey, public: Path) -> str:
    """The name under which a key is listed. Raises :class:`JournalUnavailable` for one that is not: nobody who has the
    list would trust what it signs."""
    raw = raw_public(key)
    try:
        name = next((one.name for one in read_public(public) if one.raw == raw), None)
    except HeadError as error:
        raise JournalUnavailable(_ATTEMPTED, str(error), "Restore the list of public keys from a copy") from None
    if name is None:
        found = f"the key in {where} is none of those that {public} lists, so nobody would trust its heads"
        remedy = "Put the key back that signed before. A new one is made by `audit key --new`, which the old one signs"
        raise JournalUnavailable(_ATTEMPTED, found, remedy)
    return name


def new_key(name: str, where: str = "") -> tuple[Signer, SigningKey]:
    """A new key that will sign under this name; in its token already, where ``where`` names one. Raises
    :class:`JournalUnavailable`."""
    key = token_key.make(where, following=True) if where.startswith(PKCS11) else Ed25519PrivateKey.generate()
    return Signer(name, key), key


def write_private(where: str, key: SigningKey) -> None:
    """Keep a private key, in place of one that is there; raises :class:`JournalUnavailable`."""
    if isinstance(key, TokenKey):
        key.take_over()
        return
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    if where.startswith(KEYRING):
        service, name = _entry(where)
        with _asking_the_keyring(where):
            _keyring().set_password(service, name, text)
        return
    _replace(Path(where), text, 0o600)


def write_public(file: Path, keys: list[PublicKey]) -> None:
    """List the public keys, in place of the list that is there; raises :class:`JournalUnavailable`."""
    _replace(file, "".join(f"{key}\n" for key in keys), 0o644)


def _found(where: str) -> SigningKey | None:
    if where.startswith(PKCS11):
        return token_key.find(where)
    text = _read(where)
    return None if text is None else _parsed(where, text)


def _read(where: str) -> str | None:
    if where.startswith(KEYRING):
        service, name = _entry(where)
        with _asking_the_keyring(where):
            found: str | None = _keyring().get_password(service, name)
        return found
    try:
        with open(where, encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise JournalUnavailable(
                    _ATTEMPTED, f"others may read {where} (mode {mode:o})", f"chmod 600 {where}, or make a new key"
                )
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found_ = getattr(error, "strerror", None) or "it is no text"
        raise JournalUnavailable(_ATTEMPTED, f"{where}: {found_}", "Make it readable for this user") from None


def _parsed(where: str, text: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise JournalUnavailable(_ATTEMPTED, f"{where} holds no Ed25519 key in PEM", "Restore it from a copy")
    return key


def _name_of(key: SigningKey) -> str:
    return f"reconciliation-journal/{hashlib.sha256(raw_public(key)).hexdigest()[:16]}"


def _replace(file: Path, text: str, mode: int) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, text.encode(), mode=mode)
    except OSError as error:
        raise JournalUnavailable(
            f"write the key file {file}", error.strerror or str(error), "Make its directory writable, or name another"
        ) from None


def _entry(where: str) -> tuple[str, str]:
    service, _, name = where.removeprefix(KEYRING).partition("/")
    if not service or not name:
        raise JournalUnavailable(_ATTEMPTED, f"{where} names no entry", "Write keyring:SERVICE/NAME")
    return service, name


@contextlib.contextmanager
def _asking_the_keyring(where: str) -> Iterator[None]:
    """Whatever its backend raises, in our words: each has errors of its own."""
    try:
        yield
    except JournalUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - keyring passes on what its backends raise
        found = f"{where}: {str(error) or type(error).__name__}"
        raise JournalUnavailable(_ATTEMPTED, found, "Unlock the keyring of the user that this runs as") from None


def _keyring() -> ModuleType:
    try:
        return import_module("keyring")
    except ImportError:
        raise JournalUnavailable(
            _ATTEMPTED, "the library keyring is not installed", "Install the extra 'keyring' of this package"
        ) from None


def check_public(file: Path, trusted: list[PublicKey]) -> None:
    """That a list of public keys names none but the trusted ones; raises :class:`HeadError`."""
    unknown = [key for key in read_public(file) if key not in trusted]
    if unknown:
        raise HeadError(f"{file} lists the key {unknown[0]}, which no trusted key has signed")
