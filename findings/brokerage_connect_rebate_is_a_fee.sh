#!/usr/bin/env bash
# brokerage-connect 0.6.7: in IB's Flex report a rebate is read as a fee, and a trade that IB has cancelled stays.
#
# One would guess: fetch_ibkr_flex_trades() gives the trades of the report as they stand: ibCommission -1.00 is a fee of 1.00, +0.20 is money
#   received, and a trade that was taken back is not there.
# What happens: the fee is the absolute value, so a rebate costs what it brought. "BUY (Ca.)", IB's row that takes a purchase back, is a side the
#   library does not know: the row is left out with a line in the log, and the purchase that it takes back is not. A sale that goes from long
#   to short ("C;O") is a sale of all of it.
# Seen: 100 bought with a rebate of 0.20: fee 0.20. 300 bought and cancelled: BUY 300. 150 sold with 100 held: SELL 150, no SHORT.
# Why it matters: by this list the account holds 250 where IB has it 50 short, and each rebate counts twice against the strategy that lives on them.
# Instead: take fee and side from the rows in payload["trades_raw"], and strike out each trade that a "(Ca.)" row has the account, contract,
#   price and size of.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check brokerage-connect==0.6.7 ib_async==2.1.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version
from xml.sax.saxutils import quoteattr

from brokerage.ibkr.flex import fetch_ibkr_flex_trades

print("brokerage-connect", version("brokerage-connect"), "ib_async", version("ib_async"))
same = {
    "accountId": "U1111111", "currency": "USD", "assetCategory": "STK", "symbol": "ABC", "conid": "111", "listingExchange": "NASDAQ",
    "exchange": "ISLAND", "multiplier": "1", "tradeDate": "20260105", "tradePrice": "10", "taxes": "0", "underlyingSymbol": "",
}
trades = [
    {"tradeID": "1", "buySell": "BUY", "openCloseIndicator": "O", "quantity": "100", "ibCommission": "0.2"},
    {"tradeID": "2", "buySell": "BUY", "openCloseIndicator": "O", "quantity": "300", "ibCommission": "-1"},
    {"tradeID": "3", "buySell": "BUY (Ca.)", "openCloseIndicator": "O", "quantity": "-300", "ibCommission": "1"},
    {"tradeID": "4", "buySell": "SELL", "openCloseIndicator": "C;O", "quantity": "-150", "ibCommission": "-1"},
]
rows = "".join("<Trade " + " ".join(f"{name}={quoteattr(value)}" for name, value in {**same, **trade}.items()) + "/>" for trade in trades)
with open("flex.xml", "w") as file:
    file.write(
        '<FlexQueryResponse queryName="trades" type="AF"><FlexStatements count="1">'
        '<FlexStatement accountId="U1111111" fromDate="20260105" toDate="20260105" period="LastBusinessDay" whenGenerated="20260106;010000">'
        f"<Trades>{rows}</Trades><CashTransactions/></FlexStatement></FlexStatements></FlexQueryResponse>"
    )

read = [(trade["transaction_id"][-1], trade["type"], trade["quantity"], trade["fee"]) for trade in fetch_ibkr_flex_trades(path="flex.xml")]
held = sum(quantity if side == "BUY" else -quantity for _, side, quantity, _ in read)
at_ib = sum(int(trade["quantity"]) for trade in trades)
for trade in read:
    print("trade", *trade)
print("held by this list:", held, "| at IB:", at_ib)
assert read == [("1", "BUY", 100.0, 0.2), ("2", "BUY", 300.0, 1.0), ("4", "SELL", 150.0, 1.0)]
assert (held, at_ib) == (250, -50)
print("as stated")
PY
