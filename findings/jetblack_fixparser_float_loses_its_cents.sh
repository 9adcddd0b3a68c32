#!/usr/bin/env bash
# jetblack-fixparser 2.5.0: a price that is a float is sent without what is behind its point: 100.75 as 44=100, 0.29 as 44=0.
#
# One would guess: the encoders take Decimal, float or int, and decoding gives floats unless one asks for Decimal. What is decoded and encoded again
#   is the same message.
# What happens: the condition is the wrong way round: a float that is not whole is cut to an int, a whole one is written as it is. Prices,
#   quantities, amounts and offsets all go this way. A Decimal keeps its digits.
# Seen: an order for 2.5 at 100.75, with a stop at 0.29, is sent as 38=2, 44=100, 99=0; one of whole floats as 38=3.0, 44=101.0. An execution report
#   with LastPx 100.75, read and passed on, has 31=100, with a body length and a checksum that fit. With Decimals all is right.
# Why it matters: a limit to sell is up to a dollar too low, a share below a dollar is for nothing, half a coin is none. The message is valid, so the
#   broker takes it.
# Instead: load the protocol with is_float_decimal=True, and put in Decimals only: that switch does not change what a float becomes.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jetblack-fixparser==2.5.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

# the part of FIX 4.4 that is used here, as QuickFIX writes it
cat > FIX44.xml <<'XML'
<fix type="FIX" major="4" minor="4" servicepack="0">
  <header>
    <field name="BeginString" required="Y"/><field name="BodyLength" required="Y"/><field name="MsgType" required="Y"/>
    <field name="SenderCompID" required="Y"/><field name="TargetCompID" required="Y"/><field name="MsgSeqNum" required="Y"/>
    <field name="SendingTime" required="Y"/>
  </header>
  <trailer><field name="CheckSum" required="Y"/></trailer>
  <messages>
    <message name="NewOrderSingle" msgtype="D" msgcat="app">
      <field name="ClOrdID" required="Y"/><field name="OrderQty" required="Y"/><field name="Price" required="N"/><field name="StopPx" required="N"/>
    </message>
    <message name="ExecutionReport" msgtype="8" msgcat="app">
      <field name="ClOrdID" required="Y"/><field name="LastQty" required="N"/><field name="LastPx" required="N"/>
    </message>
  </messages>
  <components/>
  <fields>
    <field number="8" name="BeginString" type="STRING"/><field number="9" name="BodyLength" type="LENGTH"/>
    <field number="10" name="CheckSum" type="STRING"/><field number="11" name="ClOrdID" type="STRING"/>
    <field number="31" name="LastPx" type="PRICE"/><field number="32" name="LastQty" type="QTY"/>
    <field number="34" name="MsgSeqNum" type="SEQNUM"/>
    <field number="35" name="MsgType" type="STRING">
      <value enum="D" description="NewOrderSingle"/><value enum="8" description="ExecutionReport"/>
    </field>
    <field number="38" name="OrderQty" type="QTY"/><field number="44" name="Price" type="PRICE"/>
    <field number="49" name="SenderCompID" type="STRING"/><field number="52" name="SendingTime" type="UTCTIMESTAMP"/>
    <field number="56" name="TargetCompID" type="STRING"/><field number="99" name="StopPx" type="PRICE"/>
  </fields>
</fix>
XML

venv/bin/python - <<'PY'
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version

from jetblack_fixparser import FixMessage, FixMessageFactory, load_quickfix_protocol

print("jetblack-fixparser", version("jetblack-fixparser"))
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def sent(quantity, price, stop, **options):
    factory = FixMessageFactory(load_quickfix_protocol("FIX44.xml", **options), "FUND", "BROKER")
    message = factory.create("NewOrderSingle", 1, NOON, {"ClOrdID": "1", "OrderQty": quantity, "Price": price, "StopPx": stop})
    wire = message.encode(regenerate_integrity=True).decode().replace("\x01", "|")
    fields = dict(field.split("=") for field in wire.strip("|").split("|"))
    print(f"{quantity!r} at {price!r}, stop {stop!r}: {wire}")
    return fields["38"], fields["44"], fields["99"]


assert sent(2.5, 100.75, 0.29) == ("2", "100", "0")
assert sent(2.5, 100.75, 0.29, is_float_decimal=True) == ("2", "100", "0")
assert sent(3.0, 101.0, 1.0) == ("3.0", "101.0", "1.0")
assert sent(Decimal("2.5"), Decimal("100.75"), Decimal("0.29")) == ("2.5", "100.75", "0.29")

body = "35=8|49=BROKER|56=FUND|34=7|52=20260105-12:00:00.000|11=1|32=2.5|31=100.75|".replace("|", "\x01")
message = f"8=FIX.4.4\x019={len(body)}\x01{body}"
report = f"{message}10={sum(message.encode()) % 256:03}\x01".encode()
protocol = load_quickfix_protocol("FIX44.xml")
read = FixMessage.decode(protocol, report)
passed_on = read.encode(regenerate_integrity=True)
print("a report:     ", report.decode().replace("\x01", "|"))
print("passed on as: ", passed_on.decode().replace("\x01", "|"))
assert (read.message["LastQty"], read.message["LastPx"]) == (2.5, 100.75)
assert b"\x0132=2\x0131=100\x01" in passed_on
again = FixMessage.decode(protocol, passed_on)  # which checks length and checksum
assert again.message["LastPx"] == 100.0
print("as stated")
PY
