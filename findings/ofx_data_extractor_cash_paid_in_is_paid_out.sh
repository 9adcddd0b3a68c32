#!/usr/bin/env bash
# ofx-data-extractor 1.5.0 (npm): cash paid in at an ATM, a shop's refund and a fee that was given back are debits, whatever their sign.
#
# One would guess: TRNAMT is signed (OFX: negative leaves the account), ATM and POS are debits or credits by that sign. direction, and the sums of
#   getTransactionsSummary(), follow it. A date is the same day in each dateMode.
# What happens: an amount without a minus is a debit too if its type is one of ATM, POS, CASH, FEE, SRVCHG, CHECK, PAYMENT, DIRECTDEBIT, REPEATPMT.
#   Dates are written in formatDate first, and that text is read again, with the day in front.
# Seen: +500 at an ATM, a refund of +40 in a shop, a fee of +15 given back, +1000 salary, -100 spent: credit 1000, debit 655, net 345. The balance
#   says 1455. With formatDate "M/d/y", as one writes in America, 2026-01-05 is 2026-05-01T00:00:00.000Z by dateMode "iso"; 14:30 is midnight.
# Why it matters: each such payment is wrong by twice its amount, in a field that is there so that nobody looks at signs. The first twelve days of
#   each month are in other months, the later ones null with a warning.
# Instead: take the side from the sign of amount, and dates from raw DTPOSTED without formatDate.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts ofx-data-extractor@1.5.0 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.mjs <<'JS'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { Ofx } from "ofx-data-extractor";
console.log("ofx-data-extractor", JSON.parse(readFileSync("node_modules/ofx-data-extractor/package.json")).version);

const PAYMENTS = [["ATM", "500.00"], ["POS", "40.00"], ["FEE", "15.00"], ["CREDIT", "1000.00"], ["POS", "-100.00"]];
const transactions = PAYMENTS.map(([type, amount], n) => [
  "<STMTTRN>", `<TRNTYPE>${type}`, "<DTPOSTED>20260105143000[-5:EST]", `<TRNAMT>${amount}`, `<FITID>2026-${n}`, `<NAME>${type}`, "</STMTTRN>",
]);
const file = [
  "OFXHEADER:100", "DATA:OFXSGML", "VERSION:102", "SECURITY:NONE", "ENCODING:USASCII", "CHARSET:1252", "COMPRESSION:NONE", "OLDFILEUID:NONE",
  "NEWFILEUID:NONE", "", "<OFX>", "<SIGNONMSGSRSV1>", "<SONRS>", "<STATUS>", "<CODE>0", "<SEVERITY>INFO", "</STATUS>", "<DTSERVER>20260131",
  "<LANGUAGE>ENG", "</SONRS>", "</SIGNONMSGSRSV1>", "<BANKMSGSRSV1>", "<STMTTRNRS>", "<TRNUID>1", "<STATUS>", "<CODE>0", "<SEVERITY>INFO",
  "</STATUS>", "<STMTRS>", "<CURDEF>USD", "<BANKACCTFROM>", "<BANKID>000000000", "<ACCTID>1", "<ACCTTYPE>CHECKING", "</BANKACCTFROM>",
  "<BANKTRANLIST>", "<DTSTART>20260101", "<DTEND>20260131", ...transactions.flat(), "</BANKTRANLIST>", "<LEDGERBAL>", "<BALAMT>1455.00",
  "<DTASOF>20260131", "</LEDGERBAL>", "</STMTRS>", "</STMTTRNRS>", "</BANKMSGSRSV1>", "</OFX>", "",
].join("\n");

const ofx = new Ofx(file);
const read = ofx.toNormalized().transactions.map(({ description, amount, direction }) => [description, amount, direction]);
const { credit, debit } = ofx.getTransactionsSummary();
const balance = Number(ofx.toJson().OFX.BANKMSGSRSV1.STMTTRNRS.STMTRS.LEDGERBAL.BALAMT);
for (const [type, amount, direction] of read) console.log(type.padEnd(6), String(amount).padStart(5), direction);
console.log("credit", credit, "debit", debit, "net", credit - debit, "| the account began with 0 and has", balance);
assert.deepStrictEqual(read, [["ATM", 500, "debit"], ["POS", 40, "debit"], ["FEE", 15, "debit"], ["CREDIT", 1000, "credit"], ["POS", -100, "debit"]]);
assert.deepStrictEqual([credit, debit, balance], [1000, 655, 1455]);

const posted = ["M/d/y", undefined].map((formatDate) => new Ofx(file, { formatDate }).toNormalized({ dateMode: "iso" }).transactions[0].postedAt);
console.log("posted on 2026-01-05, with formatDate M/d/y", posted[0], "and without", posted[1]);
assert.deepStrictEqual(posted, ["2026-05-01T00:00:00.000Z", "2026-01-05T00:00:00.000Z"]);
assert.deepStrictEqual(ofx.validate().errors, []);
console.log("as stated");
JS
timeout 60 node run.mjs
