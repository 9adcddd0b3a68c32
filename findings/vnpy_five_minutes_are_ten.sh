#!/usr/bin/env bash
# vnpy: a five-minute bar of a future that did not trade in its fifth minute has ten minutes in it, and the next bar is missing.
#
# One would guess: BarGenerator(window=5) closes a bar when a minute of the next five arrives, as it does for hours, so that a bar never
#   holds what belongs to the next.
# What happens: a bar is closed by the minute bar that ends it (:04, :09, ...) and by nothing else. No trade, no tick, no minute bar:
#   the bar stays open, takes the whole next window in, and bears the time of the first. With no trade in :34 and :39 it is fifteen. An
#   hour is closed by its 59th minute or by the first of the next hour.
# Why it matters: a contract that trades now and then (a far month, the night session, an option) gives bars of twice the volume and
#   range, five minutes late, and indicators with a gap that nobody sees: nothing is missing in a list that is only shorter.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# Without what its windows and charts need: the bars need ta-lib and numpy alone.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ta-lib==0.8.2 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps vnpy==4.5.0
cd "$work"

HOME="$work" "$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "vnpy ta-lib numpy".split():
    print(package, version(package))

from datetime import datetime, timedelta

from vnpy.trader.constant import Exchange, Interval
from vnpy.trader.object import BarData
from vnpy.trader.utility import BarGenerator


def bars(silent, minutes, window, interval):
    made = []
    generator = BarGenerator(lambda bar: None, window=window, on_window_bar=made.append, interval=interval)
    for minute in range(minutes):
        if minute not in silent:
            price, at = 100.0 + minute, datetime(2026, 1, 5, 9) + timedelta(minutes=minute)
            bar = BarData("test", "rb2605", Exchange.SHFE, at, open_price=price, high_price=price, low_price=price, close_price=price, volume=1)
            generator.update_bar(bar)
    return [(f"{bar.datetime:%H:%M}", bar.open_price, bar.close_price, bar.volume) for bar in made]


every, fourth, two = (bars(silent, 20, 5, Interval.MINUTE) for silent in ((), (4,), (4, 9)))
for name, made in (("a trade each minute", every), ("none in 09:04", fourth), ("none in 09:04 and 09:09", two)):
    print(name, "-> bars (from, open, close, volume):", *made)
assert every == [("09:00", 100, 104, 5), ("09:05", 105, 109, 5), ("09:10", 110, 114, 5), ("09:15", 115, 119, 5)]
assert fourth == [("09:00", 100, 109, 9), ("09:10", 110, 114, 5), ("09:15", 115, 119, 5)]
assert two == [("09:00", 100, 114, 13), ("09:15", 115, 119, 5)]
hours = bars((59,), 121, 1, Interval.HOUR)
print("hours, none in 09:59 ->", *hours)
assert hours == [("09:00", 100, 158, 59), ("10:00", 160, 219, 60)]
print("as stated")
PY
