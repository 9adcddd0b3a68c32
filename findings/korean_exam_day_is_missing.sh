#!/usr/bin/env bash
# Calendars: the Korean exchange opens an hour late on the day of the university exam; since 2021 no library knows.
#
# One would guess: exchange_calendars, which has the late opening of 2016 to 2020 in XKRX, has it for later
#   years too.
# What happens: on 2024-11-14 and 2025-11-13 it says 00:00 to 06:30 UTC where KRX traded 01:00 to 07:30;
#   pandas_market_calendars' XKRX has it for no year.
# Why it matters: for an hour in the morning "no tick, no fill" is taken for a dead feed, and the last hour's
#   fills come after the day was closed.
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
xkrx = exchange_calendars.get_calendar("XKRX", start="2018-01-01", end="2025-12-31")
other = pandas_market_calendars.get_calendar("XKRX")
for day, known in (("2019-11-14", True), ("2020-12-03", True), ("2024-11-14", False), ("2025-11-13", False)):
    opened, closed = (f"{at:%H:%M}" for at in (xkrx.session_open(day), xkrx.session_close(day)))
    theirs = f"{other.schedule(day, day).iloc[0]['market_open']:%H:%M}"
    print(day, "exchange_calendars", opened, closed, "| pandas_market_calendars", theirs)
    assert (opened, closed) == (("01:00", "07:30") if known else ("00:00", "06:30"))
    assert theirs == "00:00"
print("as stated")
PY
