#!/usr/bin/env bash
# Calendars: NSE and BSE traded on Saturday 2025-02-01, in full; no calendar has the day, and the hour of Diwali only one of NSE.
#
# One would guess: special sessions that the exchanges announced months before and held are sessions; NSE and BSE keep the same
#   days.
# What happens: XBOM of exchange_calendars has neither the Saturday of the budget (2025-02-01, 09:15 to 15:30), nor the live tests
#   of 2024-01-20, 2024-03-02 and 2024-05-18, nor any Muhurat hour (2023-11-12, 2024-11-01, 2025-10-21). pandas_market_calendars has
#   the Muhurat hours of 2024 and 2025 under NSE, not under BSE, and none of the Saturdays.
# Why it matters: an order that was placed after the close on Friday fills on a day that does not exist: the fill is refused as
#   impossible, or the position is read against Friday's.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check exchange_calendars==4.13.2 pandas_market_calendars==5.5.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "exchange_calendars pandas_market_calendars".split():
    print(package, version(package))

import warnings

import exchange_calendars
import pandas_market_calendars

warnings.simplefilter("ignore")
xbom = exchange_calendars.get_calendar("XBOM", start="2023-01-01", end="2025-12-31")
known = {name: set(pandas_market_calendars.get_calendar(name).schedule("2023-01-01", "2025-12-31").index.strftime("%Y-%m-%d")) for name in ("NSE", "BSE")}
days = ["2024-01-20", "2024-03-02", "2024-05-18", "2025-02-01", "2023-11-12", "2024-11-01", "2025-10-21"]
told = {day: (xbom.is_session(day), day in known["NSE"], day in known["BSE"]) for day in days}
for day, (first, second, third) in told.items():
    print(day, "exchange_calendars XBOM", first, "| pandas_market_calendars NSE", second, "BSE", third)
assert all(told[day] == (False, False, False) for day in days[:5])
assert told["2024-11-01"] == told["2025-10-21"] == (False, True, False)
assert xbom.is_session("2025-01-31") and "2025-01-31" in known["NSE"] & known["BSE"]
print("as stated")
PY
