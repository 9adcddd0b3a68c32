#!/usr/bin/env bash
# python-binance 1.0.37: OptionsDepthCacheManager keeps each bid that ever was among the best ten, for half an hour.
#
# One would guess: the cache has the book as the exchange last sent it.
# What happens: the manager subscribes to the partial book, in which each message is the whole of the best ten levels. For futures the
#   cache is replaced by each message. For options its levels are added to what is there, as if they were changes, and a level that is
#   not in the next message is never removed, as no message says that it has gone. The cache is emptied every thirty minutes, that of
#   ThreadedDepthCacheManager never.
# Seen: bids of 200 and 190 with an ask of 210, and then a bid of 150 with an ask of 160: the best bid of the cache is 200, above its
#   best ask of 160. FuturesDepthCacheManager has 150 and 160 after the same two messages.
# Why it matters: an option is marked, or a limit order to sell is placed, at the best bid of the last half hour.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check python-binance==1.0.37 websockets==17.4 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
import asyncio
import json
from importlib.metadata import version
from types import SimpleNamespace

import websockets
from binance.ws.depthcache import FuturesDepthCacheManager, OptionsDepthCacheManager
from binance.ws.reconnecting_websocket import ReconnectingWebsocket

print("python-binance", version("python-binance"))

SYMBOL = "BTC-260130-90000-P"
BOOKS = [([["200", "3"], ["190", "5"]], [["210", "1"]]), ([["150", "2"]], [["160", "4"]])]


async def trial(manager):
    async def serve(line):
        for number, (bids, asks) in enumerate(BOOKS, 1):
            message = {"e": "depth", "E": 1767603600000 + number, "s": SYMBOL, "u": number, "pu": number - 1, "b": bids, "a": asks}
            await line.send(json.dumps({"stream": "depth", "data": message} if manager is FuturesDepthCacheManager else message))
        await line.wait_closed()

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        sockets = SimpleNamespace(**{f"{kind}_depth_socket": lambda symbol: ReconnectingWebsocket(url, path=symbol) for kind in ("options", "futures")})
        async with manager(None, SYMBOL, bm=sockets) as depth:
            for _ in BOOKS:
                book = await depth.recv()
            bids, asks = book.get_bids(), book.get_asks()
    print(manager.__name__, "bids", bids, "asks", asks, "CROSSED" if bids[0][0] > asks[0][0] else "")
    return bids, asks


assert asyncio.run(trial(OptionsDepthCacheManager)) == ([[200.0, 3.0], [190.0, 5.0], [150.0, 2.0]], [[160.0, 4.0], [210.0, 1.0]])
assert asyncio.run(trial(FuturesDepthCacheManager)) == ([[150.0, 2.0]], [[160.0, 4.0]])
print("as stated")
PY
