#!/usr/bin/env bash
# python-okx 0.4.4: subscribe(orders, on_order) and then subscribe(positions, on_position): on_position gets the orders.
#
# One would guess: the callback that is given with a subscription gets the messages of that subscription.
# What happens: a connection has one callback, that of the last call. subscribe(), unsubscribe() and, where one is given, place_order()
#   and cancel_order() each replace it for all channels, also for those that were subscribed before.
# Seen: a fill pushed on the channel "orders" after the second subscription goes to on_position, and after unsubscribe(positions,
#   on_gone) to on_gone; on_order has had nothing but what came before.
# Why it matters: the handler that books fills stops getting them when somebody adds another channel to the connection, and the one
#   that gets them finds no field that it knows. Nothing fails and nothing is logged.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check python-okx==0.4.4 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
import asyncio
import json
from importlib.metadata import version

import websockets
from okx.websocket.WsPrivateAsync import WsPrivateAsync

print("python-okx", version("python-okx"))


def fill(number):
    return {"arg": {"channel": "orders", "instType": "SPOT", "uid": "1"}, "data": [{"ordId": "900001", "tradeId": str(number), "fillSz": "0.5"}]}


async def serve(connection):
    """OKX's side: each login and subscription is acknowledged, and a fill is pushed after each change of subscriptions."""
    pushed = 0
    async for text in connection:
        asked = json.loads(text)
        await connection.send(json.dumps({"event": asked["op"], "code": "0"}))
        if asked["op"] != "login":
            pushed += 1
            await connection.send(json.dumps(fill(pushed)))


async def main():
    got = {"on_order": [], "on_position": [], "on_gone": []}
    pushes = asyncio.Queue()

    def handler(name):
        def handle(text):
            message = json.loads(text)
            if "data" in message:
                got[name].append(message["data"][0]["tradeId"])
                pushes.put_nowait(name)

        return handle

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        client = WsPrivateAsync("key", "passphrase", "secret", "wss://unused")
        # The SDK's factory insists on TLS; this is the same connection without.
        client.websocket = await websockets.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        reader = asyncio.create_task(client.consume())
        orders, positions = [{"channel": "orders", "instType": "SPOT"}], [{"channel": "positions", "instType": "SWAP"}]
        await client.subscribe(orders, handler("on_order"))
        await pushes.get()
        await client.subscribe(positions, handler("on_position"))
        await pushes.get()
        await client.unsubscribe(positions, handler("on_gone"))
        await pushes.get()
        reader.cancel()
        await client.websocket.close()
    return got


got = asyncio.run(main())
print("fills of the channel orders, by who got them:", got)
assert got == {"on_order": ["1"], "on_position": ["2"], "on_gone": ["3"]}
print("as stated")
PY
