#!/usr/bin/env bash
# iso20022.js 0.0.15 (npm): of a camt.053 no entry is a reversal, each currency has cents, and an account loses the zeros in front.
#
# One would guess: Entry.reversal is what the bank says, amounts are whole minor units of their currency, accountNumber (a string) is the bank's.
# What happens: the XML parser turns what looks like a boolean or a number into one. The flag is then compared with the text "true", which it
#   never is; an account number goes by a number. Every amount is multiplied by 100, as a float, and in a payment divided by 100.
# Seen: a debit of 1000 yen with <RvslInd>true</RvslInd>: reversal false, amount 100000. A balance of 19.99 dollars is 1998.9999999999998 cents,
#   one of 1.234 Kuwaiti dinars 123.4. Account 0012345678 is "12345678". A payment of 1000 minor units of yen is one of 10 yen in the pain.001.
# Why it matters: what the bank took back is booked as a second payment. Yen and won are a hundred times too large on the way in and a hundredth
#   on the way out, dinars off by ten; sums of cents miss the balance. A statement is not found by the account that it belongs to.
# Instead: read RvslInd, Amt and Id with a parser that leaves text alone ({ parseTagValue: false }), and count minor units by ISO 4217.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts iso20022.js@0.0.15 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > statement.xml <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02">
  <BkToCstmrStmt>
    <GrpHdr><MsgId>STATEMENTS-1</MsgId><CreDtTm>2026-01-05T20:00:00Z</CreDtTm></GrpHdr>
    <Stmt>
      <Id>STATEMENT-1</Id><CreDtTm>2026-01-05T20:00:00Z</CreDtTm>
      <Acct>
        <Id><Othr><Id>0012345678</Id></Othr></Id>
        <Svcr><FinInstnId><BIC>ABCDJPJT</BIC></FinInstnId></Svcr>
      </Acct>
      <Bal>
        <Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp>
        <Amt Ccy="USD">19.99</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-01-05</Dt></Dt>
      </Bal>
      <Bal>
        <Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp>
        <Amt Ccy="KWD">1.234</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-01-05</Dt></Dt>
      </Bal>
      <Ntry>
        <Amt Ccy="JPY">1000</Amt><CdtDbtInd>DBIT</CdtDbtInd><RvslInd>true</RvslInd><Sts>BOOK</Sts>
        <BookgDt><Dt>2026-01-05</Dt></BookgDt><BkTxCd><Prtry><Cd>RETURN</Cd></Prtry></BkTxCd>
      </Ntry>
    </Stmt>
  </BkToCstmrStmt>
</Document>
XML
cat > run.mjs <<'JS'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { CashManagementEndOfDayReport, ISO20022 } from "iso20022.js";
console.log("iso20022.js", JSON.parse(readFileSync("node_modules/iso20022.js/package.json")).version);

const [statement] = CashManagementEndOfDayReport.fromXML(readFileSync("statement.xml", "utf8")).statements;
const [entry] = statement.entries;
const balances = statement.balances.map(({ currency, amount }) => [currency, amount]);
console.log("account", statement.account, "| balances", JSON.stringify(balances));
console.log("entry:", entry.creditDebitIndicator, entry.amount, entry.currency, "reversal", entry.reversal);
assert.strictEqual(statement.account.accountNumber, "12345678");
assert.deepStrictEqual(balances, [["USD", 1998.9999999999998], ["KWD", 123.4]]);
assert.deepStrictEqual([entry.creditDebitIndicator, entry.amount, entry.currency, entry.reversal], ["debit", 100000, "JPY", false]);

const payer = { name: "Payer", id: "PAYER", account: { accountNumber: "0012345678" }, agent: { bic: "ABCDJPJT", bankAddress: { country: "JP" } } };
const payee = { name: "Payee", account: { iban: "DE89370400440532013000" }, agent: { bic: "ABCDDEFF" }, address: { country: "DE" } };
const paid = (currency, amount) => {
  const payment = { type: "swift", direction: "credit", amount, currency, creditor: payee };
  return new ISO20022({ initiatingParty: payer }).createSWIFTCreditPaymentInitiation([payment]).serialize().match(/<InstdAmt.*<\/InstdAmt>/)[0];
};
console.log("1000 of a currency's minor unit are paid as", paid("USD", 1000), paid("JPY", 1000));
assert.strictEqual(paid("USD", 1000), '<InstdAmt Ccy="USD">10</InstdAmt>');
assert.strictEqual(paid("JPY", 1000), '<InstdAmt Ccy="JPY">10</InstdAmt>');
console.log("as stated");
JS
timeout 60 node run.mjs
