#!/usr/bin/env bash
# stockholm: from_sub_units(1000, "JPY") is 10.00 JPY, from_sub_units(1000, Currency.JPY) is 1000 JPY, and 1000 "JPY" == 1000 JPY.
#
# One would guess: a currency may be given by its code or as an object, as everywhere in this library, and means the same: the yen has
#   no sub-unit (ISO 4217), the dinar of Kuwait a thousand.
# What happens: a currency given as text is not looked up: every one has a hundred sub-units. The two amounts compare as equal and add
#   up, but their sub_units differ by a factor of a hundred; the sum takes the form of its first term. A Money read from JSON,
#   a dict or text ("1000 JPY") has its currency as text.
# Why it matters: payment providers and brokers that count in the smallest unit report 1000 for 1000 yen, and 12345 for 12.345 dinars:
#   a deposit is booked as a hundredth of itself, or as ten times.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check stockholm==0.5.7
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "stockholm".split():
    print(package, version(package))

from stockholm import Currency, Money

for count, code in ((1000, "USD"), (1000, "JPY"), (12345, "KWD")):
    by_code, by_object = Money.from_sub_units(count, code), Money.from_sub_units(count, getattr(Currency, code))
    print("from_sub_units", count, code, "-> by its code", by_code, "| by the object", by_object, "| equal", by_code == by_object)
assert Money.from_sub_units(1000, "USD") == Money.from_sub_units(1000, Currency.USD)
assert [str(Money.from_sub_units(1000, each)) for each in ("JPY", Currency.JPY)] == ["10.00 JPY", "1000 JPY"]
assert [str(Money.from_sub_units(12345, each)) for each in ("KWD", Currency.KWD)] == ["123.45 KWD", "12.345 KWD"]

text, thing = Money(1000, "JPY"), Money(1000, Currency.JPY)
again = Money.from_json(thing.as_json())
print("1000 yen: equal", text == thing == again, "| sub_units", text.sub_units, thing.sub_units, "| through JSON", again.sub_units)
print("sum of the two, either way:", (text + thing).sub_units, (thing + text).sub_units)
assert text == thing == again and (text.sub_units, thing.sub_units, again.sub_units) == (100000, 1000, 100000)
print("as stated")
PY
