#!/usr/bin/env bash
# ib_async: IB's "unset" is 0.0 in a commission report and 1.797e308 in P&L and portfolio.
#
# One would guess: the SDK treats the marker for "no value" alike everywhere, as None or NaN.
# What happens: realizedPNL of a commission report comes out as 0.0, the same as a trade that made nothing;
#   unrealizedPnL of pnl, pnlSingle and a portfolio row is the number 1.7976931348623157e+308.
# Why it matters: unknown reads as nought in one place and as a fortune in the other; a sum of the second over
#   two rows is inf. A drift limit on P&L fires or never fires.
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
from ib_async.objects import PnLSingle

unset = "1.7976931348623157E308"
contract = ["5", "SPY", "STK", "", "0", "", "", "ARCA", "USD", "SPY", "SPY"]
ib = IB()
decoder = Decoder(ib.wrapper, 178)
single = ib.wrapper.reqId2PnlSingle[2] = PnLSingle("DU1", "", 5)

decoder.interpret(["11", "-1", "3", *contract, "0001.01", "20250110 14:30:00 US/Eastern", "DU1", "ARCA", "BOT", "100",
                   "1.5", "77", "0", "0", "100", "1.5", "", "", "1", "", "2", "0"])
decoder.interpret(["59", "1", "0001.01", "1.0", "USD", unset, unset, ""])
decoder.interpret(["95", "2", "10", unset, unset, unset, "1500"])
decoder.interpret(["7", "8", *contract, "100", "1.5", "150", "1.4", unset, "0", "DU1"])

commission = ib.fills()[0].commissionReport
item = ib.portfolio()[0]
print("commission report:", commission.realizedPNL, "| pnlSingle:", single.unrealizedPnL, "| portfolio:", item.unrealizedPNL)
assert commission.commission == 1.0 and commission.realizedPNL == 0.0
assert single.unrealizedPnL > 1e308 and item.unrealizedPNL > 1e308
print("as stated")
PY
