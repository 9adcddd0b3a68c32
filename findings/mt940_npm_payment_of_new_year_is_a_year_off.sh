#!/usr/bin/env bash
# MT940 in npm: mt940js 1.3.5, mt940-js 1.0.0, swiftmessageparser 1.2.1 and @centrapay/swift-parser 1.0.1 book the payments around New Year in the wrong year.
#
# One would guess: ":61:2512310102C500,00" has the value date December 31, 2025, and was booked on January 2, 2026: the entry date is given as month
#   and day alone, and is the one nearest to the value date.
# What happens: all four take the year of the value date. Booked in January with a value of December: a year too early. Booked on December 31 with a
#   value of January 2: a year too late. mt-940 for Python 5.1.1 has both right.
# Seen: 2025-01-02 for 2026-01-02, and 2026-12-31 for 2025-12-31, in each of the four.
# Why it matters: brokers' banks value dividends and settlements across New Year each time. Sorted by the entry date the payment is in the statement
#   of a year before; a running balance, a tax year and a match with the broker's cash (same amount, within days) all miss it.
# Instead: take the year in which the entry date is within half a year of the value date.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
# mt940-js needs tslib and does not name it.
npm install --silent --no-audit --no-fund --ignore-scripts mt940js@1.3.5 mt940-js@1.0.0 swiftmessageparser@1.2.1 @centrapay/swift-parser@1.0.1 tslib@2.8.1 > npm.txt 2>&1 || { cat npm.txt; exit 1; }
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check mt-940==5.1.1 2> pip.txt || { cat pip.txt; exit 1; }

cat > statement.mt940 <<'MT940'
:20:STATEMENT
:25:DE02120300000000202051
:28C:1/1
:60F:C251230EUR1000,00
:61:2512310102C500,00NDIVNONREF//1
:86:dividend, booked on January 2
:61:2601021231D200,00NTRFNONREF//2
:86:purchase, booked on December 31
:62F:C260102EUR1300,00
MT940

cat > run.js <<'JS'
const assert = require("assert");
const fs = require("fs");
const text = fs.readFileSync("statement.mt940", "utf8");
const day = (date) => (date instanceof Date ? date.toISOString().slice(0, 10) : date);
const both = (transactions, value) => transactions.map((one) => `${day(one[value])} booked ${day(one.entryDate)}`);

async function main() {
  const { Parser } = require("mt940js");
  const read = {
    mt940js: both(new Parser().parse(text)[0].transactions, "date"),
    "mt940-js": both((await require("mt940-js").read(Buffer.from(text)))[0].transactions, "valueDate"),
    swiftmessageparser: both(require("swiftmessageparser").parse({ type: "mt940", data: text, validate: true })[0].transactions, "date"),
    "@centrapay/swift-parser": both(require("@centrapay/swift-parser").parse({ type: "mt940", data: text, validate: true })[0].transactions, "date"),
  };
  for (const [name, dates] of Object.entries(read)) {
    console.log(name, require(`./node_modules/${name}/package.json`).version, "->", dates.join(", "));
    assert.deepStrictEqual(dates, ["2025-12-31 booked 2025-01-02", "2026-01-02 booked 2026-12-31"]);
  }
}
main().catch((error) => { console.error(error); process.exit(1); });
JS
timeout 60 node run.js

venv/bin/python - <<'PY'
from importlib.metadata import version

import mt940

dates = [f"{one.data['date']} booked {one.data['entry_date']}" for one in mt940.parse("statement.mt940")]
print("mt-940 (Python)", version("mt-940"), "->", ", ".join(dates))
assert dates == ["2025-12-31 booked 2026-01-02", "2026-01-02 booked 2025-12-31"]
print("as stated")
PY
