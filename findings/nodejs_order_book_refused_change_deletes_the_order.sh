#!/usr/bin/env bash
# nodejs-order-book 10.1.1 (npm): a change that is refused takes the order out of the book, and a post-only order that was filled in part takes.
#
# One would guess: modify() changes price or size, or gives an error and leaves the order as it was. Post-only is post-only until the end, and
#   quantityLeft is what is left of the order that was sent.
# What happens: modify() removes the order first and then enters a new one, which post-only may refuse: nothing is put back. A partial fill makes a
#   new object without postOnly, and modify() one without its link to the other half of an OCO. Stops that an order sets off write into its answer.
# Seen: a post-only bid of 10 at 99, changed to 101, where one sells: an error, and no bid. The same after 4 were filled: no error, 6 bought at 101.
#   An order for 1 that is filled whole says quantityLeft 3. An OCO for 1 whose limit was moved from 110 to 109 sells 1 at 109 and 1 more at 94.
# Why it matters: a quote is gone although its change "failed", a maker pays the taker's fee, a full order is sent on for 3, a position of 1 that
#   was closed is closed a second time: a short of 1.
# Instead: after an error of modify() send the order anew; cancel and place in place of modify() for post-only and OCO; sum up done and partial.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts nodejs-order-book@10.1.1 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.mjs <<'JS'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import library from "nodejs-order-book";
const { OrderBook } = library;
console.log("nodejs-order-book", JSON.parse(readFileSync("node_modules/nodejs-order-book/package.json")).version);

const book = () => new OrderBook({ enableJournaling: true, experimentalConditionalOrders: true });
const executed = (answer) => answer.done.map(({ id, size, price }) => `${id}: ${size} at ${price}`);

// a refused change
const quotes = book();
quotes.limit({ id: "bid", side: "buy", size: 10, price: 99, postOnly: true });
quotes.limit({ id: "ask", side: "sell", size: 10, price: 101 });
const refused = quotes.modify("bid", { price: 101 });
console.log("changed to 101:", refused.err.message, "| bid:", quotes.order("bid"), "| asks, bids:", JSON.stringify(quotes.depth()));
assert.match(refused.err.message, /^Post-only/);
assert.strictEqual(quotes.order("bid"), undefined);
assert.deepStrictEqual(quotes.depth(), [[[101, 10]], []]);

// the same after a partial fill
const filled = book();
filled.limit({ id: "bid", side: "buy", size: 10, price: 99, postOnly: true });
filled.market({ side: "sell", size: 4 });
filled.limit({ id: "ask", side: "sell", size: 10, price: 101 });
const taken = filled.modify("bid", { price: 101 });
console.log("the same after 4 were filled:", taken.err, executed(taken), "| asks, bids:", JSON.stringify(filled.depth()));
assert.strictEqual(taken.err, null);
assert.deepStrictEqual(executed(taken), ["bid: 6 at 101"]);
assert.deepStrictEqual(filled.depth(), [[[101, 4]], []]);

// an order that sets off a stop
const stops = book();
stops.limit({ id: "a", side: "sell", size: 1, price: 100 });
stops.limit({ id: "b", side: "sell", size: 2, price: 101 });
stops.limit({ id: "c", side: "buy", size: 1, price: 90 });
stops.market({ side: "sell", size: 0.5 });
assert.strictEqual(stops.stopMarket({ side: "buy", size: 5, stopPrice: 100 }).err, null);
const whole = stops.market({ side: "buy", size: 1 });
console.log("a market order for 1, with 1 at 100: left", whole.quantityLeft, executed(whole));
assert.strictEqual(whole.quantityLeft, 3);
assert.deepStrictEqual(executed(whole), ["a: 1 at 100", "b: 2 at 101"]);

// an OCO of which one half is moved
const sales = (moved) => {
  const pair = book();
  pair.limit({ id: "last", side: "buy", size: 0.5, price: 100 });
  pair.market({ side: "sell", size: 0.5 });
  const answers = [pair.oco({ id: "oco", side: "sell", size: 1, price: 110, stopPrice: 95, stopLimitPrice: 90 })];
  if (moved) answers.push(pair.modify("oco", { price: 109 }));
  for (const answer of answers) assert.strictEqual(answer.err, null);
  const answer = pair.limit({ id: "buyer", side: "buy", size: 1, price: 110 });
  pair.limit({ id: "low", side: "buy", size: 2, price: 94 });
  return [...executed(answer), ...executed(pair.market({ side: "sell", size: 0.5 }))].filter((one) => one.startsWith("oco"));
};
console.log("the OCO for 1 sells", sales(false), "and once its limit was moved", sales(true));
assert.deepStrictEqual(sales(false), ["oco: 1 at 110"]);
assert.deepStrictEqual(sales(true), ["oco: 1 at 109", "oco: 1 at 94"]);
console.log("as stated");
JS
timeout 60 node run.mjs
