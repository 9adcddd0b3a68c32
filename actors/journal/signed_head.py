"""A journal's head as its keeper signs it, in the form of a C2SP checkpoint, so that other tools read it. Pure.

The signed text is five lines: the journal's origin, the number of records, the root of the Merkle tree over them in
base64, and as extension lines ``chain HASH`` (the last record's chain hash) and ``time TIME`` (when it was signed).
After an empty line each signature stands in a line of its own, ``— NAME BASE64``; its first four bytes are the key's
id. Sources: C2SP ``tlog-checkpoint`` and ``signed-note``; Ed25519 signatures are their type 1.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.events import from_iso, to_iso
from brokers.frozen import dataclass
from brokers.kit.foreign_row import OUR_TIME

_ED25519: Final = b"\x01"
_NAME: Final = re.compile(r"[^\s+]+")
_SIGNATURE: Final = re.compile(r"— (\S+) (\S+)")


class HeadError(ValueError):
    """A head cannot be read, or is not signed by a key that is trusted; the message says which."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a journal was at ``time``: ``size`` records, the ``root`` of the tree over them, and ``chain``, the last
    record's hash as hexadecimal text. ``origin`` distinguishes journals."""

    origin: str
    size: int
    root: bytes
    chain: str
    time: datetime

    def text(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\nchain {self.chain}\ntime {to_iso(self.time)}\n"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with; ``name`` is the origin of the journal it was made for."""

    name: str
    raw: bytes

    @property
    def id(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key that ``NAME+ID+BASE64`` means; raises :class:`HeadError`."""
        parts = text.strip().split("+", 2)
        try:
            name, key_id, encoded = parts
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise HeadError(f"{text.strip()[:80]!r} is no public key: NAME+ID+BASE64 was expected") from None
        key = cls(name, data[1:])
        if data[:1] != _ED25519 or len(data) != 33 or key.id.hex() != key_id:
            raise HeadError(f"the public key of {name} is damaged: its id is not that of its bytes")
        return key

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether this key made that signature of that text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class KeyElsewhere(Protocol):
    """An Ed25519 key that signs where it is kept: ``public`` are its 32 bytes."""

    public: bytes

    def sign(self, data: bytes, /) -> bytes:
        """The signature of the data."""


class Signer:
    """A private key under a name. Its repr shows the public part alone."""

    def __init__(self, name: str, key: Ed25519PrivateKey | KeyElsewhere) -> None:
        if not _NAME.fullmatch(name):
            raise HeadError(f"{name!r} cannot name a key: no space and no + may stand in it")
        self._key = key
        self.public = PublicKey(name, raw_public(key))

    def __repr__(self) -> str:
        return f"Signer({self.public})"

    def signature_line(self, text: str) -> str:
        """The line that signs the text."""
        signature = base64.b64encode(self.public.id + self._key.sign(text.encode())).decode()
        return f"— {self.public.name} {signature}\n"


def raw_public(key: Ed25519PrivateKey | KeyElsewhere) -> bytes:
    """The 32 bytes that others check its signatures with."""
    if isinstance(key, Ed25519PrivateKey):
        return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return key.public


def signed(text: str, signers: Iterable[Signer]) -> str:
    """The text as a signed note, by each of them."""
    return text + "\n" + "".join(signer.signature_line(text) for signer in signers)


def verified_text(note: str, keys: Sequence[PublicKey]) -> tuple[str, PublicKey]:
    """The text of a signed note, and the first of the keys that signed it; raises :class:`HeadError`.

    Signatures by unknown keys are no matter, as in C2SP; one that names a known key and is not its own is.
    """
    text, signatures = _split(note)
    found: PublicKey | None = None
    for key in keys:
        for name, data in signatures:
            if name == key.name and data[:4] == key.id:
                if not key.verifies(text, data[4:]):
                    raise HeadError(f"the signature by {key.name}+{key.id.hex()} does not fit: its text was altered")
                found = found or key
    if found is None:
        named = ", ".join(f"{name}+{data[:4].hex()}" for name, data in signatures)
        known = ", ".join(f"{key.name}+{key.id.hex()}" for key in keys)
        raise HeadError(f"it is signed by {named}, which is none of the keys that are trusted ({known or 'none'})")
    return text, found


def parse_head(note: str) -> Head:
    """The content of a signed head, without a check of its signatures; raises :class:`HeadError`."""
    lines = _split(note)[0].split("\n")
    try:
        origin, size, root, chain, time, end = lines
        if end or chain[:6] != "chain " or time[:5] != "time " or not re.fullmatch(r"0|[1-9]\d*", size):
            raise ValueError
        signed_at = from_iso(time[5:])
        if signed_at.year not in OUR_TIME:
            raise ValueError
        return Head(origin, int(size), base64.b64decode(root, validate=True), chain[6:], signed_at)
    except ValueError:
        raise HeadError("it is no head of a journal: origin, size, root, chain and time were expected") from None


def verified_head(note: str, keys: Sequence[PublicKey]) -> Head:
    """The content of a signed head that a trusted key has signed; raises :class:`HeadError` where none has."""
    verified_text(note, keys)
    return parse_head(note)


def rotation_text(origin: str, new: PublicKey, time: datetime) -> str:
    """The text by which an old key names the new one that goes on for it."""
    return f"{origin}\nnew key {new}\ntime {to_iso(time)}\n"


def trusted_keys(first: Sequence[PublicKey], rotations: Iterable[str]) -> list[PublicKey]:
    """The keys that follow from those trusted at first: each note of :func:`rotation_text`, oldest first, that one of
    them signed adds the key it names, if that key signed it too. Notes by others add nothing."""
    keys = list(first)
    for note in rotations:
        try:
            text, _ = verified_text(note, keys)
            new = PublicKey.parse(text.split("\n")[1].removeprefix("new key "))
            verified_text(note, [new])
        except (HeadError, IndexError):
            continue
        if new not in keys:
            keys.append(new)
    return keys


def split_notes(text: str) -> list[str]:
    """The signed notes that stand one after the other in a file, an empty line between them."""
    notes: list[str] = []
    for block in text.split("\n\n"):
        if block.startswith("— ") and notes:
            notes[-1] += "\n\n" + block.rstrip("\n") + "\n"
        elif block.strip():
            notes.append(block.lstrip("\n"))
    return notes


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    try:
        note.encode()
    except UnicodeEncodeError:  # JSON can bring half a character
        raise HeadError("it is no signed note: it is not text") from None
    text, between, rest = note.partition("\n\n")
    signatures: list[tuple[str, bytes]] = []
    for line in rest.splitlines():
        found = _SIGNATURE.fullmatch(line)
        try:
            data = base64.b64decode(found[2], validate=True) if found else b""
        except ValueError:  # also where it is not ASCII, which is no binascii.Error
            data = b""
        if found is None or len(data) < 5:
            raise HeadError("it is no signed note: a line of its signatures cannot be read")
        signatures.append((found[1], data))
    if not between or not signatures:
        raise HeadError("it is no signed note: a text, an empty line and signatures were expected")
    return text + "\n", signatures
