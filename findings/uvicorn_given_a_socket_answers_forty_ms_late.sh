#!/usr/bin/env bash
# uvicorn: given a listening socket that was made as usual, each answer on a kept connection comes some 40 ms late.
#
# One would guess: Server.run(sockets=[...]) serves as fast as Server.run() with host and port, whoever made the socket.
# What happens: asyncio sets TCP_NODELAY on a connection only where its socket says proto == IPPROTO_TCP, and what socket.socket()
#   makes (and so what it accepts) says 0. uvicorn writes head and body of an answer one after the other: the second waits for the
#   peer's delayed acknowledgement of the first. asyncio's own create_server(host, port) makes its sockets with IPPROTO_TCP.
# Why it matters: a program that takes its port before it serves (to say the address, or to be told by a service manager) is forty
#   times slower on loopback, and nothing is wrong anywhere. The remedy: socket.socket(family, SOCK_STREAM, IPPROTO_TCP).
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
import http.client
import socket
import statistics
import sys
import threading
import time
from importlib.metadata import version

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

print("uvicorn", version("uvicorn"), "python", sys.version.split()[0])


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


delays = []


class Protocol(H11Protocol):
    def connection_made(self, transport):
        delays.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        super().connection_made(transport)


def asked(made):
    """TCP_NODELAY of the connection, and the usual milliseconds of an answer on it."""
    made.bind(("127.0.0.1", 0))
    made.listen()
    server = uvicorn.Server(uvicorn.Config(app, http=Protocol, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [made]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    connection, took = http.client.HTTPConnection("127.0.0.1", made.getsockname()[1]), []
    for _ in range(20):
        began = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        took.append((time.perf_counter() - began) * 1000)
    connection.close()
    server.should_exit = True
    thread.join()
    return bool(delays[-1]), statistics.median(took)


usual = asked(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
named = asked(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP))
for words, (no_delay, took_ms) in (("socket() as usual", usual), ("with IPPROTO_TCP", named)):
    print(f"{words}: TCP_NODELAY {no_delay}, an answer in {took_ms:.1f} ms")
sys.exit(0 if not usual[0] and named[0] else 1)
PY
