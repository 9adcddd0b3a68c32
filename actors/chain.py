"""The canonical form of a record and the hash chain over it. Pure.

* The canonical form is compact UTF-8 JSON with sorted keys: ``event_id``, ``payload``, ``seq``, ``severity``,
  ``stream``, ``time``, ``type``, ``version``.
* ``hash`` = SHA-256, in lower-case hexadecimal, over ``prev_hash`` followed by the canonical form; the first record's
  ``prev_hash`` is 64 zeros. Any later change of any of these fields changes every hash from there on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from actors.events import Event, Json, Payload, Record, to_iso

GENESIS: Final = "0" * 64
"""The ``prev_hash`` of the first record."""

_EXACT: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_PLAIN: Final = frozenset({str, int, bool, type(None)})


def payload_text(payload: Payload) -> str:
    """A payload as canonical JSON text.

    Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold exactly: a float (it is not the number that was
    meant), a ``Decimal`` or a time that was not written as text, a key that is no string, an integer beyond 64 bits.
    """
    if _holds_float(payload.values()):
        raise TypeError("a float is not an exact number: write a Decimal as text")
    return orjson.dumps(payload if type(payload) is dict else dict(payload), option=_EXACT).decode()


def canonical(seq: int, stream: str, version: int, event: Event) -> str:
    """The canonical form of an event at its place; raises like :func:`payload_text`."""
    return canonical_bytes(
        seq,
        stream,
        version,
        event.event_id,
        to_iso(event.time),
        event.type,
        event.severity,
        payload_text(event.payload),
    ).decode()


def canonical_bytes(
    seq: int, stream: str, version: int, event_id: str, time: str, event_type: str, severity: str, payload: str
) -> bytes:
    """The canonical form from the fields as they are stored, ``payload`` as its canonical text."""
    return orjson.dumps(
        {
            "event_id": event_id,
            "payload": orjson.Fragment(payload),
            "seq": seq,
            "severity": severity,
            "stream": stream,
            "time": time,
            "type": event_type,
            "version": version,
        }
    )


def chained(prev_hash: str, canonical_form: bytes) -> str:
    """The hash of a record that follows one with ``prev_hash``."""
    return hashlib.sha256(prev_hash.encode() + canonical_form).hexdigest()


def record_to_json(record: Record) -> dict[str, Json]:
    """A record as the command line and the exports show it."""
    event = record.event
    return {
        "seq": record.seq,
        "stream": record.stream,
        "version": record.version,
        "event_id": event.event_id,
        "time": to_iso(event.time),
        "type": event.type.value,
        "severity": event.severity.value,
        "payload": dict(event.payload),
        "prev_hash": record.prev_hash,
        "hash": record.hash,
    }


def _holds_float(values: Iterable[object]) -> bool:
    for value in values:
        if type(value) in _PLAIN:
            continue
        if isinstance(value, float):
            return True
        if isinstance(value, Mapping):
            if _holds_float(value.values()):
                return True
        elif isinstance(value, list | tuple) and _holds_float(value):
            return True
    return False
