#!/usr/bin/env bash
# coinbase-advanced-py 1.8.4: a feed that the server closes with "going away" is not opened again, and nobody is told.
#
# One would guess: WSClient reconnects and subscribes again whenever the connection is lost (its README says so, retry=True), and
#   run_forever_with_exception_check() raises where it cannot.
# What happens: it does so after a connection that broke while the client waited for a message. One that was closed with a code, 1001
#   (going away) or 1000, as a server does that is being restarted, ends the reader's loop without an exception, without a
#   reconnect and without on_close; so does one that breaks while a message is being handled, as the loop goes on only while the
#   connection is open. run_forever_with_exception_check() then goes on for ever and has nothing to check.
# Seen: of three servers that drop the connection after the first message the client comes back, with its subscription, to the one
#   that broke off a moment later; not within five seconds to the one that broke off at once and the one that said 1001. No
#   exception is kept, and the reader has ended.
# Why it matters: the user channel with one's fills is silent for the rest of the day, which looks like a day without fills.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check coinbase-advanced-py==1.8.4 websockets==13.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python -W ignore - <<'PY'
import asyncio
import json
import logging
from importlib.metadata import version

import websockets
from coinbase.websocket import WSClient

for package in ("coinbase-advanced-py", "websockets"):
    print(package, version(package))


async def trial(how):
    connections, heard, closed = [], [], []
    second = asyncio.Event()

    async def serve(connection):
        connections.append(json.loads(await connection.recv()))
        await connection.send(json.dumps({"channel": "ticker", "events": [], "sequence_num": 0}))
        if len(connections) > 1:
            second.set()
            await connection.wait_closed()
        else:
            if how != "broken off at once":
                await asyncio.sleep(0.5)  # the client has read it and waits for the next
            if how == "closed with 1001":
                await connection.close(1001, "going away")
            else:
                connection.transport.abort()
            await connection.wait_closed()

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = WSClient(
            api_key=None, api_secret=None, base_url=f"ws://127.0.0.1:{port}", on_message=heard.append, on_close=lambda: closed.append(True)
        )
        await client.open_async()
        await client.subscribe_async(["BTC-USD"], ["ticker"])
        try:
            await asyncio.wait_for(second.wait(), 5)
        except asyncio.TimeoutError:
            pass
        client.raise_background_exception()  # nothing is raised, or this would end here
        seen = len(connections), client._task.done(), bool(closed)
        print(f"{how}: connections", seen[0], "reader ended", seen[1], "on_close", seen[2])
        if second.is_set():
            assert connections[1]["product_ids"] == ["BTC-USD"]
            await client.close_async()
        return seen


logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
assert asyncio.run(trial("broken off a moment later")) == (2, False, False)
assert asyncio.run(trial("broken off at once")) == (1, True, False)
assert asyncio.run(trial("closed with 1001")) == (1, True, False)
print("as stated")
PY
