#!/usr/bin/env bash
# quantstats 0.0.86: the prices of a coin below one dollar are taken for returns, and returns with one that doubled for prices.
#
# One would guess: sharpe(), volatility() and max_drawdown() of a price do not depend on its unit.
# What happens: each function looks at the numbers to find out what they are. Where none is negative and the largest is above 1
#   they are prices, and otherwise returns. A coin at 0.40 dollars so "returns" 40 percent each day; a month of option trades
#   without a loss, one of which made 150 percent, is a price that falls from 1.50 to 0.
# Seen: prices of 0.40, 0.41, 0.39, ... have a Sharpe ratio of 613 and no drawdown; the same in cents 1.80 and -4.9 percent.
#   The worst day of four that earned 10, 20, 150 and 20 percent is -86.7 percent; with 90 in place of 150 it is the 10.
# Why it matters: neither warns. The figure of one coin of a portfolio is wrong and those of the others right, and it changes by
#   itself on the day that the coin trades above 1.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check quantstats==0.0.86 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version

import pandas as pd
import quantstats as qs

print("quantstats", version("quantstats"))


def figures(prices):
    return {name: round(float(getattr(qs.stats, name)(prices)), 3) for name in ("sharpe", "volatility", "max_drawdown")}


dollars = pd.Series([0.40, 0.41, 0.39, 0.42, 0.40, 0.41], pd.date_range("2026-01-05", periods=6))
seen = figures(dollars), figures(dollars * 100)
print("in dollars", seen[0])
print("in cents  ", seen[1])
assert seen[0]["sharpe"] > 600 and seen[0]["max_drawdown"] == 0
assert 1.7 < seen[1]["sharpe"] < 1.9 and seen[1]["max_drawdown"] == -0.049

days = pd.date_range("2026-01-05", periods=4)
won, won_more = pd.Series([0.1, 0.2, 0.9, 0.2], days), pd.Series([0.1, 0.2, 1.5, 0.2], days)
means = [round(float(qs.stats.avg_return(returns)), 3) for returns in (won, won_more)]
worst = [round(float(qs.stats.worst(returns)), 3) for returns in (won, won_more)]
print("returns of 10, 20, 90, 20 percent: mean", means[0], "worst", worst[0])
print("returns of 10, 20, 150, 20 percent: mean", means[1], "worst", worst[1])
assert worst == [0.1, -0.867]
print("as stated")
PY
