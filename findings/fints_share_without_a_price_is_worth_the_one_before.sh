#!/usr/bin/env bash
# fints 5.0.1: a holding for which the bank gives no value has the value of the holding before it; a short position has that too, and no quantity.
#
# One would guess: get_holdings() gives None for what the bank's statement (MT535) does not say. Quantities are pieces of shares or the face
#   amount of a bond, and N in front of a number is SWIFT's minus.
# What happens: everything but total_value is cleared from one holding to the next. Where the value is not given, or begins with N, the last
#   one stays. "UNIT/N50," and "FAMT/10000," are no quantity, and a price in percent is no price: pieces and market_value are None.
# Seen: 100 SAP worth 20,000; a certificate that was suspended, without a price: 20,000. 10,000 of a federal bond worth 8,550: pieces None, value
#   8,550. 50 Apple short, -11,500: pieces None, value 8,550. In all 57,100, where the values that the bank gives make 17,050.
# Why it matters: what has no price is worth what stands above it, a debt is an asset, and the sum of total_value, the account's worth, is a number
#   that nobody can tell from a right one. Bonds and shorts drop out of a comparison by quantity.
# Instead: read the fields 93B, 19A, 90A and 90B of the statement oneself, with N, FAMT and PRCT; of Holding take ISIN and name alone.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check fints==5.0.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > holdings.mt535 <<'MT535'
:16R:GENL
:28E:1/ONLY
:16S:GENL
:16R:FIN
:35B:ISIN DE0007164600
/DE/716460
SAP SE O.N.
:90B::MRKT//ACTU/EUR200,
:98A::PRIC//20260105
:93B::AGGR//UNIT/100,
:19A::HOLD//EUR20000,
:16S:FIN
:16R:FIN
:35B:ISIN DE000ABC1235
/DE/ABC123
CERTIFICATE, SUSPENDED
:93B::AGGR//UNIT/500,
:16S:FIN
:16R:FIN
:35B:ISIN DE0001102580
/DE/110258
BUNDANL.V.22/32
:90A::MRKT//PRCT/85,5
:98A::PRIC//20260105
:93B::AGGR//FAMT/10000,
:19A::HOLD//EUR8550,
:16S:FIN
:16R:FIN
:35B:ISIN US0378331005
/DE/865985
APPLE INC.
:90B::MRKT//ACTU/EUR230,
:98A::PRIC//20260105
:93B::AGGR//UNIT/N50,
:19A::HOLD//NEUR11500,
:16S:FIN
-
MT535

venv/bin/python - <<'PY'
from importlib.metadata import version
from pathlib import Path

from fints.utils import MT535_Miniparser  # what FinTS3Client.get_holdings() hands the bank's answer to

print("fints", version("fints"))
holdings = [(one.name, one.pieces, one.market_value, one.total_value) for one in MT535_Miniparser().parse(Path("holdings.mt535").read_text().splitlines())]
for name, pieces, price, value in holdings:
    print(f"{name}: pieces {pieces}, price {price}, value {value}")
total = sum(value for *_, value in holdings)
print("in all", total, "| at the bank", 20000 + 8550 - 11500)
assert holdings == [
    ("SAP SE O.N.", 100.0, 200.0, 20000.0),
    ("CERTIFICATE, SUSPENDED", 500.0, None, 20000.0),
    ("BUNDANL.V.22/32", None, None, 8550.0),
    ("APPLE INC.", None, 230.0, 8550.0),
]
assert total == 57100.0
print("as stated")
PY
