#!/usr/bin/env bash
# alpaca-py: an order of ten of which nine are filled has filled_qty >= qty.
#
# One would guess: Order.qty, filled_qty, limit_price and filled_avg_price, typed "str or float", are numbers that compare as
#   numbers, as the request's are.
# What happens: they stay the text of the answer, and text compares letter by letter: "9" >= "10" is True, "99.5" < "100.5"
#   False. Nothing raises, since both sides are text.
# Why it matters: `order.filled_qty >= order.qty` says filled for 9 of 10 and for 2 of 10, and not for 1 of 10; a test with
#   quantities of as many digits does not notice.
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

from alpaca.trading.models import Order


def order(filled, average="99.5"):
    now, none = "2026-01-05T15:00:00Z", ("filled_at", "expired_at", "canceled_at", "failed_at", "replaced_at", "replaced_by", "replaces", "notional", "stop_price", "legs",
                                         "trail_percent", "trail_price", "hwm")
    return Order(**{**dict.fromkeys(none), "id": "00000000-0000-4000-8000-000000000001", "client_order_id": "one", "created_at": now, "updated_at": now, "submitted_at": now,
                    "asset_id": "00000000-0000-4000-8000-000000000002", "symbol": "AAPL", "asset_class": "us_equity", "qty": "10", "filled_qty": filled,
                    "filled_avg_price": average, "order_class": "simple", "order_type": "limit", "type": "limit", "side": "buy", "time_in_force": "day",
                    "limit_price": "100.5", "status": "partially_filled", "extended_hours": False})


for filled in ("1", "2", "9", "10"):
    read = order(filled)
    print(filled, "of 10: filled_qty >= qty is", read.filled_qty >= read.qty, "|", read.filled_avg_price, "<", read.limit_price, "is", read.filled_avg_price < read.limit_price)
assert [order(filled).filled_qty >= order(filled).qty for filled in ("1", "2", "9", "10")] == [False, True, True, True]
assert not order("9").filled_avg_price < order("9").limit_price
print("as stated")
PY
