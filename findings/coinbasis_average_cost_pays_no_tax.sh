#!/usr/bin/env bash
# coinbasis 0.1.0: by average cost a gain of 60,000 has no tax, and an hour makes a gain long-term.
#
# One would guess: the method decides on the cost basis, and tax_estimate() taxes the gain that comes of it. Long-term is "more than a year", which the
#   law counts in days: what is bought on January 5 is long-term from January 6 of the next year on.
# What happens: with AVERAGE a disposal has no date of acquisition, so it is neither short-term nor long-term, and the estimate adds up those two.
#   The year is 365 times 24 hours: later on the same day is more than that, and over February 29 the anniversary itself is.
# Seen: 1 BTC bought for 40,000, sold two years later for 100,000. FIFO: long-term 60,000, tax 1,946.25. AVERAGE: total gain 60,000, short-term 0,
#   long-term 0, tax 0. Bought on 2025-01-05 at 10:00 and sold on 2026-01-05 at 11:00: Long. At 09:00: Short. 2023-06-01 to 2024-06-01: Long.
# Why it matters: money that is not set aside for the tax, and a sale on the anniversary, timed by the library, at 35 percent instead of 15.
# Instead: take total_gain with AVERAGE, and wait for the day after the anniversary.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check coinbasis==0.1.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from datetime import datetime, timezone
from decimal import Decimal
from importlib.metadata import version

from coinbasis import Buy, CostBasisMethod, Portfolio, Sell, TaxConfig

print("coinbasis", version("coinbasis"))


def bought_and_sold(bought, sold):
    common = {"wallet": "w", "asset": "BTC", "quantity": Decimal(1), "fee": Decimal(0)}
    at = [datetime.fromisoformat(time).replace(tzinfo=timezone.utc) for time in (bought, sold)]
    trades = [Buy(timestamp=at[0], unit_price=Decimal(40_000), **common), Sell(timestamp=at[1], unit_price=Decimal(100_000), **common)]
    return Portfolio.from_transactions(trades)


portfolio = bought_and_sold("2024-01-02", "2026-01-05")
seen = {}
for method in (CostBasisMethod.FIFO, CostBasisMethod.AVERAGE):
    report = portfolio.capital_gains_report(method, tax_year=2026)
    tax = portfolio.tax_estimate(method, 2026, TaxConfig.default()).total_tax
    seen[method.name] = (report.total_gain, report.short_term_gain, report.long_term_gain, tax)
    print(f"{method.name:7} total, short-term, long-term, tax:", *seen[method.name])
assert seen == {"FIFO": (60_000, 0, 60_000, Decimal("1946.25")), "AVERAGE": (60_000, 0, 0, 0)}

terms = []
for bought, sold in (("2025-01-05 10:00", "2026-01-05 09:00"), ("2025-01-05 10:00", "2026-01-05 11:00"), ("2023-06-01", "2024-06-01")):
    (gain,) = bought_and_sold(bought, sold).realized_gains(CostBasisMethod.FIFO)
    terms.append(gain.term.value)
    print(bought, "to", sold, "->", gain.term.value)
assert terms == ["Short", "Long", "Long"]
print("as stated")
PY
