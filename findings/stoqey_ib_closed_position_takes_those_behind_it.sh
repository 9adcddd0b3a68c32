#!/usr/bin/env bash
# @stoqey/ib 1.6.10 (npm): one position is closed, and all positions that TWS had listed behind it are gone as well.
#
# One would guess: IBApiNext.getPositions() keeps the account's positions in `all`, adds what is opened, and removes what TWS reports with 0.
# What happens: the list is cut off at the position that was closed: it goes, and so does each one after it. `removed` names the closed one
#   alone. Those that are lost come back when their size next changes, as "added". getAccountUpdates() keeps its portfolio likewise.
# Seen: AAPL 100, MSFT 200, NVDA 300 and TSLA -50 are held and MSFT is sold: `all` is AAPL. A further 30 TSLA are sold short: `all` is AAPL and
#   TSLA, which counts as a new position. NVDA stays away.
# Why it matters: whoever trades from `all` to a target buys 300 NVDA again and leaves a short of 50 unhedged: flat by the list, held at IB.
#   Nothing is raised, and an account that sells its last position first never sees it.
# Instead: keep an own map by account and contract id from `added`, `changed` and `removed`, or ask for the positions anew.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @stoqey/ib@1.6.10 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
const assert = require("assert");
const net = require("net");
const { IBApiNext } = require("@stoqey/ib");
console.log("@stoqey/ib", require("./node_modules/@stoqey/ib/package.json").version);

// TWS as far as it is needed: the greeting, the start of the session, the positions and their end.
const GREETING_HEAD = 8;
const ASK_POSITIONS = "61", START_API = "71";
function message(...fields) {
  const body = Buffer.from(fields.join("\0") + "\0");
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
}
const position = (id, symbol, size) => message(61, 3, "DU111", id, symbol, "STK", "", 0, "", "", "NASDAQ", "USD", symbol, "NMS", size, 100);
const held = [position(1, "AAPL", 100), position(2, "MSFT", 200), position(3, "NVDA", 300), position(4, "TSLA", -50)];
let tws;
const server = net.createServer((socket) => {
  tws = socket;
  let buffer = Buffer.alloc(0);
  let greeted = false;
  socket.on("data", (data) => {
    buffer = Buffer.concat([buffer, data]);
    if (!greeted) {
      if (buffer.length < GREETING_HEAD || buffer.length < GREETING_HEAD + buffer.readUInt32BE(4)) return;
      buffer = buffer.subarray(GREETING_HEAD + buffer.readUInt32BE(4));
      greeted = true;
      socket.write(message(163, "20260105 09:30:00 EST"));
    }
    while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE(0)) {
      const end = 4 + buffer.readUInt32BE(0);
      const request = buffer.subarray(4, end).toString().split("\0")[0];
      buffer = buffer.subarray(end);
      if (request === START_API) socket.write(Buffer.concat([message(15, 1, "DU111"), message(9, 1, 1)]));
      if (request === ASK_POSITIONS) socket.write(Buffer.concat([...held, message(62, 1)]));
    }
  });
});

const show = (positions) => (positions?.get("DU111") ?? []).map((one) => `${one.contract.symbol} ${one.pos}`).join(", ");
const steps = [
  ["held        ", () => tws.write(position(2, "MSFT", 0))],
  ["MSFT closed ", () => tws.write(position(4, "TSLA", -80))],
  ["TSLA at -80 ", () => finish()],
];
const seen = [];
server.listen(0, "127.0.0.1", () => {
  const api = new IBApiNext({ host: "127.0.0.1", port: server.address().port });
  api.getPositions().subscribe((update) => {
    const [name, next] = steps[seen.length];
    seen.push([show(update.all), show(update.added), show(update.removed)]);
    console.log(name, "-> all:", seen.at(-1)[0], "| added:", seen.at(-1)[1] || "-", "| removed:", seen.at(-1)[2] || "-");
    next();
  });
  api.connect(1);
});

function finish() {
  const all = "AAPL 100, MSFT 200, NVDA 300, TSLA -50";
  assert.deepStrictEqual(seen, [[all, all, ""], ["AAPL 100", "", "MSFT 0"], ["AAPL 100, TSLA -80", "TSLA -80", ""]]);
  console.log("as stated");
  process.exit(0);
}
JS
timeout 60 node run.js
