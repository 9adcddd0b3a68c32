#!/usr/bin/env bash
# fianchetto-tradebot 0.1.15: an order that is to be filled by raising its price, cent by cent, stands still at 10.29.
#
# One would guess: the tactic that moves a limit order towards the market offers a cent more each time, until it is filled or the market is reached.
# What happens: 10.29 + 0.01 is 10.299999999999999 as a float, and an Amount takes the digits of its text and cuts after the second: 10.29. Of the
#   prices from 0.01 to 99.99 each eighth stands still on its way up, and each fifth goes down two cents at once. What is written in
#   scientific notation is read digit by digit: 0.00005 dollars are 505 dollars.
# Seen: bid 10.28, ask 10.36. The order to buy at 10.26 goes to 10.28, 10.29, 10.29, 10.29, ... of 9999 prices 1186 do not rise by a cent, and
#   2020 fall by two.
# Why it matters: each step, every five seconds, replaces the order by one at the same price: it loses its place in the queue and is never filled
#   as long as the market stays. On the way down a seller gives away a cent a share.
# Instead: Amount.from_string(f"{price:.2f}").
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# Without its servers: the tactic needs pydantic and python-dateutil.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pydantic==2.12.5 python-dateutil==2.9.0.post0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps fianchetto-tradebot==0.1.15 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version

from fianchetto_tradebot.common_models.api.quotes.get_tradable_response import GetTradableResponse
from fianchetto_tradebot.common_models.finance.amount import Amount
from fianchetto_tradebot.common_models.finance.equity import Equity
from fianchetto_tradebot.common_models.finance.price import Price
from fianchetto_tradebot.common_models.order.action import Action
from fianchetto_tradebot.common_models.order.expiry.good_for_day import GoodForDay
from fianchetto_tradebot.common_models.order.order import Order
from fianchetto_tradebot.common_models.order.order_line import OrderLine
from fianchetto_tradebot.common_models.order.order_price import OrderPrice
from fianchetto_tradebot.common_models.order.order_price_type import OrderPriceType
from fianchetto_tradebot.server.orders.tactics.incremental_price_delta_execution_tactic import IncrementalPriceDeltaExecutionTactic

print("fianchetto-tradebot", version("fianchetto-tradebot"))
stock = Equity(ticker="ABC", company_name="ABC")


class Market:
    def get_tradable_quote(self, request):
        return GetTradableResponse(tradable=stock, current_price=Price(bid=10.28, ask=10.36), volume=1000)


def offered(price):
    lines = [OrderLine(tradable=stock, action=Action.BUY, quantity=100)]
    order = Order(expiry=GoodForDay(), order_lines=lines, order_price=OrderPrice(order_price_type=OrderPriceType.LIMIT, price=Amount.from_string(price)))
    new, _ = IncrementalPriceDeltaExecutionTactic.new_price(order, Market())
    return f"{new.price.to_float():.2f}"


offers = ["10.26"]
for _ in range(5):
    offers.append(offered(offers[-1]))
print("bid 10.28, ask 10.36, offers:", *offers)
assert offers == ["10.26", "10.28", "10.29", "10.29", "10.29", "10.29"]

cents = range(2, 10_000)
standing = sum(Amount.from_float(n / 100 + 0.01).in_smallest_denomination() == n for n in cents)
two_down = sum(Amount.from_float(n / 100 - 0.01).in_smallest_denomination() == n - 2 for n in cents)
print("prices that do not rise by a cent:", standing, "| that fall by two:", two_down, "| 0.00005 is", Amount.from_float(0.00005))
assert (standing, two_down) == (1186, 2020)
assert Amount.from_float(0.00005) == Amount(whole=505, part=0)
print("as stated")
PY
