#!/usr/bin/env bash
# bitmex-realtime-api 1.5.5 (npm, BitMEX's own): with a second callback on a table each new row is in it twice, and a filled order stays open.
#
# One would guess: addStream(symbol, table, callback) may be called in two places, as an emitter allows: one subscription goes out, and both callbacks
#   get the same table.
# What happens: one subscription goes out, and each callback puts every message into the one table itself. An insert is done twice. An update
#   changes the first of the two rows, twice; the other stays as it was born.
# Seen: an order for 100 is filled. The first callback then has [a: 0 left, a: 100 left], and so has getData(). A fill of 100 that comes as a row of
#   "execution" is there twice: 200 contracts.
# Why it matters: a risk module and a screen that both listen to "order" or "execution" make the account's open orders and fills double, for both
#   of them and for whoever asks getData(). An order that "is still open" is waited for, or cancelled, and the position summed from fills is twice
#   the real one. Alone, each of the two modules was right.
# Instead: one addStream() for each table, and hand on from its callback.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts bitmex-realtime-api@1.5.5 ws@8.18.0 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
const assert = require("assert");
const http = require("http");
const { WebSocketServer } = require("ws");
const BitMEXClient = require("bitmex-realtime-api");
console.log("bitmex-realtime-api", require("./node_modules/bitmex-realtime-api/package.json").version);

// BitMEX as far as it is needed: the list of streams, and for each subscription an empty image and what follows it.
const KEYS = { order: ["orderID"], execution: ["execID"] };
const FOLLOWS = {
  order: [
    ["insert", { orderID: "a", symbol: "XBTUSD", side: "Buy", orderQty: 100, leavesQty: 100, ordStatus: "New" }],
    ["update", { orderID: "a", symbol: "XBTUSD", leavesQty: 0, ordStatus: "Filled" }],
  ],
  execution: [["insert", { execID: "e", orderID: "a", symbol: "XBTUSD", side: "Buy", lastQty: 100, execType: "Trade" }]],
};
const subscriptions = [];
const server = http.createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ subscriptionSubjects: { public: ["trade"], authenticationRequired: Object.keys(KEYS) } }));
});
new WebSocketServer({ server }).on("connection", (socket) => socket.on("message", (text) => {
  const { args } = JSON.parse(text);
  subscriptions.push(args);
  const [table, symbol] = args.split(":");
  socket.send(JSON.stringify({ table, action: "partial", keys: KEYS[table], filter: { symbol }, data: [] }));
  for (const [action, row] of FOLLOWS[table]) socket.send(JSON.stringify({ table, action, data: [row] }));
}));

const orders = (rows) => rows.map((row) => `${row.orderID}: ${row.leavesQty} left`).join(", ");
const filled = (rows) => rows.reduce((sum, row) => sum + row.lastQty, 0);

function after(listeners) {
  return new Promise((resolve, reject) => {
    const address = `127.0.0.1:${server.address().port}`;
    const client = new BitMEXClient({ endpoint: `ws://${address}/realtime`, httpEndpoint: `http://${address}/api/v1` });
    client.on("error", reject);
    let called = 0;
    for (let n = 0; n < listeners; n++) {
      for (const table of ["order", "execution"]) {
        client.addStream("XBTUSD", table, () => {
          // the image, then the rows of both tables
          if (++called === listeners * (2 + FOLLOWS.order.length + FOLLOWS.execution.length)) {
            resolve([orders(client.getData("XBTUSD", "order")), filled(client.getData("XBTUSD", "execution"))]);
          }
        });
      }
    }
  });
}

server.listen(0, "127.0.0.1", async () => {
  const one = await after(1);
  assert.deepStrictEqual(subscriptions.splice(0).sort(), ["execution:XBTUSD", "order:XBTUSD"]);
  const two = await after(2);
  assert.deepStrictEqual(subscriptions.sort(), ["execution:XBTUSD", "order:XBTUSD"]);
  console.log("one callback  -> order:", one[0], "| filled:", one[1]);
  console.log("two callbacks -> order:", two[0], "| filled:", two[1]);
  assert.deepStrictEqual(one, ["a: 0 left", 100]);
  assert.deepStrictEqual(two, ["a: 0 left, a: 100 left", 200]);
  console.log("as stated");
  process.exit(0);
});
JS
timeout 60 node run.js
