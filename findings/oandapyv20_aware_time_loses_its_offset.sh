#!/usr/bin/env bash
# oandapyV20: DateTime() writes the wall clock of an aware time and a Z behind it.
#
# One would guess: 09:00+05:30 becomes 03:30Z, or is refused.
# What happens: it becomes 09:00:00Z: the offset is dropped and UTC is claimed.
# Why it matters: a good-till time or a "transactions since" bound is hours off: an order lives five and a
#   half hours longer, or the fills between are not asked for.
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

from datetime import datetime, timedelta, timezone

from oandapyV20.types import DateTime

kolkata = timezone(timedelta(hours=5, minutes=30))
value = DateTime(datetime(2025, 1, 10, 9, 0, tzinfo=kolkata)).value
print("09:00+05:30 ->", value)
assert value == "2025-01-10T09:00:00.000000Z"
print("as stated")
PY
