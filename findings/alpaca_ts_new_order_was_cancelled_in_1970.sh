#!/usr/bin/env bash
# @master-chief/alpaca 6.3.20 (npm): an order that was just accepted was filled, cancelled, expired and replaced on January 1, 1970.
#
# One would guess: what Alpaca has as null ("filled_at": null, "canceled_at": null, ...) is null in the order, as qty and limit_price are.
# What happens: each time goes through new Date(), and new Date(null) is the start of 1970: a Date, and true. A field that is not in the answer is
#   an invalid Date, true as well.
# Seen: an order with status "new", 0 of 100 filled: filled_at, canceled_at, expired_at, failed_at and replaced_at are all
#   1970-01-01T00:00:00.000Z. The same by getOrders().
# Why it matters: "if (order.canceled_at)" is true of each open order: a program that sends a cancelled order again holds two, one that drops filled
#   ones from its book has none. Sorted by filled_at, the open orders are the oldest fills.
# Instead: ask for order.status, or order.raw(), which has the null.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @master-chief/alpaca@6.3.20 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.mjs <<'JS'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import http from "node:http";
import { AlpacaClient } from "@master-chief/alpaca";
console.log("@master-chief/alpaca", JSON.parse(readFileSync("node_modules/@master-chief/alpaca/package.json")).version);

const TIMES = ["filled_at", "canceled_at", "expired_at", "failed_at", "replaced_at"];
const order = {
  id: "61e69015-8549-4bfd-b9c3-01e75843f47d", client_order_id: "eb9e2aaa-f71a-4f51-b5b4-52a6c565dad4", symbol: "AAPL", asset_class: "us_equity",
  created_at: "2026-01-05T15:00:00.1Z", updated_at: "2026-01-05T15:00:00.1Z", submitted_at: "2026-01-05T15:00:00.1Z",
  qty: "100", filled_qty: "0", filled_avg_price: null, type: "limit", order_class: "", side: "buy", time_in_force: "day",
  limit_price: "250", stop_price: null, status: "new", legs: null, ...Object.fromEntries(TIMES.map((name) => [name, null])),
};
const server = http.createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(request.url.includes(order.id) ? order : [order]));
});
server.listen(0, "127.0.0.1", async () => {
  const account = `http://127.0.0.1:${server.address().port}/v2`;
  const client = new AlpacaClient({ credentials: { key: "AKTEST", secret: "secret", paper: false }, endpoints: { rest: { account } } });
  const one = await client.getOrder({ order_id: order.id });
  const [listed] = await client.getOrders({});
  console.log(one.status, `${one.filled_qty} of ${one.qty} filled, average`, one.filled_avg_price);
  for (const read of [one, listed]) {
    console.log(Object.fromEntries(TIMES.map((name) => [name, read[name].toISOString()])));
    for (const name of TIMES) {
      assert.strictEqual(read[name].getTime(), 0);
      assert.ok(read[name]);
      assert.strictEqual(read.raw()[name], null);
    }
    assert.deepStrictEqual([read.status, read.qty, read.filled_qty, read.filled_avg_price], ["new", 100, 0, null]);
  }
  console.log("as stated");
  process.exit(0);
});
JS
timeout 60 node run.mjs
