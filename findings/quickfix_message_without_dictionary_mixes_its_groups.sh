#!/usr/bin/env bash
# quickfix: a report read without a data dictionary and written again has its two parties taken apart, with a checksum that fits.
#
# One would guess: Message(text) keeps the message; toString() gives it back, as the fields are all there.
# What happens: without a dictionary the fields are sorted by tag. 448=P1, 447=D, 452=1, 448=P2, 447=D, 452=3 become 447=D, 447=D, 448=P1,
#   448=P2, 452=1, 452=3, and the count 453=2 comes last. getField(448) gives P1. The length and the checksum are made new.
# Why it matters: a store, a drop copy or a log that goes through quickfix no longer says which party has which role: who
#   traded and who clears are mixed up, in a message that passes for valid by its sums.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check quickfix==1.16.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "quickfix".split():
    print(package, version(package))

import quickfix


def report(*parties):
    fields = [(35, 8), (49, "BROKER"), (56, "FIRM"), (34, 2), (52, "20260105-15:00:00.000"), (37, "O1"), (17, "E1"), (150, "F"), (39, 2), (55, "AAPL"), (54, 1), (151, 0), (14, 10),
              (6, "1.5"), (453, len(parties))]
    for name, role in parties:
        fields += [(448, name), (447, "D"), (452, role)]
    body = "".join(f"{tag}={value}\x01" for tag, value in fields)
    message = f"8=FIX.4.4\x019={len(body)}\x01{body}"
    return message + f"10={sum(message.encode()) % 256:03d}\x01"


sent = report(("P1", 1), ("P2", 3))
message = quickfix.Message(sent)
written = message.toString()
print("sent:   ", sent.replace("\x01", "|"))
print("written:", written.replace("\x01", "|"), "| getField(448):", message.getField(448))
parties = [field for field in written.split("\x01") if field.split("=")[0] in ("447", "448", "452", "453")]
assert parties == ["447=D", "447=D", "448=P1", "448=P2", "452=1", "452=3", "453=2"]
before, _, checksum = written.rpartition("10=")
assert sum(before.encode()) % 256 == int(checksum[:3]) and len(written) == len(sent)
print("as stated")
PY
