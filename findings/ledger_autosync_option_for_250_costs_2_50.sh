#!/usr/bin/env bash
# ledger-autosync 1.2.0: an option bought for 250 dollars is booked for 2.50, a bond bought for 9,950 for 995,000.
#
# One would guess: the cash side of a trade is its TOTAL, the amount by which the broker changed the account.
# What happens: TOTAL is not looked at. The cash is units times unit price, plus fees: OFX has contracts and the premium of one share for an
#   option, and face value and percent of par for a bond (SHPERCTRCT and TOTAL are there for that). A commission is posted as an
#   expense, and not taken from the cash.
# Seen: TOTAL -250 (1 contract of 100 at 2.50) is -$2.50; TOTAL -9950 (10,000 at 99.5) is -$995000.00; TOTAL -2009.99 (10 at 200, commission
#   9.99) is -$2000.00 beside an expense of $9.99, so that the postings leave 9.99 over, which ledger refuses. The plain purchase of
#   shares is right. Each of the first two entries balances, so that nothing warns.
# Why it matters: the cash of an account with options is off by 99 percent of each premium, and the error shows only where the balance is
#   asserted.
# Instead: write the trade with the total ("1 X @@ $250"), or compare each entry's cash with TOTAL.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ledger-autosync==1.2.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > trades.ofx <<'OFX'
OFXHEADER:100
DATA:OFXSGML
VERSION:102
SECURITY:NONE
ENCODING:USASCII
CHARSET:1252
COMPRESSION:NONE
OLDFILEUID:NONE
NEWFILEUID:NONE

<OFX><SIGNONMSGSRSV1><SONRS><STATUS><CODE>0<SEVERITY>INFO</STATUS><DTSERVER>20260131<LANGUAGE>ENG<FI><ORG>Broker<FID>1</FI></SONRS></SIGNONMSGSRSV1>
<INVSTMTMSGSRSV1><INVSTMTTRNRS><TRNUID>1<STATUS><CODE>0<SEVERITY>INFO</STATUS><INVSTMTRS><DTASOF>20260131<CURDEF>USD
<INVACCTFROM><BROKERID>broker.example<ACCTID>77</INVACCTFROM>
<INVTRANLIST><DTSTART>20260101<DTEND>20260131
<BUYSTOCK><INVBUY><INVTRAN><FITID>1<DTTRADE>20260105<DTSETTLE>20260106</INVTRAN><SECID><UNIQUEID>SHARES<UNIQUEIDTYPE>TICKER</SECID><UNITS>10<UNITPRICE>200<TOTAL>-2000<SUBACCTSEC>CASH<SUBACCTFUND>CASH</INVBUY><BUYTYPE>BUY</BUYSTOCK>
<BUYOPT><INVBUY><INVTRAN><FITID>2<DTTRADE>20260106<DTSETTLE>20260107</INVTRAN><SECID><UNIQUEID>OPTION<UNIQUEIDTYPE>TICKER</SECID><UNITS>1<UNITPRICE>2.50<TOTAL>-250<SUBACCTSEC>CASH<SUBACCTFUND>CASH</INVBUY><OPTBUYTYPE>BUYTOOPEN<SHPERCTRCT>100</BUYOPT>
<BUYDEBT><INVBUY><INVTRAN><FITID>3<DTTRADE>20260107<DTSETTLE>20260108</INVTRAN><SECID><UNIQUEID>BOND<UNIQUEIDTYPE>TICKER</SECID><UNITS>10000<UNITPRICE>99.5<TOTAL>-9950<SUBACCTSEC>CASH<SUBACCTFUND>CASH</INVBUY></BUYDEBT>
<BUYSTOCK><INVBUY><INVTRAN><FITID>4<DTTRADE>20260108<DTSETTLE>20260109</INVTRAN><SECID><UNIQUEID>SHARES<UNIQUEIDTYPE>TICKER</SECID><UNITS>10<UNITPRICE>200<COMMISSION>9.99<TOTAL>-2009.99<SUBACCTSEC>CASH<SUBACCTFUND>CASH</INVBUY><BUYTYPE>BUY</BUYSTOCK>
</INVTRANLIST></INVSTMTRS></INVSTMTTRNRS></INVSTMTMSGSRSV1></OFX>
OFX
venv/bin/ledger-autosync --no-ledger --account Assets:Broker --unknown-account Assets:Cash trades.ofx > trades.ledger 2> log.txt || { cat log.txt; exit 1; }

venv/bin/python - <<'PY'
import re
from importlib.metadata import version
from pathlib import Path

print("ledger-autosync", version("ledger-autosync"))
totals = re.findall(r"<TOTAL>([-.\d]+)", Path("trades.ofx").read_text())
entries = Path("trades.ledger").read_text().strip().split("\n\n")
cash = [re.search(r"Assets:Cash +(\S+)", entry)[1] for entry in entries]
for total, entry, booked in zip(totals, entries, cash, strict=True):
    traded = re.search(r"Assets:Broker +(.+)", entry)[1]
    print(f"TOTAL {total:>9} -> {traded:24} cash {booked:>12}", *re.findall(r"Expenses:\S+ +\S+", entry))
assert cash == ["-$2000.00", "-$2.50", "-$995000.00", "-$2000.00"]
assert re.search(r"Expenses:Commission +\$9\.99", entries[3])
print("as stated")
PY
