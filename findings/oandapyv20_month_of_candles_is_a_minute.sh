#!/usr/bin/env bash
# oandapyV20: a year of monthly candles is 1052 requests, each for the candle of eight hours.
#
# One would guess: InstrumentsCandlesFactory cuts a range into requests of "count" candles; twelve months are one request, as
#   53 weeks and 365 days are.
# What happens: granularity "M", OANDA's month, counts as 60 seconds, as M1 does. The factory steps through the year in windows
#   of 500 minutes, and asks for the monthly candle of each.
# Why it matters: a loop over the requests, as the documentation has it, sends a thousand where one was due, runs into OANDA's
#   limit of requests, and writes the same candle again and again, or none where no month begins.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check oandapyV20==0.7.2 requests==2.34.2 six==1.17.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "oandapyV20 requests six".split():
    print(package, version(package))

from oandapyV20.contrib.factories import InstrumentsCandlesFactory


def requests(granularity):
    year = {"granularity": granularity, "from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "count": 500}
    return [request.params for request in InstrumentsCandlesFactory("EUR_USD", year)]


for granularity in ("M", "W", "D", "H4", "M1"):
    made = requests(granularity)
    print(granularity, "->", len(made), "requests, the first from", made[0]["from"], "to", made[0]["to"])
assert len(requests("W")) == len(requests("D")) == 1
assert len(requests("M")) == len(requests("M1")) == 1052
assert requests("M")[0]["to"] == "2025-01-01T08:20:00Z"
print("as stated")
PY
