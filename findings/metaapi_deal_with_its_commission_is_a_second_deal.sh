#!/usr/bin/env bash
# metaapi-cloud-sdk 29.1.1: a deal that comes again with its commission is in history_storage.deals twice.
#
# One would guess: a deal is known by its ticket, as in get_deals_by_ticket() and get_deals_by_position() of the same store, where what
#   comes later takes the place of what came before.
# What happens: `deals` and get_deals_by_time_range() keep a deal under the JSON of all its fields. One that comes again unchanged takes
#   its own place; if a single field differs, even in the order of the fields, both stay. `history_orders` do the same.
# Seen: a purchase of 0.5 lots sent first without its commission and then with it: by ticket and by position 0.5 lots, by time 1.0 lots.
# Why it matters: each synchronization asks for the deals from the time of the last known one on, so that this one comes again, with what the
#   server has added to it meanwhile. Who adds volumes or profits over a period counts the trade twice.
# Instead: keep the last of each `id` oneself, or add up by position.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check metaapi-cloud-sdk==29.1.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
import asyncio
from datetime import datetime, timezone
from importlib.metadata import version

from metaapi_cloud_sdk.metaapi.memory_history_storage import MemoryHistoryStorage

print("metaapi-cloud-sdk", version("metaapi-cloud-sdk"))
WIRE = "vint-hill:0:0"
NINE = datetime(2026, 1, 5, 9, tzinfo=timezone.utc)
DEAL = {"id": "7", "type": "DEAL_TYPE_BUY", "entryType": "DEAL_ENTRY_IN", "symbol": "EURUSD", "time": NINE, "volume": 0.5, "price": 1.1}
DEAL |= {"commission": 0.0, "profit": 0.0, "positionId": "7", "orderId": "6"}


async def main():
    store = MemoryHistoryStorage()
    seen = {}
    for what, deal in (("first", DEAL), ("the same again", dict(DEAL)), ("with its commission", DEAL | {"commission": -3.5})):
        await store.on_deal_added(WIRE, deal)
        found = store.get_deals_by_ticket("7"), store.get_deals_by_position("7"), store.get_deals_by_time_range(NINE, NINE), store.deals
        seen[what] = [sum(each["volume"] for each in deals) for deals in found]
        print(f"{what:20} lots by ticket, position, time, all: {seen[what]} | commissions", [each["commission"] for each in store.deals])
    assert seen["first"] == seen["the same again"] == [0.5, 0.5, 0.5, 0.5]
    assert seen["with its commission"] == [0.5, 0.5, 1.0, 1.0]
    print("as stated")


asyncio.run(main())
PY
