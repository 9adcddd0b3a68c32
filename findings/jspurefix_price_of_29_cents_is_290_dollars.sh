#!/usr/bin/env bash
# jspurefix 5.11.4 (npm): a price that begins with its point, 44=.29, is read as 290; a trade date that is sent on goes a day back west of Greenwich.
#
# One would guess: a float in FIX is digits with an optional point, so .29 is 0.29. A local market date has no zone: 75=20260105 that is read from
#   a report and put into the next message is 75=20260105.
# What happens: a point in the first place is taken for no point: the digits are read as a whole number and multiplied by ten. A date is read as
#   midnight in UTC and written by the clock of the machine.
# Seen: LastPx .2875 is 28750, Price .29 is 290, and is sent on as 44=290; 0.29 is 0.29. On a machine in New York TradeDate 20260105 and
#   SettlDate 20260107 become 20260104 and 20260106, in Tokyo they stay.
# Why it matters: brokers that leave the zero out have penny shares, options and rates at a hundred times their price or more, as numbers like
#   any other. An allocation goes out with Sunday as its trade date and with the wrong day of settlement.
# Instead: compare the number with the text of the tag (view.getString), and pass dates on as that text.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts jspurefix@5.11.4 reflect-metadata@0.2.2 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.js <<'JS'
require("reflect-metadata");
const assert = require("assert");
const { AsciiParser, DefinitionFactory, DITokens, ElasticBuffer, SessionContainer } = require("jspurefix");
const { AsciiEncoder } = require("jspurefix/dist/buffer/ascii/ascii-encoder.js");
const { makeSessionScope } = require("jspurefix/dist/runtime/session-scope.js");

const SOH = "\u0001";
const report = (price, last) => {
  const fields = `35=8|49=BROKER|56=FUND|34=2|52=20260105-20:00:00.000|37=1|17=1|150=F|39=2|55=ABC|54=1|38=100|44=${price}|32=100|31=${last}|151=0|14=100|6=${last}|75=20260105|64=20260107|60=20260105-20:00:00.000|`;
  const body = fields.replaceAll("|", SOH);
  const message = `8=FIX.4.4${SOH}9=${body.length}${SOH}${body}`;
  const sum = Buffer.from(message).reduce((total, byte) => total + byte, 0) % 256;
  return Buffer.from(`${message}10=${String(sum).padStart(3, "0")}${SOH}`);
};

async function main() {
  const sessions = new SessionContainer();
  sessions.registerGlobal("error");
  const system = await sessions.makeSystem(require("jspurefix/data/session/test-qf44-initiator.json"));
  const config = system.resolve(DITokens.IJsFixConfig);
  config.definitions = await new DefinitionFactory().getDefinitions("qf44");
  const scope = makeSessionScope(config);
  const parser = new AsciiParser(scope, null, scope.sessionContainer.resolve(DITokens.ParseBuffer), 160 * 1024);
  const read = [];
  parser.on("msg", (_, view) => read.push(view.toObject()));
  parser.parseBuffer(report(".29", ".2875"));
  parser.parseBuffer(report("0.29", "0.2875"));

  const sentOn = read.map((one) => {
    const encoder = new AsciiEncoder(new ElasticBuffer(1024), config.definitions, undefined, SOH.charCodeAt(0));
    const order = { ClOrdID: "2", Price: one.Price, TradeDate: one.TradeDate, SettlDate: one.SettlDate };
    encoder.encodeSet(order, config.definitions.message.get("D"));
    return encoder.buffer.toString().replaceAll(SOH, "|");
  });
  read.forEach((one, n) => console.log(`  price ${one.Price}, last ${one.LastPx}, sent on: ${sentOn[n]}`));
  const dates = process.env.TZ === "America/New_York" ? "75=20260104|64=20260106" : "75=20260105|64=20260107";
  assert.deepStrictEqual(read.map((one) => [one.Price, one.LastPx]), [[290, 28750], [0.29, 0.2875]]);
  assert.deepStrictEqual(sentOn, [`11=2|${dates}|44=290|`, `11=2|${dates}|44=0.29|`]);
}
main().catch((error) => { console.error(error); process.exit(1); });
JS
echo "jspurefix $(node -p 'require("./node_modules/jspurefix/package.json").version')"
for zone in Asia/Tokyo America/New_York; do
    echo "read on a machine in $zone, written as .29 and as 0.29:"
    TZ=$zone timeout 60 node run.js
done
echo "as stated"
