#!/usr/bin/env bash
# metaapi-cloud-sdk 29.1.1: positions that were closed while the connection was down are still in terminal_state.positions when all of
#   them were.
#
# One would guess: terminal_state is the "local copy of remote terminal state": after a synchronization it has what the terminal sent.
# What happens: at the end of a synchronization the copy that is handed out takes the new positions if there are any, or those named by
#   the hash that client and server agreed on. An empty list is neither, and the copy keeps what it had before. Orders are kept so, too.
# Seen: position 46 before the connection broke, [] in the synchronization behind it, and 46 still held, with `connected` and
#   `connected_to_broker` true; the copy of the one connection, on which nobody can ask, is empty. Where 46 was closed and 47
#   opened meanwhile, there is 47 alone: all are gone, or none.
# Why it matters: a night's stop-outs flatten an account, and the book says that it holds what it held. A strategy closes it again, which is
#   an order in the other direction on a netting account.
# Instead: take positions from the RPC connection (get_positions()) or from on_positions_replaced() of a listener of one's own.
#
# The calls below are those that the SDK's client makes for the packets synchronizationStarted, accountInformation, positions and orders.
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check metaapi-cloud-sdk==29.1.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
import asyncio
from importlib.metadata import version

from metaapi_cloud_sdk.metaapi.terminal_hash_manager import TerminalHashManager
from metaapi_cloud_sdk.metaapi.terminal_state import TerminalState

print("metaapi-cloud-sdk", version("metaapi-cloud-sdk"))
WIRE = "vint-hill:0:0"


class Account:
    id, type, server, account_regions = "ACCOUNT", "cloud-g2", "Broker-Demo", {"vint-hill": "ACCOUNT"}


class Client:
    def get_hashing_ignored_field_lists(self, region):
        return {generation: {"specification": [], "position": [], "order": []} for generation in ("g1", "g2")}


def position(number):
    return {"id": number, "type": "POSITION_TYPE_BUY", "symbol": "EURUSD", "magic": 0, "openPrice": 1.1, "volume": 1.0}


def order(number):
    return {"id": number, "type": "ORDER_TYPE_BUY_LIMIT", "symbol": "EURUSD", "magic": 0, "openPrice": 1.0, "volume": 1.0}


async def synchronized(state, positions, orders):
    await state.on_connected(WIRE, 1)
    await state.on_broker_connection_status_changed(WIRE, True)
    await state.on_synchronization_started(WIRE, synchronization_id="s")
    await state.on_account_information_updated(WIRE, {"platform": "mt5", "balance": 1000.0, "equity": 1000.0})
    await state.on_positions_replaced(WIRE, [position(each) for each in positions])
    await state.on_positions_synchronized(WIRE, "s")
    await state.on_pending_orders_replaced(WIRE, [order(each) for each in orders])
    await state.on_pending_orders_synchronized(WIRE, "s")
    seen = [each["id"] for each in state.positions], [each["id"] for each in state.orders]
    print("the terminal sent", positions, orders, "-> positions", seen[0], "orders", seen[1], "| connected to the broker:", state.connected_to_broker)
    return seen


async def night(before, after):
    state = TerminalState(Account(), TerminalHashManager(Client(), True), None)
    await synchronized(state, *before)
    await state.on_disconnected(WIRE)
    return await synchronized(state, *after)


async def main():
    assert await night((["46"], ["9"]), ([], [])) == (["46"], ["9"])
    assert await night((["46"], ["9"]), (["47"], ["10"])) == (["47"], ["10"])
    print("as stated")


asyncio.run(main())
PY
