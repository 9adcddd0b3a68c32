#!/usr/bin/env bash
# ib_async 2.1.0: where TWS sends times in UTC ("20260105-15:00:00"), an execution is at 15:00 of the machine's zone.
#
# One would guess: the time of an execution is the moment at which it happened, whichever of the formats TWS is set to send.
# What happens: TWS has three settings for times: with the zone of its operator, with that of the instrument, or in UTC, which
#   is written with a dash between date and time. The dash is removed before the text is read, and the time then has no zone; it
#   is taken for the machine's, or for IB.TimezoneTWS where that is set.
# Seen: on a machine in New York "20260105-15:00:00" is 20:00 UTC, and "20260105 15:00:00 UTC" is 15:00 UTC.
# Why it matters: executions that are filtered by the start of the day, or matched with one's own log, are hours off; those of the
#   evening are of another day. Whoever set TimezoneTWS to be safe has the fault on a machine that runs on UTC, too.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ib_async==2.1.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > execution.py <<'PY'
import sys
from datetime import timezone
from importlib.metadata import version

from ib_async import IB

print("ib_async", version("ib_async"), *sys.argv[1:])


def read(text, zone=""):
    """The time of an execution that TWS reports with this text, in UTC."""
    ib = IB()
    ib.TimezoneTWS = zone
    ib.client.decoder.serverVersion = 178
    seen = []
    ib.wrapper.execDetails = lambda _, contract, execution: seen.append(execution)
    contract = ["265598", "AAPL", "STK", "", "0", "", "", "NASDAQ", "USD", "AAPL", "NMS"]
    fill = ["0000e0d5.1.01.01", text, "DU0000000", "NASDAQ", "BOT", "100", "231.5", "900001", "7", "0", "100", "231.5", "", "", "", "", "2", "0"]
    ib.client.decoder.interpret(["11", "1", "17", *contract, *fill])
    [execution] = seen
    utc = execution.time.astimezone(timezone.utc)
    print(f"  {text} with TimezoneTWS {zone!r}: {utc:%H:%M} UTC")
    return f"{utc:%H:%M}"


assert read("20260105 15:00:00 UTC") == "15:00"
assert read("20260105 10:00:00 America/New_York") == "15:00"
assert read("20260105-15:00:00", "America/New_York") == "20:00"
assert read("20260105-15:00:00") == sys.argv[2]
PY
TZ=America/New_York venv/bin/python execution.py New_York 20:00
TZ=Asia/Kolkata venv/bin/python execution.py Kolkata 09:30
TZ=UTC venv/bin/python execution.py UTC 15:00
echo "as stated"
