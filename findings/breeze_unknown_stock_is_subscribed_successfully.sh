#!/usr/bin/env bash
# breeze-connect: the feed of a stock that the SDK cannot find is "subscribed successfully", as the room "4.1!False".
#
# One would guess: subscribe_feeds() says so, or raises, when a code, an expiry or a strike is not in ICICI's list. It has an exception
#   for each of these.
# What happens: the exceptions are made and not raised. The token stays False, the room "4.1!False" is joined and the answer is "Stock
#   RELIANCE subscribed successfully". All that is not found shares this room, so that a second one cannot be told from the first.
# Why it matters: ICICI's codes are not the exchange's (RELIND is NSE's RELIANCE), and the expiry is 27-Jan-2026 here and
#   2026-01-27T06:00:00.000Z in an order: a strategy waits for a price that never comes, and takes a silent feed for a quiet market.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check breeze-connect==1.0.69 responses==0.26.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "breeze-connect responses".split():
    print(package, version(package))

import io
import urllib.request
import zipfile

import responses

# The SDK loads ICICI's list of securities when it is imported, and again for a session: here it gets one of three.
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w") as archive:
    archive.writestr("NSEScripMaster.txt", '"2885","RELIND","EQ","RELIANCE INDUSTRIES",""\n"1660","ITC","EQ","ITC LTD",""\n')
    archive.writestr("FONSEScripMaster.txt", '"45678","OPTIDX","NIFTY","OPTION","27-Jan-2026","26000","CE"\n')
urllib.request.urlopen = lambda url: io.BytesIO(packed.getvalue())

from breeze_connect import breeze_connect as sdk

joined = []


class Socket:
    """In place of the connection to ICICI: notes which rooms are joined."""

    connected = True

    def emit(self, event, data):
        joined.append((event, data))

    def on(self, event, handler): ...


breeze = sdk.BreezeConnect("key")
with responses.RequestsMock() as web:
    web.get(sdk.config.SECURITY_MASTER_URL, packed.getvalue())
    breeze.get_stock_script_list()
breeze.sio_rate_refresh_handler = sdk.SocketEventBreeze("/", breeze)
breeze.sio_rate_refresh_handler.sio = Socket()
option = {"exchange_code": "NFO", "stock_code": "NIFTY", "product_type": "options", "right": "call", "strike_price": "26000"}


def subscribe(**what):
    joined.clear()
    answer = breeze.subscribe_feeds(**what, get_market_depth=False)
    print(*what.values(), "->", answer, *joined)
    return answer, list(joined)


known = subscribe(exchange_code="NSE", stock_code="RELIND")
unknown = subscribe(exchange_code="NSE", stock_code="RELIANCE")
listed = subscribe(**option, expiry_date="27-Jan-2026")
not_listed = subscribe(**option, expiry_date="2026-01-27T06:00:00.000Z")
assert known == ({"message": "Stock RELIND subscribed successfully"}, [("join", "4.1!2885")])
assert unknown == ({"message": "Stock RELIANCE subscribed successfully"}, [("join", "4.1!False")])
assert listed == ({"message": "Stock NIFTY subscribed successfully"}, [("join", "4.1!45678")])
assert not_listed == ({"message": "Stock NIFTY subscribed successfully"}, [("join", "4.1!False")])
print("as stated")
PY
