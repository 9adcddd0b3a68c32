#!/usr/bin/env bash
# pyportfolioopt 1.6.0: lp_portfolio() after greedy_portfolio() on one object pairs each weight with another share's price.
#
# One would guess: a DiscreteAllocation "offers multiple methods", so both can be asked of one object. The weights are a dict and the prices a
#   Series, both by ticker: their order does not matter.
# What happens: lp_portfolio() takes weights and prices by position. greedy_portfolio() sorts the object's weights by size and leaves them so: the
#   first weight then meets the first price. A dict of weights in another order than the prices does the same, on a fresh object.
# Seen: 100,000 dollars, prices A 10, B 100, C 500, weights 20, 30 and 50 percent. lp: A 2000, B 300, C 100. greedy: the same. lp once more: C 5000,
#   B 300, A 40, which cost 2,530,400, with 0 left over, as it says.
# Why it matters: comparing the two methods is what one object invites to, and the numbers are what is sent to the broker. Nothing raises: what is
#   left over is worked out by position as well, and says that the money is spent to the cent.
# Instead: a new DiscreteAllocation for each method, with {ticker: weights[ticker] for ticker in latest_prices.index}, and the cost worked out anew.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# pyportfolioopt needs packaging and does not name it.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyportfolioopt==1.6.0 cvxpy==1.9.3 highspy==1.16.0 pandas==3.1.1 numpy==2.4.6 packaging==25.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version

import pandas as pd
from pypfopt import DiscreteAllocation

print("pyportfolioopt", version("pyportfolioopt"))
prices = pd.Series({"A": 10.0, "B": 100.0, "C": 500.0})
weights = {"A": 0.2, "B": 0.3, "C": 0.5}
money = 100_000


def show(said: str, allocation: dict[str, int], left: float) -> tuple[dict[str, int], float, float]:
    cost = float(sum(shares * prices[ticker] for ticker, shares in allocation.items()))
    print(f"{said}: {dict(sorted(allocation.items()))} costs {cost:,.0f}, left over: {float(left):.0f}")
    return allocation, cost, round(float(left), 6)


one = DiscreteAllocation(weights, prices, total_portfolio_value=money)
first = show("lp", *one.lp_portfolio())
greedy = show("greedy, same object", *one.greedy_portfolio())
again = show("lp, same object", *one.lp_portfolio())
turned = show("lp, new object, weights in another order", *DiscreteAllocation(dict(reversed(weights.items())), prices, total_portfolio_value=money).lp_portfolio())

meant = ({"A": 2000, "B": 300, "C": 100}, 100_000.0, 0.0)
assert first == meant and greedy == meant
assert again == turned == ({"A": 40, "B": 300, "C": 5000}, 2_530_400.0, 0.0)
print("as stated")
PY
