#!/usr/bin/env bash
# dhanhq: a broken answer to get_positions() raises nothing and has empty data; a body that says failure is a success.
#
# One would guess: an HTTP error raises.
# What happens: HTTP 500, 401 and a 503 page come back as a dict whose "data" is "" (no rows, falsy,
#   iterable); a 200 whose body says {"status": "failure"} is reported as status "success".
# Why it matters: `for row in dhan.get_positions()["data"]` finds no position while the broker is down:
#   unknown reads as flat.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dhanhq==2.3.0 responses==0.25.8
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "dhanhq responses".split():
    print(package, version(package))

import logging

import responses
from dhanhq import DhanContext, dhanhq

logging.disable(logging.CRITICAL)
dhan = dhanhq(DhanContext("client", "token"))


def positions(status, body):
    with responses.RequestsMock() as web:
        web.get("https://api.dhan.co/v2/positions", status=status, body=body, content_type="application/json")
        return dhan.get_positions()


error = '{"errorType": "Internal", "errorCode": "DH-908", "errorMessage": "internal"}'
for status, body in ((500, error), (401, error), (503, "<html>busy</html>")):
    answer = positions(status, body)
    print(status, "->", answer["status"], repr(answer["data"]), "rows:", len(list(answer["data"])))
    assert answer["status"] == "failure" and answer["data"] == ""
said = positions(200, '{"status": "failure"}')
print("200 that says failure ->", said["status"])
assert said["status"] == "success"
print("as stated")
PY
