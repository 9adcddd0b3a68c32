#!/usr/bin/env bash
# saxo_openapi: of two messages in one websocket frame decode_ws_msg() gives the first and drops the second.
#
# One would guess: all messages of the frame. Saxo documents that a frame may hold several, one after the other, and the
#   package's own example of stream processing loops over what decode_ws_msg() gives ("nr. of messages varies").
# What happens: a dict with the first message; what stands behind it is not looked at, without an error. The loop of the
#   example goes over the keys of that dict.
# Why it matters: an order's update arrives and the position's behind it never does: the position is wrong until the next one.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check saxo_openapi==0.6.0 requests==2.34.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "saxo_openapi requests".split():
    print(package, version(package))

import json
import struct

from saxo_openapi.contrib.ws.stream import decode_ws_msg


def message(number, reference, body):
    payload = json.dumps(body).encode()
    # message id (8 bytes), reserved (2), length of the reference id (1), the reference id, format 0 = JSON (1), size (4), payload.
    return struct.pack("<QHB", number, 0, len(reference)) + reference + struct.pack("<Bi", 0, len(payload)) + payload


order = message(1, b"orders", [{"OrderId": "76697286", "Status": "Filled"}])
position = message(2, b"positions", [{"PositionId": "5007", "PositionBase": {"Amount": 100}}])
for name, frame in (("order", order), ("position", position), ("order + position", order + position)):
    print(name, "->", decode_ws_msg(frame))
assert decode_ws_msg(position)["refid"] == b"positions"
assert decode_ws_msg(order + position) == decode_ws_msg(order)
assert [each for each in decode_ws_msg(order)] == ["refid", "msgId", "msg"]
print("as stated")
PY
