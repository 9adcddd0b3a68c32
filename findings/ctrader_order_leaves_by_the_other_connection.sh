#!/usr/bin/env bash
# ctrader-open-api: an order sent on the connection to the live server leaves on the one to the demo server.
#
# One would guess: each connection has its own queue; the SDK's Client is made per host, live or demo, so that two side by side
#   are what its documentation leads to.
# What happens: the queue of messages is an attribute of the class TcpProtocol: all connections of the process share it, and
#   each sends once a second what it finds there. The first to wake takes the message, whoever's it was. A queue that was not
#   empty when a connection was lost is sent by the next one.
# Why it matters: an order goes to the wrong server and so to the wrong account or to nobody, and its answer comes back where
#   nobody waits for it.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ctrader-open-api==0.9.1 requests==2.34.2 setuptools==65.5.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ctrader-open-api requests setuptools".split():
    print(package, version(package))

from ctrader_open_api.messages.OpenApiCommonMessages_pb2 import ProtoMessage
from ctrader_open_api.messages.OpenApiMessages_pb2 import ProtoOANewOrderReq
from ctrader_open_api.tcpProtocol import TcpProtocol
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport


class Connections(Factory):
    """What the SDK's own factory does, without a client behind it."""

    protocol, numberOfMessagesToSendPerSecond = TcpProtocol, 5

    def connected(self, protocol): ...

    def disconnected(self, reason): ...


connections = {}


def connect(name):
    protocol, transport = Connections().buildProtocol(None), StringTransport()
    protocol.makeConnection(transport)
    connections[name] = protocol, transport


def send_on_live():
    for _, transport in connections.values():
        transport.clear()
    connections["live"][0].send(ProtoOANewOrderReq(ctidTraderAccountId=1, symbolId=1, orderType=1, tradeSide=1, volume=100_000))


connect("live")  # Looks at the queue after 1, 2, 3 seconds.
reactor.callLater(0.5, connect, "demo")  # After 1.5, 2.5, 3.5 seconds.
reactor.callLater(2.1, send_on_live)
reactor.callLater(2.9, reactor.stop)
reactor.run()

for name, (_, transport) in connections.items():
    raw = transport.value()
    message = ProtoMessage.FromString(raw[4:]) if raw else None
    print("left by", name + ":", None if message is None else ProtoOANewOrderReq.FromString(message.payload))
assert connections["live"][1].value() == b""
assert ProtoOANewOrderReq.FromString(ProtoMessage.FromString(connections["demo"][1].value()[4:]).payload).volume == 100_000
print("as stated")
PY
