#!/usr/bin/env bash
# ibflex: a statement without the section on open positions has OpenPositions () like the one that says "none".
#
# One would guess: None where the query does not ask for the section, as AccountInformation and ChangeInNAV have it, and ()
#   where the section is there and empty.
# What happens: () in both cases, for positions, trades and cash alike. Nothing tells whether the account is flat or was not
#   asked about.
# Why it matters: a Flex query is put together by hand on IB's web page; one with a box not ticked reads as an account that
#   holds nothing and traded nothing.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ibflex==1.1 requests==2.34.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ibflex requests".split():
    print(package, version(package))

from ibflex import parser


def statement(sections):
    head = 'accountId="U0000001" fromDate="2026-01-05" toDate="2026-01-05" period="LastBusinessDay" whenGenerated="2026-01-06;010203"'
    text = f'<FlexQueryResponse queryName="q" type="AF"><FlexStatements count="1"><FlexStatement {head}>{sections}</FlexStatement></FlexStatements></FlexQueryResponse>'
    return parser.parse(text.encode()).FlexStatements[0]


held = statement('<OpenPositions><OpenPosition accountId="U0000001" currency="USD" symbol="AAPL" position="100" /></OpenPositions>')
empty, absent = statement("<OpenPositions /><Trades />"), statement("<CashReport />")
for name, read in (("held", held), ("section empty", empty), ("section absent", absent)):
    print(name, "->", len(read.OpenPositions), "positions", read.Trades, "| AccountInformation", read.AccountInformation)
assert len(held.OpenPositions) == 1
assert empty.OpenPositions == absent.OpenPositions == () and empty.Trades == absent.Trades == ()
assert absent.AccountInformation is None
print("as stated")
PY
