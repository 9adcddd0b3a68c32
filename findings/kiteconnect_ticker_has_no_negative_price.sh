#!/usr/bin/env bash
# kiteconnect: a negative price in a tick is read as 42.9 million.
#
# One would guess: the packet's fields are signed (Kite documents them as int32), as crude oil of April 2020
#   at -2,884 rupees a barrel needs.
# What happens: the ticker unpacks unsigned: -288400 paise become 42946788.96.
# Why it matters: a mark to market, a price band or a drift in value is off by a factor of fifteen thousand,
#   on the one day it matters.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check kiteconnect==5.2.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "kiteconnect".split():
    print(package, version(package))

import struct

from kiteconnect import KiteTicker

packet = struct.pack(">Ii", 53490439, -288400)
tick = KiteTicker("key", "token")._parse_binary(struct.pack(">HH", 1, len(packet)) + packet)[0]
print("sent -2884.00, read", tick["last_price"])
assert tick["last_price"] == 42946788.96
print("as stated")
PY
