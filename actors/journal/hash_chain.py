"""The canonical form of a record and the hash chain over it. Pure.

* The canonical form is compact UTF-8 JSON with sorted keys: ``event_id``, ``payload``, ``seq``, ``severity``,
  ``stream``, ``time``, ``type``, ``version``.
* ``hash`` = SHA-256, in lower-case hexadecimal, over ``prev_hash`` followed by the canonical form; the first record's
  ``prev_hash`` is 64 zeros. Any later change of any of these fields changes every hash from there on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from actors.events import Event, Json, Payload, Record, to_iso

GENESIS: Final = "0" * 64
"""The ``prev_hash`` of the first record."""

_EXACT: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_TIME_LENGTH: Final = len('"2025-01-06T14:30:00.000000Z"')
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_IS_PLAIN: Final = _PLAIN.__contains__


def time_text(time: datetime) -> str:
    """The same as :func:`to_iso` for an aware time, in a fifth of its time: every record has one."""
    text = orjson.dumps(time.astimezone(UTC), option=orjson.OPT_UTC_Z).decode()
    # Written without a fraction where it is 0, and always between quotes.
    return text[1:-1] if len(text) == _TIME_LENGTH else to_iso(time)


def payload_text(payload: Payload) -> str:
    """A payload as canonical JSON text.

    Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold exactly: a float (it is not the number that was
    meant), a ``Decimal`` or a time that was not written as text, a key that is no string, an integer beyond 64 bits.
    """
    # Not as a superset of the types there are: that makes a set of them first, for every record.
    if not all(map(_IS_PLAIN, map(type, payload.values()))) and _holds_float(payload.values()):
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
    """The canonical form from the fields as they are stored, whatever became of them there; ``payload`` is its
    canonical text. Raises ``TypeError`` for a field that is no longer of its type."""
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


Row = tuple[int, str, int, str, str, str, str, str, str, str]
"""A record as it is stored: seq, stream, version, event_id, time, type, severity, payload, prev_hash, hash."""


def rows_of(seq: int, prev_hash: str, stream: str, version: int, events: Sequence[Event]) -> list[Row]:
    """The records that these events are after record ``seq`` with ``prev_hash`` and after ``version`` of the stream.

    Raises like :func:`payload_text`, and ``ValueError`` for a time without a zone. Half the time of a large commit is
    spent here, so :func:`canonical_bytes` is written out: names of types, severities and times need no escape.
    """
    rows: list[Row] = []
    sha256, dumps = hashlib.sha256, orjson.dumps
    stream_json = dumps(stream).decode()
    for event in events:
        if event.time.tzinfo is None:
            raise ValueError(f"event {event.event_id} has a time without a zone")
        seq += 1
        version += 1
        event_id, payload = event.event_id, payload_text(event.payload)
        time, kind, severity = time_text(event.time), str(event.type), str(event.severity)
        own_hash = sha256(
            f'{prev_hash}{{"event_id":{dumps(event_id).decode()},"payload":{payload},"seq":{seq},"severity":"{severity}",'
            f'"stream":{stream_json},"time":"{time}","type":"{kind}","version":{version}}}'.encode()
        ).hexdigest()
        rows.append((seq, stream, version, event_id, time, kind, severity, payload, prev_hash, own_hash))
        prev_hash = own_hash
    return rows


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
