#!/usr/bin/env bash
# ib_async: a position in a structured product (IOPT) is handed out as a warrant (WAR).
#
# One would guess: secType comes out as it stood in the message.
# What happens: the wrapper turns each contract into its own class, takes Warrant for IOPT, and
#   Warrant.__init__ sets secType to WAR.
# Why it matters: a filter, key or request by secType misses the holding, and asking IB for that contract
#   names a type that it does not have.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ib_async==2.1.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ib_async".split():
    print(package, version(package))

from ib_async import IB
from ib_async.decoder import Decoder

ib = IB()
fields = ["61", "3", "DU1", "5", "DAX", "IOPT", "20251219", "18000", "C", "100", "SWB", "EUR", "XX1", "XX1", "40", "1.5"]
Decoder(ib.wrapper, 178).interpret(fields)
held = ib.positions()[0]
print("sent secType IOPT, read:", held.contract.secType, "of", type(held.contract).__name__)
assert held.position == 40.0 and held.contract.conId == 5
assert held.contract.secType == "WAR"
print("as stated")
PY
