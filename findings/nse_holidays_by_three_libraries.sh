#!/usr/bin/env bash
# Calendars: QuantLib's NSE is open on two days of 2025 when NSE was shut and shut on two when it traded.
#
# One would guess: libraries agree on past holidays of the largest derivatives exchange.
# What happens: QuantLib India(NSE) opens on 2025-08-27 and 2025-10-21 (both trading holidays) and closes on
#   2025-02-19 and 2025-09-05 (clearing holidays, the market traded). holidays' XNSE works on 2026-01-15, on
#   which NSE was shut. For 2027 QuantLib knows three days and does not say that the rest is missing.
# Why it matters: a settlement date or "is a fill due today" computed with one and checked with another is a
#   day off.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check QuantLib==1.44 holidays==0.109 exchange_calendars==4.13.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "QuantLib holidays exchange_calendars".split():
    print(package, version(package))

from datetime import date

import exchange_calendars
import holidays
import QuantLib as ql

india, nse = ql.India(ql.India.NSE), holidays.financial_holidays("XNSE", years=[2025, 2026])
bombay = exchange_calendars.get_calendar("XBOM", start="2025-01-01", end="2026-06-30")
seen = {}
for day in (date(2025, 2, 19), date(2025, 8, 27), date(2025, 9, 5), date(2025, 10, 21), date(2026, 1, 15)):
    by_ql = india.isBusinessDay(ql.Date(day.day, day.month, day.year))
    seen[str(day)] = (by_ql, nse.is_working_day(day), bombay.is_session(str(day)))
    print(day, "open by QuantLib, holidays, exchange_calendars:", seen[str(day)])
in_2027 = len(india.holidayList(ql.Date(1, 1, 2027), ql.Date(31, 12, 2027)))
print("holidays of 2027 in QuantLib:", in_2027)
assert seen == {
    "2025-02-19": (False, True, True),
    "2025-08-27": (True, False, False),
    "2025-09-05": (False, True, True),
    "2025-10-21": (True, False, False),
    "2026-01-15": (False, True, False),
}
assert in_2027 == 3
print("as stated")
PY
