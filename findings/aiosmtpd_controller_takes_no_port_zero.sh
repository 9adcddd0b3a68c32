#!/usr/bin/env bash
# aiosmtpd: a Controller on port 0 listens, and start() then fails, as it connects to port 0 itself.
#
# One would guess: port 0 is "any that is free", as for every other server; the one taken is found in server.sockets.
# What happens: start() triggers the server by connecting to the port that was asked for, which is 0: connection refused.
#   The server class itself, with create_server(), takes port 0.
# Why it matters: tests that must not clash have to find a port first, which another process may take meanwhile.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check aiosmtpd==1.4.6
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

print("aiosmtpd", version("aiosmtpd"))

import asyncio

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

controller = Controller(Sink(), hostname="127.0.0.1", port=0)
try:
    controller.start()
except OSError as error:
    print("start() on port 0:", type(error).__name__)
    refused = isinstance(error, ConnectionRefusedError)
else:
    refused = False
print("and yet it listens on", controller.server.sockets[0].getsockname()[0])
controller.stop(no_assert=True)


async def alone():
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Sink()), "127.0.0.1", 0)
    async with server:
        return server.sockets[0].getsockname()[1]


assert refused and asyncio.run(alone()) > 0
print("as stated")
PY
