#!/usr/bin/env bash
# publicdotcom-py 0.1.27 (Public.com's SDK): each price is sent with two decimals and each quantity with five, rounded half up, and nothing is said.
#
# One would guess: limit, stop and quantity are Decimals and are sent as they are. get_instrument() gives a coin's crypto_price_precision and
#   crypto_quantity_precision, and a number with too many decimals is an error (ValidationError, "precision exceeds the allowed number").
# What happens: the request is rounded on its way out, whatever the instrument. The broker gets a number that it has nothing against.
# Seen: a sale of dogecoin at 0.1249 or better is one at 0.12, one of SHIB at 0.00001249 is one at 0.00. All of 0.12345678 BTC is a sale of
#   0.12346, more than there is, and 0.12345321 leaves a rest. A purchase of a share at 0.4051 is one at 0.41, a stop at 0.0049 one at 0.00.
# Why it matters: a limit holds no longer: up to half a cent is given away on each coin or penny share, four percent of a dogecoin, all of a SHIB.
#   A position cannot be closed exactly. buy_event_contract() of the same SDK refuses such numbers, so one expects to be warned.
# Instead: send no order whose price is not whole cents or whose quantity has more than five decimals; compare model_dump(by_alias=True) before.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check publicdotcom-py==0.1.27 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from decimal import Decimal
from importlib.metadata import version

from public_api_sdk import ApiKeyAuthConfig, InstrumentType, OrderExpirationRequest, OrderInstrument, OrderRequest, OrderSide, OrderType, TimeInForce
from public_api_sdk import public_api_client as sdk

print("publicdotcom-py", version("publicdotcom-py"))
sent = []


class Broker:
    """Stands where the SDK's HTTP client stands, and keeps each order that is posted."""

    def __init__(self, *args, **kwargs):
        pass

    def post(self, path, json_data=None, **kwargs):
        if path.endswith("/order"):
            sent.append(json_data)
        return {"orderId": "0d2abd8d-3625-4c83-a806-98abf35567cc", "accessToken": "token"}

    def set_auth_header(self, *args):
        pass

    def close(self):
        pass


sdk.ApiClient = Broker
client = sdk.PublicApiClient(ApiKeyAuthConfig("key"), sdk.PublicApiClientConfiguration(default_account_number="1"))


def order(symbol, kind, side, quantity, **prices):
    client.place_order(
        OrderRequest(
            order_id="0d2abd8d-3625-4c83-a806-98abf35567cc",
            instrument=OrderInstrument(symbol=symbol, type=kind),
            order_side=side,
            order_type=OrderType.STOP if "stop_price" in prices else OrderType.LIMIT,
            expiration=OrderExpirationRequest(time_in_force=TimeInForce.DAY),
            quantity=Decimal(quantity),
            **{name: Decimal(price) for name, price in prices.items()},
        )
    )
    asked = (symbol, quantity, *prices.values())
    got = (sent[-1]["quantity"], sent[-1].get("limitPrice") or sent[-1]["stopPrice"])
    print(side.value, *asked, "-> sent as", *got)
    return got


coin, share = InstrumentType.CRYPTO, InstrumentType.EQUITY
assert order("DOGE", coin, OrderSide.SELL, "1000", limit_price="0.1249") == ("1000.00000", "0.12")
assert order("SHIB", coin, OrderSide.SELL, "1000000", limit_price="0.00001249") == ("1000000.00000", "0.00")
assert order("BTC", coin, OrderSide.SELL, "0.12345678", limit_price="90000") == ("0.12346", "90000.00")
assert order("BTC", coin, OrderSide.SELL, "0.12345321", limit_price="90000") == ("0.12345", "90000.00")
assert order("ABCD", share, OrderSide.BUY, "10000", limit_price="0.4051") == ("10000.00000", "0.41")
assert order("EFGH", share, OrderSide.SELL, "10000", stop_price="0.0049") == ("10000.00000", "0.00")
client.close()
print("as stated")
PY
