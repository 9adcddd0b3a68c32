#!/usr/bin/env bash
# polygon 1.2.8 (the community client): the option symbol SDS1220204C00003000 is parsed as SDS220204C00003000, which is another contract.
#
# One would guess: parse_option_symbol(symbol).option_symbol is the symbol, and two symbols that differ are two contracts.
# What happens: digits are taken out of the underlying. OCC puts one there after a corporate action: SDS1 is the contract from before the
#   reverse split of one for five, whose deliverable is a fifth of the shares, and SDS the one listed since. Both may have the same
#   expiry and strike.
# Seen: SDS1 and SDS are equal in all five fields, `option_symbol` among them. And in the format of thinkorswim what the library builds it does not
#   parse: none of the 365 expiries of a year comes back, 144 come back as a day between 2001 and 2012, and the others raise.
# Why it matters: positions keyed by the parsed symbol add an adjusted contract to a plain one: 20 shares counted as 100, priced by the
#   other's quote.
# Instead: take the root as symbol[:-15], digits and all.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check polygon==1.2.8 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from datetime import date, timedelta
from importlib.metadata import version

from polygon import build_option_symbol, parse_option_symbol

print("polygon", version("polygon"))
adjusted, plain = "SDS1220204C00003000", "SDS220204C00003000"
for symbol in (adjusted, plain):
    print(f"{symbol:20} -> {parse_option_symbol(symbol, output_format=dict)}")
assert parse_option_symbol(adjusted, output_format=list) == parse_option_symbol(plain, output_format=list)
assert parse_option_symbol(adjusted).option_symbol == plain

back, others, raised = 0, [], 0
for day in (date(2026, 1, 1) + timedelta(days=n) for n in range(365)):
    try:
        parsed = parse_option_symbol(build_option_symbol("SDS", day, "call", 3, _format="tos"), "tos").expiry
    except ValueError:
        raised += 1
        continue
    if parsed == day:
        back += 1
    else:
        others.append(parsed)
print("tos, built and parsed: same expiry", back, "| another", len(others), "from", min(others), "to", max(others), "| raised", raised)
assert (back, len(others), raised) == (0, 144, 221)
print("as stated")
PY
