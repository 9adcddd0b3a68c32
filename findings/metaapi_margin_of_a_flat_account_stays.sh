#!/usr/bin/env bash
# metaapi-cloud-sdk 29.1.1: the margin of an account that has gone flat stays what it was, and the profit of a position in an index is
#   rounded to whole dollars.
#
# One would guess: each packet of prices brings equity, margin, free margin and margin level, and account_information shows the last of
#   each; a profit has the decimals of the account's currency.
# What happens: a margin of 0 counts as none sent, and the old one stays beside the new free margin; so does a free margin of 0. A
#   position's profit is worked out from the price and rounded to the `digits` of its symbol, and the equity of a packet that has
#   none is added up from that.
# Seen: a position closed, margin 0 sent: margin 25.6, free margin 1000.43, equity 1000.43. 0.1 lots of an index of no decimals, 67
#   points up, has a profit of 0.0, where it earned 0.43 dollars; 84 points are 1.0. In EURUSD, with five digits, a profit is 0.12346.
# Why it matters: the margin used is the quick test of "is anything open"; and the sum of the profits of a hundred small positions is off by
#   up to fifty dollars from what the terminal shows.
# Instead: take the margin as free margin short of equity, and profits from get_positions() of the RPC connection.
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

from metaapi_cloud_sdk.metaapi.terminal_hash_manager import TerminalHashManager
from metaapi_cloud_sdk.metaapi.terminal_state import TerminalState

print("metaapi-cloud-sdk", version("metaapi-cloud-sdk"))
WIRE, NINE = "vint-hill:0:0", datetime(2026, 1, 5, 9, tzinfo=timezone.utc)
INDEX = {"symbol": "JP225", "digits": 0, "tickSize": 1.0}
EURUSD = {"symbol": "EURUSD", "digits": 5, "tickSize": 0.00001}


class Account:
    id, type, server, account_regions = "ACCOUNT", "cloud-g2", "Broker-Demo", {"vint-hill": "ACCOUNT"}


class Client:
    def get_hashing_ignored_field_lists(self, region):
        return {generation: {"specification": [], "position": [], "order": []} for generation in ("g1", "g2")}


def price(symbol, bid, tick_value):
    return {"symbol": symbol, "time": NINE, "bid": bid, "ask": bid, "profitTickValue": tick_value, "lossTickValue": tick_value}


async def opened(specification, volume, opening, tick_value):
    state = TerminalState(Account(), TerminalHashManager(Client(), True), None)
    position = {"id": "46", "type": "POSITION_TYPE_BUY", "symbol": specification["symbol"], "magic": 0, "openPrice": opening, "volume": volume}
    position |= {"profit": 0.0, "unrealizedProfit": 0.0, "realizedProfit": 0.0, "currentPrice": opening, "currentTickValue": tick_value}
    await state.on_connected(WIRE, 1)
    await state.on_synchronization_started(WIRE, synchronization_id="s")
    await state.on_account_information_updated(WIRE, {"platform": "mt5", "balance": 1000.0, "equity": 1000.0})
    await state.on_symbol_specifications_updated(WIRE, [specification], [])
    await state.on_positions_replaced(WIRE, [position])
    await state.on_positions_synchronized(WIRE, "s")
    await state.on_pending_orders_replaced(WIRE, [])
    await state.on_pending_orders_synchronized(WIRE, "s")
    return state


async def main():
    profits = []
    for specification, volume, opening, bid, tick_value in (
        (INDEX, 0.1, 40000.0, 40067.0, 0.064),
        (INDEX, 0.1, 40000.0, 40084.0, 0.064),
        (EURUSD, 0.01, 1.1, 1.10123, 0.1003739837),
    ):
        state = await opened(specification, volume, opening, tick_value)
        await state.on_symbol_prices_updated(WIRE, [price(specification["symbol"], bid, tick_value)])
        profits.append((state.positions[0]["profit"], state.account_information["equity"]))
        earned = (bid - opening) / specification["tickSize"] * tick_value * volume
        print(f"{specification['symbol']:7} earned {earned:.7f} -> profit {profits[-1][0]}, equity {profits[-1][1]}")
    assert profits == [(0.0, 1000.0), (1.0, 1001.0), (0.12346, 1000.12)]

    state = await opened(INDEX, 0.1, 40000.0, 0.064)
    await state.on_symbol_prices_updated(WIRE, [price("JP225", 40067.0, 0.064)], equity=1000.43, margin=25.6, free_margin=974.83, margin_level=3908.0)
    await state.on_positions_updated(WIRE, [], ["46"])
    await state.on_symbol_prices_updated(WIRE, [price("JP225", 40067.0, 0.064)], equity=1000.43, margin=0.0, free_margin=1000.43, margin_level=0.0)
    flat = {name: state.account_information[name] for name in ("equity", "margin", "freeMargin")}
    print("closed, and a margin of 0 sent:", state.positions, flat)
    assert state.positions == [] and flat == {"equity": 1000.43, "margin": 25.6, "freeMargin": 1000.43}
    print("as stated")


asyncio.run(main())
PY
