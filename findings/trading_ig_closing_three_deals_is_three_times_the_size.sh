#!/usr/bin/env bash
# trading-ig: a deal over 3 that closes three positions is three rows of size 3; one that did nothing is no row.
#
# One would guess: a row per activity, or a row per affected deal with that deal's share.
# What happens: the frame of activities has a row per entry of IG's list "actions" ("deal affected by an activity"), and each
#   repeats the size of the whole deal. An activity with an empty list, such as a deal that was refused, is left out.
# Why it matters: the sum of the sizes is 10 where 4 were dealt; and a refused deal cannot be told from one that was never
#   sent.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check trading-ig==0.0.25 pandas==3.1.1 munch==4.0.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "trading-ig pandas munch".split():
    print(package, version(package))

from trading_ig.rest import IGService


def activity(deal, size, status, *actions):
    blank = dict.fromkeys(("goodTillDate", "stopLevel", "stopDistance", "trailingStopDistance", "trailingStep", "limitLevel", "limitDistance"))
    details = {**blank, "dealReference": "R" + deal, "marketName": "EUR/USD", "currency": "USD", "size": size, "direction": "SELL", "level": 1.1, "guaranteedStop": False,
               "actions": [{"actionType": kind, "affectedDealId": affected} for kind, affected in actions]}
    return {"date": "2026-01-05T10:00:00", "epic": "CS.D.EURUSD.CFD.IP", "period": "-", "dealId": deal, "channel": "PUBLIC_WEB_API", "type": "POSITION", "status": status,
            "description": "", "details": details}


closing = activity("D4", 3, "ACCEPTED", ("POSITION_CLOSED", "D1"), ("POSITION_CLOSED", "D2"), ("POSITION_CLOSED", "D3"))
opening = activity("D6", 1, "ACCEPTED", ("POSITION_OPENED", "D6"))
refused = activity("D5", 2, "REJECTED")
frame = IGService.format_activities({"activities": [closing, opening, refused]})
print(frame[["dealId", "status", "size", "actionType", "affectedDealId"]].to_string(index=False))
print("sum of size:", frame["size"].sum())
assert list(frame["dealId"]) == ["D4", "D4", "D4", "D6"] and frame["size"].sum() == 10
print("as stated")
PY
