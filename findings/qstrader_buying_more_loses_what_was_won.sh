#!/usr/bin/env bash
# qstrader 0.3.0: a realised profit of 180 becomes a realised loss of 638 when more is bought, and 0 when the position is closed.
#
# One would guess: what is realised is settled by the sale, and stays; what comes later changes the unrealised part.
# What happens: a position keeps the average of all purchases and of all sales since it was opened, and works out what is realised from the two
#   each time. A purchase so changes the profit of a sale that was before it. A position of 0 is deleted, with its profit.
# Seen: 100 bought at 10 and 90 of them sold at 12 realise 180. 1000 bought at 20: realised -638.18, unrealised +918.18, of a position that is
#   worth what was paid for nearly all of it. All sold at 20: realised 0, unrealised 0, while the cash is up by 280.
# Why it matters: total_realised_pnl() is neither the figure of a broker's statement (FIFO: 180, then 280) nor that of average cost, and the taxable
#   gain of a year changes by a purchase in it. Only cash and equity are right.
# Instead: take the transactions from the portfolio's history and work out gains by the method of the broker.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check qstrader==0.3.0 pandas==3.1.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version

import pandas as pd
from qstrader.broker.portfolio.portfolio import Portfolio
from qstrader.broker.transaction.transaction import Transaction

print("qstrader", version("qstrader"))
portfolio = Portfolio(pd.Timestamp("2026-01-05", tz="UTC"), starting_cash=100_000.0)
seen = []
for day, quantity, price in ((6, 100, 10.0), (7, -90, 12.0), (8, 1000, 20.0), (9, -1010, 20.0)):
    portfolio.transact_asset(Transaction("EQ:ABC", quantity, pd.Timestamp(f"2026-01-{day:02d}", tz="UTC"), price, day))
    handler = portfolio.pos_handler
    seen.append((round(handler.total_realised_pnl(), 2), round(handler.total_unrealised_pnl(), 2), portfolio.total_equity))
    print(f"{'buy' if quantity > 0 else 'sell':4} {abs(quantity):4} at {price} -> realised, unrealised, equity: {seen[-1]}")
assert seen == [(0.0, 0.0, 100000.0), (180.0, 20.0, 100200.0), (-638.18, 918.18, 100280.0), (0, 0, 100280.0)]
print("as stated")
PY
