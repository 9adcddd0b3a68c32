#!/usr/bin/env bash
# Calendars: exchange_calendars has Johannesburg open on five days by decree, QuantLib Warsaw on Good Friday, holidays Mumbai on election days.
#
# One would guess: a day in the past on which an exchange did not trade is in every library of exchange calendars; or one of them is the
#   one to trust.
# What happens: each has a market right that another has wrong. Johannesburg was shut on the days that the president proclaimed as holidays
#   (Christmas on a Sunday, the Rugby World Cup, elections); exchange_calendars has none since 2021, QuantLib and holidays all. In Hong
#   Kong the whole day was called off for Talim, Saola and the black rain of September 2023 and for Yagi a year later: exchange_calendars
#   has two of the four, QuantLib none, holidays all. Warsaw does not trade on Good Friday: QuantLib's WSE does, each year.
#   Mumbai was shut on 2024-01-22, 2024-05-20 and 2024-11-20: holidays has it open.
# Why it matters: who counts settlement in sessions, or expects a price and a statement for each session, waits for a day that there was not,
#   and is a day early with every settlement behind it. A check of one library against a second does not show what both lack.
# Instead: take a day as a session when the broker or the exchange has a price for it; ask two libraries, and look up what differs.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check exchange_calendars==4.13.2 holidays==0.108 quantlib==1.44 pandas==3.1.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from datetime import date
from importlib.metadata import version

import exchange_calendars
import holidays
import QuantLib as ql

for package in ("exchange_calendars", "holidays", "quantlib"):
    print(package, version(package))

QUANTLIB = {
    "XJSE": ql.SouthAfrica(),
    "XHKG": ql.HongKong(ql.HongKong.HKEx),
    "XWAR": ql.Poland(ql.Poland.WSE),
    "XBOM": ql.India(ql.India.NSE),
}
SHUT = {
    "XJSE": ["2021-11-01", "2022-12-27", "2023-12-15", "2024-05-29", "2026-11-04"],
    "XHKG": ["2023-07-17", "2023-09-01", "2023-09-08", "2024-09-06"],
    "XWAR": ["2022-04-15", "2023-04-07", "2024-03-29", "2025-04-18", "2026-04-03"],
    "XBOM": ["2024-01-22", "2024-05-20", "2024-11-20"],
}
known = {}
for exchange, days in SHUT.items():
    by_exchange_calendars = exchange_calendars.get_calendar(exchange, start="2021-01-01", end="2026-11-30")
    by_holidays = holidays.financial_holidays(exchange)
    for text in days:
        day = date.fromisoformat(text)
        shut = {
            "exchange_calendars": not by_exchange_calendars.is_session(text),
            "QuantLib": QUANTLIB[exchange].isHoliday(ql.Date(day.day, day.month, day.year)),
            "holidays": day in by_holidays,
        }
        print(exchange, text, f"{day:%a}", {library: "shut" if it else "open" for library, it in shut.items()})
        for library, it in shut.items():
            known[exchange, library] = known.get((exchange, library), 0) + it
seen = {exchange: [known[exchange, library] for library in ("exchange_calendars", "QuantLib", "holidays")] for exchange in SHUT}
print("days known by exchange_calendars, QuantLib, holidays:", seen, "of", {exchange: len(days) for exchange, days in SHUT.items()})
assert seen["XJSE"] == [0, 5, 5]
assert seen["XHKG"] == [2, 0, 4]
assert seen["XWAR"] == [5, 0, 5]
assert seen["XBOM"][0] == 3 and seen["XBOM"][2] == 0
print("as stated")
PY
