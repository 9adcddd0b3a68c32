#!/usr/bin/env bash
# dydx-v4-client 1.1.5: an order for 0.0003 BTC is for 0.0002, one for nothing is for 0.0001, and a limit of 0.29 for SOL is 0.28.
#
# One would guess: Market.order() takes size and price as a person writes them; one that lies on the market's step is sent as it is, and one
#   that does not is refused or rounded.
# What happens: the float is multiplied by a power of ten and rounded down: 0.0003 * 10 ** 10 is 2999999.9999999995. What is less
#   than a step becomes a whole one, 0 too. No price is below one tick.
# Seen: of the sizes of BTC up to 2 on its step of 0.0001, 1010 of 20000 are a step too small; of the prices of SOL up to 2000, 11212 are a
#   tick too low. Size 0 is 0.0001.
# Why it matters: of a close of 0.0003 a third stays open, and a rebalancing that comes to zero buys. A sale goes out a tick below the
#   limit that was meant. dYdX's client for JavaScript had the first of these and has it no more.
# Instead: work out quantums and subticks with Decimal, and leave out orders of less than a step.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dydx-v4-client==1.1.5 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from decimal import Decimal
from importlib.metadata import version

from dydx_v4_client import OrderFlags
from dydx_v4_client.indexer.rest.constants import OrderType
from dydx_v4_client.node.market import Market
from v4_proto.dydxprotocol.clob.order_pb2 import Order

print("dydx-v4-client", version("dydx-v4-client"))
BTC = {"clobPairId": "0", "atomicResolution": -10, "quantumConversionExponent": -9, "stepBaseQuantums": 1000000, "subticksPerTick": 100000}
SOL = {"clobPairId": "5", "atomicResolution": -7, "quantumConversionExponent": -9, "stepBaseQuantums": 1000000, "subticksPerTick": 1000000}


def sent(parameters, size, price):
    market = Market(parameters)
    order = market.order(
        market.order_id("dydx1someone", 0, 7, OrderFlags.SHORT_TERM),
        OrderType.LIMIT,
        Order.Side.SIDE_SELL,
        size=size,
        price=price,
        time_in_force=Order.TimeInForce.TIME_IN_FORCE_UNSPECIFIED,
        reduce_only=False,
        good_til_block=1,
    )
    exponent = parameters["atomicResolution"] - parameters["quantumConversionExponent"] + 6
    return Decimal(order.quantums).scaleb(parameters["atomicResolution"]).normalize(), Decimal(order.subticks).scaleb(-exponent).normalize()


for name, parameters, size, price in (("BTC", BTC, 0.0003, 90000), ("BTC", BTC, 0.0004, 90000), ("BTC", BTC, 0, 90000), ("SOL", SOL, 0.5, 0.29)):
    print(f"{name} sell {size} at {price} -> sent", *(f"{each:f}" for each in sent(parameters, size, price)))
assert [sent(BTC, size, 90000)[0] for size in (0.0003, 0.0004, 0)] == [Decimal("0.0002"), Decimal("0.0004"), Decimal("0.0001")]
assert sent(SOL, 0.5, 0.29) == (Decimal("0.5"), Decimal("0.28"))

sizes = [n for n in range(1, 20_001) if Market(BTC).calculate_quantums(float(n * Decimal("0.0001"))) != n * 1000000]
prices = [n for n in range(1, 200_001) if Market(SOL).calculate_subticks(float(n * Decimal("0.01"))) != n * 1000000]
print("sizes of BTC up to 2 that change:", len(sizes), "| prices of SOL up to 2000 that change:", len(prices))
assert len(sizes) == 1010 and len(prices) == 11212
print("as stated")
PY
