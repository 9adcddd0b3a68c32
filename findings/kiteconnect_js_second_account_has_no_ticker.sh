#!/usr/bin/env bash
# kiteconnect 5.3.0 (npm): of two accounts in one process the second's ticker never connects, and its callbacks get the first one's fills.
#
# One would guess: new KiteTicker({api_key, access_token}) is a connection of its own, with callbacks of its own. The Python client's is.
# What happens: the socket and the lists of callbacks belong to the module. connect() of the second ticker returns without a word, as the first
#   one's socket is open; connected() is true for both, subscribe() of either goes over the one socket, and each event goes to all callbacks.
#   disconnect() of one ends the other, and forbids the reconnect of every ticker of the process from then on.
# Seen: the server has one connection, of account one. A fill of account one is given to the order_update callbacks of both. Account two's own
#   fills come to nobody.
# Why it matters: a program that copies trades to a second account, or keeps two clients' books, books the first account's fills twice and the
#   second's never, and an unsubscribed or disconnected second takes the feed from the first.
# Instead: one process for each account.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts kiteconnect@5.3.0 ws@8.18.0 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
const assert = require("assert");
const { WebSocketServer } = require("ws");
const { KiteTicker } = require("kiteconnect");
console.log("kiteconnect", require("./node_modules/kiteconnect/package.json").version);

const logins = [];
let first;
const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => {
  const root = `ws://127.0.0.1:${server.address().port}/`;
  const fills = [];
  const ticker = (name) => {
    const made = new KiteTicker({ api_key: `key-of-${name}`, access_token: `token-of-${name}`, root });
    made.on("order_update", (order) => fills.push(`callback of ${name}: ${order.account_id} ${order.transaction_type} ${order.filled_quantity}`));
    return made;
  };
  const one = ticker("one");
  const two = ticker("two");

  one.on("connect", () => {
    two.connect();
    // What account two asks for is the sign that its connect() has had its time.
    two.subscribe([738561]);
  });
  server.on("connection", (socket, request) => {
    logins.push(new URL(request.url, root).searchParams.get("access_token"));
    first ??= socket;
    socket.on("message", (text) => {
      console.log("the server is asked on the connection of", logins.at(-1), "for", text.toString());
      first.send(JSON.stringify({ type: "order", data: { account_id: "ONE", transaction_type: "BUY", filled_quantity: 100 } }));
    });
  });
  two.on("order_update", () => {
    console.log("connected:", [one, two].map((each) => each.connected()), "| logins:", logins);
    console.log(fills);
    assert.deepStrictEqual(logins, ["token-of-one"]);
    assert.deepStrictEqual([one.connected(), two.connected()], [true, true]);
    assert.deepStrictEqual(fills, ["callback of one: ONE BUY 100", "callback of two: ONE BUY 100"]);
    two.disconnect();
    assert.strictEqual(one.connected(), false);
    console.log("after two.disconnect() one is connected:", one.connected());
    console.log("as stated");
    process.exit(0);
  });
  one.connect();
});
JS
timeout 60 node run.js
