#!/usr/bin/env bash
# tastytrade: the OCC symbol of the 16.15 call has a strike of nine digits, 000161500, where 16.5 has the right eight.
#
# One would guess: Option.streamer_symbol_to_occ() undoes Option.occ_to_streamer_symbol().
# What happens: the digits behind the point are multiplied by 100, however many there are: .5 becomes 500 and .15 becomes 1500, so
#   that the symbol is a digit too long and says 161.5 to whoever reads the strike from the end. All strikes with cents are affected.
# Why it matters: strikes such as 16.15 or 64.13 are what a split leaves. The quote of such a position finds no position, or the
#   position no quote.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tastytrade==13.2.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "tastytrade".split():
    print(package, version(package))

from tastytrade.instruments import Option

for occ in ("AAPL  260116C00016500", "AAPL  260116C00016150", "NVDA  260116C00064130"):
    streamed = Option.occ_to_streamer_symbol(occ)
    back = Option.streamer_symbol_to_occ(streamed)
    print(repr(occ), "->", streamed, "->", repr(back), "same" if back == occ else f"strike read from the end {int(back[-8:]) / 1000}")
assert Option.streamer_symbol_to_occ(".AAPL260116C16.5") == "AAPL  260116C00016500"
assert Option.streamer_symbol_to_occ(".AAPL260116C16.15") == "AAPL  260116C000161500"

strikes = [f"AAPL  260116C{cents * 10:08d}" for cents in range(1, 100_000)]
wrong = [occ for occ in strikes if Option.streamer_symbol_to_occ(Option.occ_to_streamer_symbol(occ)) != occ]
print("of", len(strikes), "strikes at a cent not given back:", len(wrong))
assert len(wrong) == 90_000 and all(not occ.endswith("00") for occ in wrong)
print("as stated")
PY
