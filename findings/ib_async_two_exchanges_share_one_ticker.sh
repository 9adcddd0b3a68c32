#!/usr/bin/env bash
# ib_async 2.1.0: the market data of one share on two exchanges goes into one Ticker, and one of the two cannot be cancelled.
#
# One would guess: reqMktData() of AAPL on SMART and of AAPL on IEX are two subscriptions, with a Ticker each.
# What happens: tickers are kept by the contract's conId alone, which a share has once for all exchanges. The second request gets
#   the first one's Ticker, whose contract says SMART and whose bid is that of whichever exchange quoted last. TWS has two
#   subscriptions: the first cancelMktData() ends the second one, and the other says that there is none ("No reqId found").
# Seen: SMART 100.01 to 100.02, then IEX 99.50 to 101.00: the Ticker of SMART is 99.50 to 101.00. After both cancels one
#   subscription goes on, and its ticks still move the Ticker.
# Why it matters: a stop or a mark that reads the consolidated bid gets a thin venue's, for as long as nothing new comes; and each
#   such pair leaves a line of market data behind, of which an account has a hundred.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ib_async==2.1.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version

from ib_async import IB, Contract

print("ib_async", version("ib_async"))

ib = IB()
sent = []
ib.client._serverVersion = 178
ib.client.isReady = lambda: True
ib.client.isConnected = lambda: True
ib.client._reqIdSeq = 1
ib.client.conn.sendMsg = lambda message: sent.append(message[4:].decode().split("\0"))

REQUEST, CANCEL, BID, ASK = "1", "2", 1, 2


def subscriptions():
    asked = {message[2] for message in sent if message[0] == REQUEST}
    return sorted(asked - {message[2] for message in sent if message[0] == CANCEL})


def quote(req_id, bid, ask):
    """A tickPrice message for each side, as TWS sends them."""
    for tick, price in ((BID, bid), (ASK, ask)):
        ib.client.decoder.interpret(["1", "6", req_id, str(tick), str(price), "100", "1"])


share = dict(conId=265598, symbol="AAPL", secType="STK", currency="USD")
smart, iex = Contract(exchange="SMART", **share), Contract(exchange="IEX", **share)
tickers = ib.reqMktData(smart), ib.reqMktData(iex)
first, second = subscriptions()
print("subscriptions", subscriptions(), "one Ticker:", tickers[0] is tickers[1], "of", tickers[1].contract.exchange)
assert tickers[0] is tickers[1] and tickers[1].contract.exchange == "SMART"

quote(first, 100.01, 100.02)
quote(second, 99.50, 101.00)
print("Ticker of", tickers[0].contract.exchange, tickers[0].bid, "to", tickers[0].ask)
assert (tickers[0].bid, tickers[0].ask) == (99.50, 101.00)

cancelled = ib.cancelMktData(smart), ib.cancelMktData(iex)
quote(first, 100.05, 100.06)
print("cancelled", cancelled, "left at TWS", subscriptions(), "bid now", tickers[0].bid)
assert cancelled == (True, False) and subscriptions() == [first] and tickers[0].bid == 100.05
print("as stated")
PY
