"""Proofs that stand alone: one JSON document, and a public key, for somebody who trusts neither us nor our program.

Of each of its ``records``: ``record`` is the canonical form exactly as it was hashed, ``prev_hash`` the hash before it,
``path`` the way to the root (base64, lowest first) of the journal that ``head``, a signed note, signs. ``older`` is an
earlier signed note, or null; ``consistency`` the path that proves it to be of the beginning of that same journal.
``rotations`` are the notes by which one key handed on to the next, ``stamp`` a time stamp (RFC 3161, DER in base64)
over ``head``, or null. Pure but for the paths that building one reads.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from actors.journal.evidence_tables import StoredHead
from actors.journal.merkle_tree import (
    Perfect,
    ProofError,
    check_consistency,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of_inclusion,
)
from actors.journal.signed_head import Head, HeadError, PublicKey, trusted_keys, verified_head
from brokers.frozen import dataclass

FORMAT: Final = "reconciliation-journal-proof/1"


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """A record as the journal keeps it: its place, the canonical form that is hashed, and the hash before it."""

    seq: int
    canonical: str
    prev_hash: str


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof has shown. ``contents`` are the records, from their canonical forms; ``stamp`` still has to be
    verified with the roots of its server."""

    head: Head
    note: str
    contents: tuple[Mapping[str, Any], ...] = ()
    older: Head | None = None
    stamp: bytes | None = None
    trusted: tuple[PublicKey, ...] = ()
    """The keys that follow from those of whoever checks, by the rotations in the proof."""


def proof(
    records: Sequence[ProvenRecord],
    newer: StoredHead,
    older: StoredHead | None,
    rotations: Sequence[str],
    node: Perfect,
) -> dict[str, Any]:
    """The document that proves these records under a signed head, and, where ``older`` is given, that nothing under
    that head was changed or cut out since. ``node`` returns the nodes of the journal's tree at the newer head."""
    return {
        "format": FORMAT,
        "records": [
            {
                "record": record.canonical,
                "prev_hash": record.prev_hash,
                "path": [_text(one) for one in inclusion_path(record.seq - 1, newer.size, node)],
            }
            for record in records
        ],
        "older": None if older is None else older.note,
        "consistency": [] if older is None else [_text(one) for one in consistency_path(older.size, newer.size, node)],
        "head": newer.note,
        "rotations": list(rotations),
        "stamp": None if newer.stamp is None else _text(newer.stamp),
    }


def check(document: Any, keys: Sequence[PublicKey]) -> Proven:
    """What a proof shows, given that these keys are trusted. Raises :class:`ProofError` and :class:`HeadError`."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ProofError(f"it is no proof in the form {FORMAT}")
    try:
        trusted = trusted_keys(keys, map(str, document["rotations"]))
        note = str(document["head"])
        head = verified_head(note, trusted)
        stamp = None if document["stamp"] is None else _bytes(document["stamp"])
        older = None
        if document["older"] is not None:
            older = verified_head(str(document["older"]), trusted)
            if older.origin != head.origin:
                raise ProofError(f"the heads are of two journals, {older.origin} and {head.origin}")
            check_consistency(older.size, older.root, head.size, head.root, list(map(_bytes, document["consistency"])))
        contents = tuple(_checked(one, head) for one in document["records"])
    except (HeadError, ProofError):
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # of base64 and of JSON, too
        raise ProofError(f"the proof is incomplete or damaged ({error!r})") from None
    return Proven(head, note, contents, older, stamp, tuple(trusted))


def _checked(one: Mapping[str, Any], head: Head) -> Mapping[str, Any]:
    canonical, previous = str(one["record"]), str(one["prev_hash"])
    content: Mapping[str, Any] = orjson.loads(canonical)
    own = hashlib.sha256((previous + canonical).encode()).digest()
    root = root_of_inclusion(int(content["seq"]) - 1, head.size, leaf_hash(own), list(map(_bytes, one["path"])))
    if root != head.root:
        raise ProofError(f"record {content['seq']} is not in the journal that the head signs: it leads to another root")
    return content


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
