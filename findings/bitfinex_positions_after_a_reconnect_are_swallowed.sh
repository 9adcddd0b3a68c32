#!/usr/bin/env bash
# bitfinex-api-py 4.0.0: after a reconnect the snapshots of orders, positions, wallets and books are not handed out.
#
# One would guess: the client reconnects by itself, and what Bitfinex then sends, the positions and orders as they are now, reaches
#   the handlers of position_snapshot and order_snapshot as it did the first time.
# What happens: these events, and "open" and "authenticated", are handed out once in the life of the client. The list of those that
#   have been is not emptied with the connection. The same holds for the snapshot of each book that is subscribed to.
# Seen: long 2 BTC before the connection breaks and short 1 after it, while 1 order was filled in between: the handlers have seen 2 and
#   the order, and nothing of -1 and of no order. The book that was at 100.0 has moved to 90.0, and only 100.0 was handed out.
# Why it matters: what happened while the line was down is exactly what one must learn from that snapshot. A position that was closed
#   or liquidated meanwhile stays in the book of the program, and updates are added to a stale order book.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check bitfinex-api-py==4.0.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
import asyncio
import json
import logging
from importlib.metadata import version

import websockets
from bfxapi import Client

print("bitfinex-api-py", version("bitfinex-api-py"))

TIME = 1767603600000
logging.getLogger("websockets.server").setLevel(logging.CRITICAL)


def position(amount):
    return ["tBTCUSD", "ACTIVE", amount, 100, 0, 0, None, None, None, None, None, 7, TIME, TIME, None, 0, None, 0, 0, {}]


def order():
    return [900001, None, 1, "tBTCUSD", TIME, TIME, -3, -3, "EXCHANGE LIMIT", None, None, None, 0, "ACTIVE", None, None] + [
        101, 0, 0, 0, None, None, None, 0, 0, None, None, None, "API>BFX", None, None, None
    ]


# What there is on the first connection of each kind, and on the second.
POSITIONS, ORDERS, BOOK = [[position(2)], [position(-1)]], [[order()], []], [100.0, 90.0]


async def main():
    times = {"account": 0, "book": 0}
    sent_again = asyncio.Event()
    lines = []

    async def serve(line):
        lines.append(line)
        await line.send(json.dumps({"event": "info", "version": 2, "platform": {"status": 1}}))
        async for text in line:
            asked = json.loads(text)
            if asked["event"] == "auth":
                number, times["account"] = times["account"], times["account"] + 1
                await line.send(json.dumps({"event": "auth", "status": "OK", "chanId": 0, "userId": 1}))
                await line.send(json.dumps([0, "ps", POSITIONS[number]]))
                await line.send(json.dumps([0, "os", ORDERS[number]]))
                await line.send(json.dumps([0, "pu", position(POSITIONS[number][0][2] * 10)]))  # an update, to know that all is read
            if asked["event"] == "subscribe":
                number, times["book"] = times["book"], times["book"] + 1
                reply = {"event": "subscribed", "channel": "book", "chanId": 17, "symbol": "tBTCUSD", "prec": "P0", "freq": "F0"}
                await line.send(json.dumps({**reply, "len": "25", "subId": asked["subId"], "pair": "BTCUSD"}))
                await line.send(json.dumps([17, [[BOOK[number], 1, 1.0]]]))
                await line.send(json.dumps([17, [BOOK[number], 2, 1.0]]))

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        bfx = Client("key", "secret", wss_host=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}").wss
        seen = {"positions": [], "orders": [], "books": []}
        updates = asyncio.Queue()

        @bfx.on("position_snapshot")
        def _(positions):
            seen["positions"].append([each.amount for each in positions])

        @bfx.on("order_snapshot")
        def _(orders):
            seen["orders"].append([each.id for each in orders])

        @bfx.on("t_book_snapshot")
        def _(subscription, levels):
            seen["books"].append(levels[0].price)

        @bfx.on("position_update")
        def _(update):
            updates.put_nowait(("position", update.amount))

        @bfx.on("t_book_update")
        def _(subscription, level):
            updates.put_nowait(("book", level.price))

        @bfx.on("open")
        async def _():
            await bfx.subscribe("book", symbol="tBTCUSD")

        running = asyncio.create_task(bfx.start())
        before = {await updates.get(), await updates.get()}
        for line in list(lines):
            line.transport.abort()
        after = {await updates.get(), await updates.get()}
        await bfx.close()
        await running
    return seen, before, after


seen, before, after = asyncio.run(asyncio.wait_for(main(), 60))
print("updates before", sorted(before), "and after the reconnect", sorted(after))
print("snapshots handed out", seen)
assert before == {("position", 20), ("book", 100.0)} and after == {("position", -10), ("book", 90.0)}
assert seen == {"positions": [[2]], "orders": [[900001]], "books": [100.0]}
print("as stated")
PY
