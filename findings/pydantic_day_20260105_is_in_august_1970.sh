#!/usr/bin/env bash
# pydantic 2.14.4: the day "20260105" is 1970-08-23, and a Decimal that comes as a JSON number has been a float.
#
# One would guess: the text "20260105", as FIX, OFX and Interactive Brokers write a day, is either that day or refused by a field that
#   is a datetime; a Decimal field gets the digits that the JSON has.
# What happens: a text of digits is a Unix time, in seconds or, from 20,000,000,000 on, in milliseconds. "20260105" is so a moment of
#   August 1970 and "20260105153000" one of the year 2612; also AwareDatetime takes them, for they are in UTC then. A `date` refuses the
#   first, as it is no midnight. A number with a point is read as a float before it becomes a Decimal; the same number as a text
#   is exact, and so is a whole number of any length.
# Seen: 1970-08-23 11:48:25 and 2612-01-07; 1234567.890123456789 becomes 1234567.8901234567. msgspec 0.23.0 refuses the first and
#   reads the second exactly.
# Why it matters: a settlement day or a trade date passes validation and sorts before everything. A balance of a coin with eighteen
#   decimals is not that of the exchange, and 1.10 is 1.1, where the number of decimals says how a price is quoted.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pydantic==2.14.4 msgspec==0.23.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from datetime import date, datetime
from decimal import Decimal
from importlib.metadata import version

import msgspec
from pydantic import AwareDatetime, TypeAdapter, ValidationError

for package in ("pydantic", "msgspec"):
    print(package, version(package))


def read(kind, text):
    """What pydantic and msgspec make of this JSON."""
    read = []
    for parse in (TypeAdapter(kind).validate_json, msgspec.json.Decoder(datetime if kind is AwareDatetime else kind).decode):
        try:
            read.append(str(parse(text)))
        except (ValidationError, msgspec.ValidationError):
            read.append("refused")
    print(f"{getattr(kind, '__name__', kind)} {text}: pydantic {read[0]}, msgspec {read[1]}")
    return tuple(read)


assert read(datetime, '"20260105"') == ("1970-08-23 11:48:25+00:00", "refused")
assert read(AwareDatetime, '"20260105"') == ("1970-08-23 11:48:25+00:00", "refused")
assert read(datetime, '"20260105153000"') == ("2612-01-07 22:59:13+00:00", "refused")
assert read(date, '"20260105"') == ("refused", "refused")
assert read(Decimal, "1234567.890123456789") == ("1234567.8901234567", "1234567.890123456789")
assert read(Decimal, '"1234567.890123456789"') == ("1234567.890123456789", "1234567.890123456789")
assert read(Decimal, "1234567890123456789012") == ("1234567890123456789012", "1234567890123456789012")
assert read(Decimal, "1.10") == ("1.1", "1.10")
print("as stated")
PY
