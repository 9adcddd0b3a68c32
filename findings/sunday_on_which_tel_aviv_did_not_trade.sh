#!/usr/bin/env bash
# Calendars: on Sunday 2026-01-04 Tel Aviv did not trade; QuantLib and both calendars of pandas_market_calendars have the day open.
#
# One would guess: the libraries, which all know of the move from a week of Sunday to Thursday to one of Monday to Friday on 2026-01-05,
#   have the last day of the old week and the hours of the new one.
# What happens: the exchange announced in December 2025 that there would be no trading on Sunday, January 4, nor on any Sunday after
#   it; the old week ended on Thursday, January 1. pandas_market_calendars 5.5.0 ("TASE" and "XTAE") and QuantLib 1.44 take the
#   Sunday for the last day of the old one. The two calendars of one package close the days after it at 15:59 and at 17:15, and
#   Fridays at 13:34 and 13:50 (which is the exchange's own hour). exchange_calendars 4.13.2, from which "XTAE" comes, cannot make
#   that calendar itself: the early closes of its Sundays "are not sessions".
# Why it matters: who reconciles at the close waits for the prices of a day that there was not, or takes the positions of an hour and
#   a quarter before the close for those of the close.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check exchange_calendars==4.13.2 pandas_market_calendars==5.5.0 quantlib==1.44 pandas==3.1.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from datetime import date, timedelta
from importlib.metadata import version

import exchange_calendars
import pandas_market_calendars
import QuantLib as ql

for package in ("exchange_calendars", "pandas_market_calendars", "quantlib"):
    print(package, version(package))

days = [date(2026, 1, 1) + timedelta(days=n) for n in range(10)]
open_on = {"the exchange": [1, 5, 6, 7, 8, 9]}
tel_aviv = ql.Israel(ql.Israel.TASE)
open_on["QuantLib"] = [day.day for day in days if tel_aviv.isBusinessDay(ql.Date(day.day, day.month, day.year))]
closes = {}
for name in ("TASE", "XTAE"):
    schedule = pandas_market_calendars.get_calendar(name).schedule(days[0], days[-1], tz="Asia/Jerusalem")
    open_on[name] = [each.day for each in schedule.index]
    closes[name] = {each.day: f"{close:%H:%M}" for each, close in schedule["market_close"].items()}
for name, open_days in open_on.items():
    print(f"{name:13} January 2026: {open_days}", {day: closes[name][day] for day in (8, 9)} if name in closes else "")
assert open_on["QuantLib"] == open_on["TASE"] == open_on["XTAE"] == [1, 4, 5, 6, 7, 8, 9]
assert [closes["TASE"][day] for day in (8, 9)] == ["15:59", "13:34"]
assert [closes["XTAE"][day] for day in (8, 9)] == ["17:15", "13:50"]

try:
    exchange_calendars.get_calendar("XTAE")
except ValueError as error:
    print("exchange_calendars:", str(error)[:16], "...", str(error)[-17:])
    assert str(error).endswith("are not sessions.")
else:
    raise SystemExit("exchange_calendars makes the calendar now")
print("as stated")
PY
