#!/usr/bin/env bash
# ofxparse: a trade at 20:00 [-5:EST] is on the 6th at 01:00, the same trade written [-5] on the 5th at 20:00.
#
# One would guess: both are one instant. OFX writes a time as YYYYMMDDHHMMSS.XXX[offset:name], and the name may be left out
#   (3.2.8.2 of the specification); both times come out naive, in UTC.
# What happens: the offset is taken only where a colon and a name of letters, digits and _ stand behind it. [-5], and
#   [-5:America/New_York], are read as if the time were UTC. ofxtools reads all three as one instant.
# Why it matters: banks and brokers differ in how they write it. Trades of the evening change their day, and a trade that is matched by
#   its time with another source is off by hours with one broker and right with the next.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ofxparse==0.21 ofxtools==1.1.1 beautifulsoup4==4.15.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ofxparse ofxtools beautifulsoup4".split():
    print(package, version(package))

import io
import warnings

from ofxparse import OfxParser
from ofxtools.Parser import OFXTree

warnings.filterwarnings("ignore")
STATEMENT = """OFXHEADER:100
DATA:OFXSGML
VERSION:102
SECURITY:NONE
ENCODING:USASCII
CHARSET:1252
COMPRESSION:NONE
OLDFILEUID:NONE
NEWFILEUID:NONE

<OFX>
<SIGNONMSGSRSV1><SONRS><STATUS><CODE>0<SEVERITY>INFO</STATUS><DTSERVER>20260106120000<LANGUAGE>ENG</SONRS></SIGNONMSGSRSV1>
<INVSTMTMSGSRSV1><INVSTMTTRNRS><TRNUID>1<STATUS><CODE>0<SEVERITY>INFO</STATUS>
<INVSTMTRS><DTASOF>20260106120000<CURDEF>USD<INVACCTFROM><BROKERID>broker.example<ACCTID>U100</INVACCTFROM>
<INVTRANLIST><DTSTART>20260101<DTEND>20260106
<BUYSTOCK><INVBUY><INVTRAN><FITID>1<DTTRADE>{time}</INVTRAN>
<SECID><UNIQUEID>594918104<UNIQUEIDTYPE>CUSIP</SECID><UNITS>10<UNITPRICE>450.25<TOTAL>-4502.50<SUBACCTSEC>CASH<SUBACCTFUND>CASH</INVBUY><BUYTYPE>BUY</BUYSTOCK>
</INVTRANLIST></INVSTMTRS></INVSTMTTRNRS></INVSTMTMSGSRSV1></OFX>
"""


def read(time):
    text = STATEMENT.format(time=time).encode()
    (one,) = OfxParser.parse(io.BytesIO(text)).account.statement.transactions
    tree = OFXTree()
    tree.parse(io.BytesIO(text))
    (other,) = tree.convert().statements[0].transactions
    return str(one.tradeDate), str(other.dttrade)


seen = {time: read(time) for time in ("20260105200000.000[-5:EST]", "20260105200000.000[-5]", "20260105200000.000[-5:America/New_York]")}
for time, (one, other) in seen.items():
    print(time, "-> ofxparse", one, "| ofxtools", other)
assert [one for one, _ in seen.values()] == ["2026-01-06 01:00:00", "2026-01-05 20:00:00", "2026-01-05 20:00:00"]
assert {other for _, other in seen.values()} == {"2026-01-06 01:00:00+00:00"}
print("as stated")
PY
