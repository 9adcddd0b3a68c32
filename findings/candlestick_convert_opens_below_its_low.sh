#!/usr/bin/env bash
# candlestick-convert 7.0.0 (npm): a candle opens at the close of the one before, outside its own low and high, and the trades lose their times.
#
# One would guess: the open of a candle is its first trade, low <= open <= high, and the trades that were handed in are as they were.
# What happens: from the second candle on batchTicksToCandle() and batchTradeToExtCandle() give it the last close as its open, without low and high
#   knowing of it. And they write the start of the candle into each trade's `time`: a second call sees the cut times.
# Seen: a share closes at 101 and opens at 110 after the night: open 101, low 110, high 112. The same trades converted to minutes after they were
#   converted to five minutes: one candle for each five minutes, with the volume of all, where there are three minutes with a trade.
# Why it matters: each gap has vanished: a strategy that buys at the open is filled at a price nobody offered, 101 instead of 110, and a stop inside
#   of the gap is filled at the stop. Two intervals from one list, the usual thing, make the finer one wrong, silently.
# Instead: take each candle's open from the trades, and hand in a copy: trades.map((trade) => ({ ...trade })).
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts candlestick-convert@7.0.0 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
const assert = require("assert");
const { batchTicksToCandle } = require("candlestick-convert");
console.log("candlestick-convert", require("./node_modules/candlestick-convert/package.json").version);

const minutes = (n, seconds = 0) => Date.UTC(2026, 0, 5, 20, 55) + (n * 60 + seconds) * 1000;
const trade = (time, price) => ({ time, price, quantity: 10 });
const show = (candle) => `${new Date(candle.time).toISOString().slice(5, 16)} o ${candle.open} h ${candle.high} l ${candle.low} c ${candle.close} v ${candle.volume}`;

const overnight = [trade(minutes(4), 100), trade(minutes(4, 30), 101), trade(minutes(1055), 110), trade(minutes(1055, 30), 112)];
const gap = batchTicksToCandle(overnight, 60, true).map(show);
console.log("over the night:", gap);
assert.deepStrictEqual(gap, ["01-05T20:59 o 100 h 101 l 100 c 101 v 20", "01-06T14:30 o 101 h 112 l 110 c 112 v 20"]);

const trades = () => [trade(minutes(0, 5), 100), trade(minutes(1, 5), 101), trade(minutes(3, 5), 99)];
const fresh = batchTicksToCandle(trades(), 60, true).length;
const reused = trades();
batchTicksToCandle(reused, 300, true);
const second = batchTicksToCandle(reused, 60, true).map(show);
console.log("minutes from fresh trades:", fresh, "| from those that were in five minutes before:", second);
assert.strictEqual(fresh, 3);
assert.deepStrictEqual(second, ["01-05T20:55 o 100 h 101 l 99 c 99 v 30"]);
console.log("as stated");
JS
timeout 60 node run.js
