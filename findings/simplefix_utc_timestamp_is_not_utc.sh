#!/usr/bin/env bash
# simplefix: append_utc_timestamp writes an aware time's wall clock as UTC; append_tz_timestamp gives it the machine's offset.
#
# One would guess: an aware datetime (neither docstring rules it out) is converted, and the one with "tz" in
#   its name writes the datetime's own offset.
# What happens: 09:15+05:30 becomes 09:15:00.000 as UTCTimestamp, and on a machine in UTC 09:15:00.000Z as
#   TZTimestamp: both are another instant than was given.
# Why it matters: TransactTime is five and a half hours in the future; the order is refused as stale or early,
#   and fills sort before their orders.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check simplefix==1.0.17
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "simplefix".split():
    print(package, version(package))

import os
import time
from datetime import datetime, timedelta, timezone

import simplefix

os.environ["TZ"] = "UTC"
time.tzset()
opens = datetime(2025, 1, 10, 9, 15, tzinfo=timezone(timedelta(hours=5, minutes=30)))
message = simplefix.FixMessage()
message.append_utc_timestamp(60, opens)
message.append_tz_timestamp(1132, opens)
print(opens.isoformat(), "->", message.pairs)
assert message.get(60) == b"20250110-09:15:00.000"
assert message.get(1132) == b"20250110-09:15:00.000Z"
print("as stated")
PY
