#!/usr/bin/env bash
# quantstats 0.0.86: the quarter to date is empty in its second and third month, and in November and December it is the month to date.
#
# One would guess: after extend_pandas() returns.qtd() is what is since the first day of the current quarter.
# What happens: the first quarter whose month is not before the current one is taken, which is the next quarter's beginning (and
#   so in the future) in all months but January, April, July and October; in November and December there is none, and the
#   beginning of the month is taken.
# Seen: of a year of daily returns, asked on the 15th: January, April, July and October 15 days; February, March, May, June,
#   August and September none; November and December 15 days in place of 46 and 76.
# Why it matters: the sum of the empty series is 0.0: a quarter that is flat. In November the quarter's result is that of two weeks.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check quantstats==0.0.86 time-machine==3.6.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
from datetime import datetime
from importlib.metadata import version

import pandas as pd
import quantstats as qs
import time_machine

print("quantstats", version("quantstats"))
qs.extend_pandas()

year = pd.Series(0.001, pd.date_range("2026-01-01", "2026-12-31"))
seen, right = [], []
for month in range(1, 13):
    today = datetime(2026, month, 15, 12)
    known = year[year.index <= today]
    with time_machine.travel(today, tick=False):
        quarter = known.qtd()
    seen.append(len(quarter))
    right.append(int((known.index >= f"2026-{(month - 1) // 3 * 3 + 1:02}-01").sum()))
    print(f"{today:%d %B}: {seen[-1]:2} days of {right[-1]:2}, sum {float(quarter.sum()):.3f}")
assert right == [15, 46, 74, 15, 45, 76, 15, 46, 77, 15, 46, 76]
assert seen == [15, 0, 0, 15, 0, 0, 15, 0, 0, 15, 15, 15]
print("as stated")
PY
