#!/usr/bin/env bash
# tradestation-api-python 1.3.3 (TradeStation): an entry with a stop behind it (OSOs) is sent without the stop, a spread without its legs.
#
# One would guess: the package has the classes OSO and OrderLeg for what TradeStation's order takes as OSOs and Legs; what an OrderRequest cannot
#   hold is an error, as all its fields are typed.
# What happens: OrderRequest has neither field, and fields that a model does not know are dropped in silence. OSO and OrderLeg are used by no request.
# Seen: OrderRequest(..., OSOs=[OSO(Type="BRK", Orders=[stop, target])]) posts account, symbol, quantity, type, side, duration, route and limit, and no
#   more. The same with Legs=[OrderLeg(...), OrderLeg(...)]: what is posted is an order for the one symbol. place_group_order() does so, too, and
#   confirm_order(), whose answer is the confirmation of the bare entry.
# Why it matters: the position is opened, and nothing protects it; half of a spread is a naked option. TradeStation's answer is "Sent order".
# Instead: post the order as a dict with client.http_client.post("/v3/orderexecution/orders", {...}), or place the stop after the fill.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tradestation-api-python==1.3.3 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
import asyncio
from importlib.metadata import version

from tradestation import OrderExecutionService
from tradestation.ts_types import OSO, GroupOrderRequest, OrderLeg, OrderRequest, OrderSide, OrderType, TimeInForce

print("tradestation-api-python", version("tradestation-api-python"))
posted = []


class TradeStation:
    """Stands where the SDK's HTTP client stands, and keeps what is posted."""

    async def post(self, path, body):
        posted.append((path.split("/")[-1], body))
        if path.endswith("confirm"):
            return {"Confirmations": [{"SummaryMessage": "Buy 10 ABC @ 400.00 Limit"}]}
        return {"Orders": [{"OrderID": "1", "Message": "Sent order: Buy 10 ABC @ 400.00 Limit"}]}


service = OrderExecutionService(TradeStation(), None)
GTC = TimeInForce(Duration="GTC")


def order(symbol, kind, side, **more):
    return OrderRequest(
        AccountID="SIM1", Symbol=symbol, Quantity="10", OrderType=kind, TradeAction=side, TimeInForce=GTC, Route="Intelligent", **more
    )


stop = order("ABC", OrderType.STOP_MARKET, OrderSide.SELL, StopPrice="380")
target = order("ABC", OrderType.LIMIT, OrderSide.SELL, LimitPrice="440")
behind = [OSO(Type="BRK", Orders=[stop, target])]
entry = order("ABC", OrderType.LIMIT, OrderSide.BUY, LimitPrice="400", OSOs=behind)
legs = [
    OrderLeg(Symbol="ABC 260619C400", Quantity=10, TradeAction=OrderSide.SELL_TO_OPEN),
    OrderLeg(Symbol="ABC 260619C440", Quantity=10, TradeAction=OrderSide.BUY_TO_OPEN),
]
spread = order("ABC 260619C400", OrderType.MARKET, OrderSide.SELL_TO_OPEN, Legs=legs)


async def main():
    print(await service.place_order(entry))
    await service.confirm_order(entry)
    await service.place_group_order(GroupOrderRequest(Type="OCO", Orders=[entry, entry]))
    await service.place_order(spread)


asyncio.run(main())
for path, body in posted:
    print(path, body)
COMMON = {"AccountID", "Symbol", "Quantity", "OrderType", "TradeAction", "TimeInForce", "Route"}
(_, first), (_, confirmed), (_, group), (_, option) = posted
assert set(first) == set(confirmed) == COMMON | {"LimitPrice"}
assert [set(one) for one in group["Orders"]] == [COMMON | {"LimitPrice"}] * 2
assert set(option) == COMMON
assert option["Symbol"] == "ABC 260619C400"
print("as stated")
PY
