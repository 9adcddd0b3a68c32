"""What may come instead of a sample: its JSON, its lines or its bytes with something changed, by one number."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.brokers.mutations import ODD_TEXTS, ODD_VALUES, at_path, deep, paths

LARGEST = 200_000
_TOKENS = (
    *(one.encode("utf-8", "surrogatepass") for one in ODD_TEXTS),
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b"1e400",
    b"-1e-400",
    b"\\ud800",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x00",
    b"18446744073709551616",
    b"9007199254740993",
    b"&a [*a]",
    b"${HOME}",
    b"!!python/object",
    b"\r\n",
    b"\xe2\x80\xa8",
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The input with one to four changes; its first byte mostly as it is."""
    first, rest = data[:1] or b"\0", data[1:]
    if chance.random() < 0.03:
        first = bytes([chance.randrange(256)])
    for _ in range(chance.randint(1, 4)):
        rest = chance.choice((_json, _json, _json, _fields, _bytes))(rest, chance)
    return (first + rest)[:LARGEST]


def _json(data: bytes, chance: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _lines(data, chance)
    holder = {"it": value}
    places = [one for one in paths(holder) if one]
    path = chance.choice(places)
    inside, last = at_path(holder, path[:-1]), path[-1]
    match chance.randrange(9):
        case 0:
            del inside[last]
        case 1 if isinstance(inside, list):
            inside.insert(chance.randint(0, len(inside)), inside[last])
        case 2:
            inside[last] = [inside[last]]
        case 3:
            inside[last] = at_path(holder, chance.choice(places))
        case 4:
            inside[last] = deep(chance.choice((5, 50, 100)))
        case 5:
            inside[last] = chance.randint(-(2**70), 2**70)
        case 6 if isinstance(inside[last], str) and inside[last]:
            inside[last] = _text(inside[last], chance)
        case 7 if isinstance(inside, dict):
            inside[chance.choice([*_keys(value), "x"])] = chance.choice(ODD_VALUES)
        case _:
            inside[last] = chance.choice(ODD_VALUES)
    try:
        return json.dumps(holder.get("it"), default=str).encode()
    except (ValueError, RecursionError):
        return data


def _keys(value: Any) -> list[str]:
    return [path[-1] for path in paths(value) if path and isinstance(path[-1], str)]


def _text(text: str, chance: random.Random) -> str:
    place = chance.randint(0, len(text))
    odd = chance.choice((*ODD_TEXTS, ":", "-", ".", "/", "+", "e", "9", "0", text))
    return text[:place] + odd + text[place + chance.choice((0, 0, 1, 2, len(text))) :]


def _lines(data: bytes, chance: random.Random) -> bytes:
    """One line changed as JSON, lost, doubled, or put elsewhere."""
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    match chance.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, chance.choice(lines))
        case 2 if len(lines) > 1 and lines[place]:
            lines[place] = _json(lines[place], chance) if b"\n" not in lines[place] else lines[place]
        case 3:
            lines[place] = b"  " * chance.randint(0, 4) + lines[place].strip()
        case _:
            lines[place] = _bytes(lines[place], chance)
    return b"\n".join(lines)


def _fields(data: bytes, chance: random.Random) -> bytes:
    """A field of a row whose fields end by a NUL, else a word."""
    separator = b"\0" if b"\0" in data else b" "
    fields = data.split(separator)
    place = chance.randrange(len(fields))
    match chance.randrange(4):
        case 0:
            del fields[place]
        case 1:
            fields.insert(place, chance.choice(fields))
        case 2:
            fields[place] = str(chance.choice((0, 1, -1, 2**31, 2**63, 10**25, chance.randint(-99, 99)))).encode()
        case _:
            fields[place] = chance.choice(_TOKENS)
    return separator.join(fields)


def _bytes(data: bytes, chance: random.Random) -> bytes:
    place = chance.randint(0, len(data))
    match chance.randrange(5):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + chance.choice(_TOKENS) + data[place:]
        case 2:
            return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        case 3:
            return data[:place] + data[place + chance.randint(1, 8) :]
        case _:
            end = place + chance.randint(1, 64)
            return data[:end] + data[place:end] * chance.randint(1, 3) + data[end:]
