#!/usr/bin/env bash
# python-binance 1.0.37: when 101 messages wait to be read, the hundred that were received before are lost with it.
#
# One would guess: a burst that is larger than the queue ends in an error, behind the messages that had come before; those can be read.
# What happens: the message that finds the queue full ends the reading of the socket, and an error message is put behind the hundred.
#   recv() looks first whether the reader lives, and raises ReadLoopClosed each time from then on: neither the hundred messages nor
#   the error that it says to listen to can be had. They are still in the queue.
# Seen: a consumer that takes a second over the first of 102 trades gets that one; then recv() raises, with 100 trades and the
#   error QueueOverflow in the queue. A consumer that is not busy gets all of them.
# Why it matters: an order that sweeps the book, or the open of a busy day, makes more than a hundred events while the program writes
#   the first to its database. They had been received, and the connection was fine.
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
import logging
from importlib.metadata import version

import websockets
from binance.exceptions import ReadLoopClosed
from binance.ws.reconnecting_websocket import ReconnectingWebsocket

print("python-binance", version("python-binance"))
logging.disable(logging.CRITICAL)
TRADES = 102


async def trial(busy_s):
    async def serve(line):
        for number in range(TRADES):
            await line.send(json.dumps({"e": "trade", "s": "BTCUSDT", "t": number, "p": "100.00", "q": "0.5"}))
            if not busy_s:
                await asyncio.sleep(0.001)
        await line.wait_closed()

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        socket = ReconnectingWebsocket(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", path="btcusdt@trade")
        async with socket as stream:
            read, ended = [], ""
            try:
                while len(read) < TRADES:
                    read.append((await stream.recv())["t"])
                    if len(read) == 1:
                        await asyncio.sleep(busy_s)  # the first trade is written to the database
            except ReadLoopClosed:
                ended = "ReadLoopClosed"
            waiting = [stream._queue.get_nowait() for _ in range(stream._queue.qsize())]
    return read, ended, waiting


read, ended, waiting = asyncio.run(trial(0))
print("consumer not busy: read", len(read), ended)
assert read == list(range(TRADES)) and not waiting

read, ended, waiting = asyncio.run(trial(1))
kinds = [message["e"] if message["e"] == "trade" else message["type"] for message in waiting]
print("consumer busy for a moment: read", len(read), ended, "- left in the queue:", {kind: kinds.count(kind) for kind in kinds})
assert read == [0] and ended == "ReadLoopClosed"
assert kinds == ["trade"] * 100 + ["BinanceWebsocketQueueOverflow"]
print("as stated")
PY
