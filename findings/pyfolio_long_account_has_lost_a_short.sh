#!/usr/bin/env bash
# pyfolio-reloaded 0.10.1: extract_round_trips() cuts each quantity to a whole number, so that a coin bought in parts is sold short.
#
# One would guess: "long and short transactions are matched" by their amounts, "in a FIFO-order", and 1.8 bought and 1.8 sold is one trade that
#   was long.
# What happens: amounts within eight hours in one direction are added up, and then cut: 0.9 is nothing, 1.9 is 1. What the parts lose on the way
#   in is not lost on the way out: the sale opens a short position, which the next purchase closes.
# Seen: 1.9 bitcoin bought at 90,000 and sold at 100,000: a profit of 10,000 instead of 19,000. 0.9 and 0.9 bought at 90,000 on two days, 1.8 sold
#   at 100,000, 1.2 bought at 110,000 and kept: one trade, short, that lost 10,000, where a long one won 18,000. The same in units of a
#   tenth (9, 9, 18, 12): long, and 18,000.
# Why it matters: coins and fractional shares are what brokers trade. Win rate, profit by side and profit by symbol of the tear sheet turn round,
#   and an account that never was short is judged by a short trade.
# Instead: hand in thousandths, (amount * 1000).round(), and the prices divided by 1000. Each unit is an entry in a list: do not go down to satoshi.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyfolio-reloaded==0.10.1 pandas==3.1.1 numpy==2.4.6 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version

import pandas as pd
from pyfolio.round_trips import extract_round_trips

print("pyfolio-reloaded", version("pyfolio-reloaded"), "pandas", version("pandas"))


def trips(*trades, units=1):
    """The round trips of (day, amount, price), each as side and profit."""
    rows = [{"dt": pd.Timestamp(2026, 1, day, 15, tz="UTC"), "amount": amount * units, "price": price / units, "symbol": "BTC"} for day, amount, price in trades]
    found = extract_round_trips(pd.DataFrame(rows).set_index("dt"))
    return [("long" if is_long else "short", round(float(pnl), 2)) for is_long, pnl in zip(found["long"], found["pnl"])]


whole = trips((5, 1.9, 90_000.0), (6, -1.9, 100_000.0))
print("1.9 bought at 90000 and sold at 100000:", whole)
in_parts = (5, 0.9, 90_000.0), (6, 0.9, 90_000.0), (7, -1.8, 100_000.0), (8, 1.2, 110_000.0)
parts = trips(*in_parts)
print("0.9 and 0.9 bought at 90000, 1.8 sold at 100000, 1.2 bought at 110000:", parts)
tenths = trips(*in_parts, units=10)
print("the same in tenths:", tenths)
assert whole == [("long", 10_000.0)]
assert parts == [("short", -10_000.0)]
assert tenths == [("long", 18_000.0)]
print("as stated")
PY
