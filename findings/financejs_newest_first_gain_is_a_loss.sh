#!/usr/bin/env bash
# financejs 4.1.0 (npm): XIRR of a gain of 10 percent, listed newest first, is a loss of 9.09 percent, and a loss of 90 percent is Infinity.
#
# One would guess: XIRR([cash flows], [dates]) goes by the dates; a flow from before the first of the list is discounted the other way, or refused,
#   as spreadsheets do. A rate that is not found is no number.
# What happens: the time of a flow is its distance from the first of the list, whichever way. Newest first turns time around; a list in no order
#   mixes both. A first step to below -100 percent is gone on with: Infinity, NaN.
# Seen: -1000 on 2025-01-05 and 1100 on 2026-01-05: 10; the same two the other way: -9.09. Two purchases and a sale of 16.09 percent a year: -13.86
#   newest first, 91.97 with the second purchase first. 1000 of which 100 are left after a year: Infinity. xirr 1.1.0 has 10, 16.09 and -90.
# Why it matters: brokers' exports are newest first more often than not. A table of holdings ranked by return has the winners and losers changed over,
#   and the position that lost most, at the top.
# Instead: sort by date first, and check the result by Number.isFinite(), or take xirr.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts financejs@4.1.0 xirr@1.1.0 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
const assert = require("assert");
const Finance = require("financejs");
const xirr = require("xirr");
for (const name of ["financejs", "xirr"]) console.log(name, require(`./node_modules/${name}/package.json`).version);

const finance = new Finance();
const at = (day) => new Date(`${day}T00:00:00Z`);
function both(...flows) {
  const theirs = finance.XIRR(flows.map(([amount]) => amount), flows.map(([, day]) => at(day)));
  const other = xirr(flows.map(([amount, day]) => ({ amount, when: at(day) })));
  console.log(flows.map((flow) => flow.join(" on ")).join(", "), "-> financejs", theirs, "| xirr", Number((other * 100).toFixed(2)));
  return [theirs, Number((other * 100).toFixed(2))];
}

const bought = [-1000, "2025-01-05"], sold = [1100, "2026-01-05"], more = [-500, "2025-07-05"], soldAll = [1700, "2026-01-05"];
assert.deepStrictEqual(both(bought, sold), [10, 10]);
assert.deepStrictEqual(both(sold, bought), [-9.09, 10]);
assert.deepStrictEqual(both(bought, more, soldAll), [16.09, 16.09]);
assert.deepStrictEqual(both(soldAll, more, bought), [-13.86, 16.09]);
assert.deepStrictEqual(both(more, bought, soldAll), [91.97, 16.09]);
assert.deepStrictEqual(both(bought, [100, "2026-01-05"]), [Infinity, -90]);
console.log("as stated");
JS
timeout 60 node run.js
