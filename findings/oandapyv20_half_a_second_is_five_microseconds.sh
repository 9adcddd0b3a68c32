#!/usr/bin/env bash
# oandapyV20: DateTime("...:00.5Z") is 00.000005, and a time as OANDA writes it is refused.
#
# One would guess: RFC 3339, as the class says: .5 is half a second, and the nine digits of OANDA's own times can be given
#   back, if only to the microsecond.
# What happens: the digits behind the point are taken for a number of microseconds: .5 becomes .000005 and .123 .000123.
#   2026-01-05T15:00:00.123456789Z, the form of each transaction's time, is "Invalid RFC 3339 string".
# Why it matters: "transactions since" begins half a second early, or an order's good-till time is over that much too soon;
#   the obvious bound, the time of the last transaction seen, cannot be used at all.
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

from oandapyV20.types import DateTime

for text in ("2026-01-05T15:00:00.5Z", "2026-01-05T15:00:00.123Z", "2026-01-05T15:00:00.500000Z", "2026-01-05T15:00:00.123456789Z"):
    try:
        print(text, "->", DateTime(text).value)
    except ValueError as error:
        print(text, "->", error)
        assert text.endswith("789Z")
assert DateTime("2026-01-05T15:00:00.5Z").value == "2026-01-05T15:00:00.000005Z"
assert DateTime("2026-01-05T15:00:00.123Z").value == "2026-01-05T15:00:00.000123Z"
assert DateTime("2026-01-05T15:00:00.500000Z").value == "2026-01-05T15:00:00.500000Z"
print("as stated")
PY
