#!/usr/bin/env bash
# ibflex: in one statement 12/01/2024 is December and 13/01/2024 is refused or January.
#
# One would guess: a date in IB's dd/MM/yyyy form is read as such, or refused, for the whole file.
# What happens: PLACEHOLDER
# Why it matters: PLACEHOLDER
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ibflex==1.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ibflex".split():
    print(package, version(package))

import ibflex


def trade_date(text):
    xml = (
        '<FlexQueryResponse queryName="q" type="AF"><FlexStatements count="1"><FlexStatement accountId="U1" '
        'fromDate="2024-01-01" toDate="2024-01-31" period="" whenGenerated="2024-02-01;01:02:03"><Trades>'
        f'<Trade tradeDate="{text}"/></Trades></FlexStatement></FlexStatements></FlexQueryResponse>'
    )
    try:
        return str(ibflex.parser.parse(xml.encode()).FlexStatements[0].Trades[0].tradeDate)
    except ibflex.parser.FlexParserError as refused:
        return f"refused: {refused}"


for text in ("12/01/2024", "13/01/2024", "MULTI"):
    print(text, "->", trade_date(text))
print("as stated")
PY
