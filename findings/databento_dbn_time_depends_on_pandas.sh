#!/usr/bin/env bash
# databento-dbn: a trade of November 2023 is in the year 55840, unless pandas is installed.
#
# One would guess: pretty_ts_event is a datetime, or a pandas.Timestamp "if available", of the same moment.
# What happens: without pandas the nanoseconds are taken for a thousand times as much: it raises ValueError ("year 55840 is out of
#   range") for every time of today. With pandas it is right. pandas is no dependency of the package.
# Why it matters: a feed handler that was written on a desk with pandas fails on each message on a server without it.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check databento-dbn==0.72.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "databento-dbn".split():
    print(package, version(package))

import subprocess
import sys

CODE = """
from databento_dbn import Action, Side, TradeMsg
trade = TradeMsg(publisher_id=1, instrument_id=1, ts_event=1_700_000_000_123_456_789, price=100_100_000_000, size=1, action=Action.TRADE, side=Side.BID, depth=0, ts_recv=1_700_000_000_123_456_789)
try:
    print(trade.pretty_price, type(trade.pretty_ts_event).__module__, trade.pretty_ts_event)
except ValueError as error:
    print(trade.pretty_price, "ValueError", error)
"""


def read():
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.strip()


without = read()
print("without pandas:", without)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pandas==3.1.1"], check=True)
beside = read()
print("with pandas:   ", beside)
assert without == "100.1 ValueError year 55840 is out of range"
assert beside.startswith("100.1 pandas") and "2023-11-14 22:13:20.123456789+00:00" in beside
print("as stated")
PY
