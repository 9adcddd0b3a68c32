#!/usr/bin/env bash
# simplefix: a float or Decimal is written in scientific notation, which FIX does not allow.
#
# One would guess: append_pair(44, 0.00001) writes a FIX float ("0.00001").
# What happens: it writes 1e-05; Decimal("100").normalize() becomes 38=1E+2. The message encodes without
#   complaint. FIX permits digits, a point and a sign.
# Why it matters: the counterparty rejects the order, or reads "1" up to the letter; a quantity of 1E+2 is a
#   hundred to us.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check simplefix==1.0.17
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "simplefix".split():
    print(package, version(package))

from decimal import Decimal

import simplefix

message = simplefix.FixMessage()
message.append_pair(8, "FIX.4.4")
message.append_pair(35, "D")
message.append_pair(44, 0.00001)
message.append_pair(38, Decimal("100").normalize())
raw = message.encode()
print(raw)
assert b"\x0144=1e-05\x01" in raw
assert b"\x0138=1E+2\x01" in raw
print("as stated")
PY
