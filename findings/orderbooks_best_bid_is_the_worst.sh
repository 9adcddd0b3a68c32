#!/usr/bin/env bash
# orderbooks 1.1.14 (npm): once the book is trimmed, its last bid is the worst bid of the exchange, and it becomes the best bid when the price falls.
#
# One would guess: maxDepth (250 unless told) keeps the 125 best bids and the 125 best offers, and a book that has run out of bids has none.
# What happens: of the bids that are too many, the cut starts one level too early: it takes one that should stay, and leaves the very worst. Levels
#   that were cut do not come back, as an exchange sends changes only. The offers are cut right.
# Seen: 200 bids, a dime apart, from 59999.90 down to 59980.00. After the snapshot the last two bids are 59987.60 and 59980.00. The price falls
#   by 12.40 dollars, 124 bids go: the best bid is 59980.00, 7.50 below that of the exchange, 59987.50, and getEstimatedSlippage() of a sale is 0.
# Why it matters: bybit's and others' feeds have 200 to 1000 levels a side, so each book is trimmed from the start. A stop measured by the best
#   bid goes off 7.50 early, and a market maker quotes at the wrong end of the book. A fall of 12 dollars in bitcoin is a matter of seconds.
# Instead: set maxDepth above twice the depth of the feed, so that nothing is ever cut.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts orderbooks@1.1.14 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
const assert = require("assert");
const { OrderBook, OrderBookLevel } = require("orderbooks");
console.log("orderbooks", require("./node_modules/orderbooks/package.json").version);

const price = (dimes) => (600000 - dimes) / 10;
const bid = (n, size = 1) => OrderBookLevel("BTCUSDT", price(1 + n), "Buy", size);
const offer = (n) => OrderBookLevel("BTCUSDT", price(-n), "Sell", 1);
const levels = [...Array(200).keys()];

function lastBids(options) {
  const book = new OrderBook("BTCUSDT", options);
  book.handleSnapshot([...levels.map((n) => bid(n)), ...levels.map(offer)]);
  const kept = book.getBookState().filter((level) => level[2] === "Buy").map((level) => level[1]);
  book.handleDelta(levels.slice(0, 124).map((n) => bid(n, 0)));
  return { bids: kept.length, first: kept[0], lastTwo: kept.slice(-2), best: book.getBestBid(), slippage: book.getEstimatedSlippage(1, "Sell").slippagePercent };
}

const trimmed = lastBids();
const whole = lastBids({ maxDepth: 1000 });
console.log("as it comes   ->", trimmed);
console.log("never trimmed ->", whole);
assert.deepStrictEqual(trimmed, { bids: 125, first: 59999.9, lastTwo: [59987.6, 59980], best: 59980, slippage: 0 });
assert.deepStrictEqual(whole, { bids: 200, first: 59999.9, lastTwo: [59980.1, 59980], best: 59987.5, slippage: 0 });
console.log("as stated");
JS
timeout 60 node run.js
