#!/usr/bin/env bash
# pyetrade: a stop-limit order to buy, stop 0.1234 and limit 0.1250, is sent with the stop at 0.13, above its limit.
#
# One would guess: prices go to E*TRADE as they are given, or both are rounded, or a price that does not fit is refused. Below a dollar
#   a price has four decimals (Rule 612).
# What happens: the stop alone goes through to_decimal_str(): two decimals, up for a buy and down for a sale. What a float carries
#   behind the second decimal counts: a stop of 1.1 * 100 is sent as 110.01.
# Why it matters: the order is triggered at a price at which its limit can no longer be filled, and a stop of a stock at a few cents moves
#   by a tenth; the order that comes back has another stop than the one that was asked for.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyetrade==2.1.1 responses==0.26.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "pyetrade responses".split():
    print(package, version(package))

import responses
import xmltodict
from pyetrade import ETradeOrder

PREVIEW = "<PreviewOrderResponse><PreviewIds><previewId>1</previewId></PreviewIds></PreviewOrderResponse>"
PLACED = "<PlaceOrderResponse><OrderIds><orderId>1</orderId></OrderIds></PlaceOrderResponse>"
URL = "https://apisb.etrade.com/v1/accounts/ACCOUNT/orders/"
order = {"accountIdKey": "ACCOUNT", "symbol": "PENY", "clientOrderId": "1", "quantity": 1000, "priceType": "STOP_LIMIT"}
order |= {"allOrNone": False, "orderTerm": "GOOD_FOR_DAY", "marketSession": "REGULAR"}


def sent(action, stop, limit):
    with responses.RequestsMock() as web:
        web.post(URL + "preview", PREVIEW)
        web.post(URL + "place", PLACED)
        ETradeOrder("key", "secret", "key", "secret").place_equity_order(orderAction=action, stopPrice=stop, limitPrice=limit, **order)
        body = xmltodict.parse(web.calls[1].request.body)["PlaceOrderRequest"]["Order"]
    return body["stopPrice"], body["limitPrice"]


for action, stop, limit in (("BUY", 0.1234, 0.125), ("SELL", 0.1234, 0.121), ("BUY", 1.1 * 100, 110.5), ("SELL", 110, 109.5)):
    print(action, "stop", stop, "limit", limit, "-> sent: stop and limit", *sent(action, stop, limit))
assert sent("BUY", 0.1234, 0.125) == ("0.13", "0.125")
assert sent("SELL", 0.1234, 0.121) == ("0.12", "0.121")
assert sent("BUY", 1.1 * 100, 110.5) == ("110.01", "110.5") and sent("BUY", 110, 110.5) == ("110.00", "110.5")
print("as stated")
PY
