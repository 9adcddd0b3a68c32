#!/usr/bin/env bash
# alpaca-py: a position's quantity is exact text, the order that sells it a float: 1e-9 more than is held.
#
# One would guess: the quantity read from a position can be sent back in an order.
# What happens: Position.qty is the text of the answer; MarketOrderRequest.qty is a float, and
#   12345678.123456789 (nine decimals, as Alpaca allows) is sent as 12345678.12345679.
# Why it matters: the order to go flat asks for more than is held and is refused, or leaves dust, so the
#   account never reads flat.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check alpaca-py==0.44.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "alpaca-py".split():
    print(package, version(package))

from decimal import Decimal

from alpaca.trading.models import Position
from alpaca.trading.requests import MarketOrderRequest

position = Position(
    asset_id="904837e3-3b76-47ec-b432-046db621571b", symbol="SHIBUSD", exchange="CRYPTO", asset_class="crypto",
    avg_entry_price="0.00001", qty="12345678.123456789", side="long", market_value="123", cost_basis="123",
    unrealized_pl="0", unrealized_plpc="0", unrealized_intraday_pl="0", unrealized_intraday_plpc="0",
    current_price="0.00001", lastday_price="0.00001", change_today="0",
)
sent = MarketOrderRequest(symbol="SHIBUSD", qty=position.qty, side="sell", time_in_force="gtc").to_request_fields()["qty"]
print("held", position.qty, "| sent", sent)
assert position.qty == "12345678.123456789"
assert isinstance(sent, float) and Decimal(str(sent)) - Decimal(position.qty) == Decimal("1E-9")
print("as stated")
PY
