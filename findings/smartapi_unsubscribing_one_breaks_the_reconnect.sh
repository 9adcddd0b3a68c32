#!/usr/bin/env bash
# smartapi-python: after one unsubscribe() the feed cannot subscribe again when it reconnects, and what was unsubscribed comes back.
#
# One would guess: the list of subscriptions loses the token, and a reconnect subscribes to the rest.
# What happens: unsubscribe() writes the request itself ("correlationID", "action", "params") into that list and leaves the
#   token in it. resubscribe() sends the old list, the unsubscribed token too, then takes "correlationID" for a mode and raises
#   AttributeError. The list belongs to the class, so that the feed of a second account has the tokens of the first.
# Why it matters: after the first dropped connection the modes behind it get no prices: a feed that is up and silent.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check smartapi-python==1.5.5 logzero==1.7.0 websocket-client==1.9.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "smartapi-python logzero websocket-client".split():
    print(package, version(package))

import json
import logging
import os

# On import the package asks a web service for this machine's public address; without one it goes on.
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"

from SmartApi.smartWebSocketV2 import SmartWebSocketV2

logging.disable(logging.CRITICAL)


class Wire:
    def __init__(self):
        self.sent = []

    def send(self, text):
        self.sent.append(json.loads(text))


feed = SmartWebSocketV2("token", "key", "client-1", "feed")
feed.wsapp = Wire()
feed.subscribe("first", 1, [{"exchangeType": 1, "tokens": ["10626", "5290"]}])
feed.unsubscribe("second", 1, [{"exchangeType": 1, "tokens": ["5290"]}])
feed.subscribe("third", 2, [{"exchangeType": 2, "tokens": ["35003"]}])
print("list:", feed.input_request_dict)

feed.wsapp = Wire()
raised = None
try:
    feed.resubscribe()
except AttributeError as error:
    raised = str(error)
print("sent on reconnect:", feed.wsapp.sent, "| raised:", raised)
assert raised == "'str' object has no attribute 'items'"
assert [request["params"]["mode"] for request in feed.wsapp.sent] == [1]
assert feed.wsapp.sent[0]["params"]["tokenList"] == [{"exchangeType": 1, "tokens": ["10626", "5290"]}]

other = SmartWebSocketV2("token", "key", "client-2", "feed")
print("the second account's list is the first one's:", other.input_request_dict is feed.input_request_dict)
assert other.input_request_dict is feed.input_request_dict
print("as stated")
PY
