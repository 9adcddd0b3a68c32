#!/usr/bin/env bash
# asyncfix: an execution report whose Text begins with "FIX." is dropped.
#
# One would guess: decode() finds the message's end by BodyLength, as FIX prescribes; what a free text says does not matter.
# What happens: it looks for the next "8=FIX." in the bytes and takes that for the next message; "58=FIX.4.4 session: filled"
#   holds it. The report is cut there, its checksum does not fit, and decode() gives (None, length): nothing, and all bytes
#   used up.
# Why it matters: the fill is lost. The session goes on with the next message, and the gap is noticed by its sequence number
#   at best.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check asyncfix==1.0.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "asyncfix".split():
    print(package, version(package))

import logging

from asyncfix.codec import Codec
from asyncfix.protocol import FIXProtocol44

logging.disable(logging.CRITICAL)
codec = Codec(FIXProtocol44())


def report(*texts):
    fields = [(35, 8), (49, "BROKER"), (56, "FIRM"), (34, 2), (52, "20260105-15:00:00.000"), (37, "O1"), (11, "C1"), (17, "E1"), (150, "F"), (39, 2), (55, "AAPL"),
              (54, 1), (38, 10), (32, 10), (31, "200.00"), (151, 0), (14, 10), (6, "200.00"), *texts]
    body = "".join(f"{tag}={value}\x01" for tag, value in fields)
    message = f"8=FIX.4.4\x019={len(body)}\x01{body}".encode()
    return message + b"10=%03d\x01" % (sum(message) % 256)


for text in ("gateway FIX.4.4: filled", "FIX.4.4 gateway: filled"):
    message, used, _ = codec.decode(report((58, text)))
    print(repr(text), "->", message if message is None else f"exec {message['17']}, {message['32']} at {message['31']}", "| bytes used", used, "of", len(report((58, text))))
assert codec.decode(report((58, "gateway FIX.4.4: filled")))[0]["17"] == "E1"
assert codec.decode(report((58, "FIX.4.4 gateway: filled")))[0] is None
assert codec.decode(report((58, "FIX.4.4 gateway: filled")))[1] == len(report((58, "FIX.4.4 gateway: filled")))
print("as stated")
PY
