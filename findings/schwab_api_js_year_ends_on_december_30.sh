#!/usr/bin/env bash
# @sudowealth/schwab-api 2.1.1 (npm): the transactions of a year, asked for as in its README, are those up to December 30; the orders of a day are none.
#
# One would guess: startDate "2025-01-01" and endDate "2025-12-31" are the year, the last day with its trades.
# What happens: a date becomes midnight UTC, at both ends. Schwab takes both as instants: the last day is not in the interval. From a day to the
#   same day is an interval of no length.
# Seen: getTransactions() from 2025-01-01 to 2025-12-31 asks for 2025-01-01T00:00:00.000Z to 2025-12-31T00:00:00.000Z, and
#   getOrdersByAccount() from and to 2026-01-05 for midnight to midnight of the 5th. (Midnight UTC is 19:00 in New York, of the day before.)
# Why it matters: the sales of the last trading day of the year are not in the tax report, and the reconciliation of today's orders finds none, each
#   time, without an error: a fill of today is taken for one from elsewhere, or the order is sent again.
# Instead: hand in whole times, "2025-12-31T23:59:59.999-05:00" for the end.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @sudowealth/schwab-api@2.1.1 > npm.txt 2>&1 || { cat npm.txt; exit 1; }

cat > run.mjs <<'JS'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createApiClient, createSchwabAuth } from "@sudowealth/schwab-api";
console.log("@sudowealth/schwab-api", JSON.parse(readFileSync("node_modules/@sudowealth/schwab-api/package.json")).version);

const asked = [];
const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  asked.push([url.pathname.split("/").at(-1), Object.fromEntries(url.searchParams)]);
  response.setHeader("content-type", "application/json");
  response.end("[]");
});
server.listen(0, "127.0.0.1", async () => {
  const tokens = { accessToken: "token", refreshToken: "token", expiresAt: Date.now() + 3_600_000 };
  const oauthConfig = { clientId: "id", clientSecret: "secret", redirectUri: "https://127.0.0.1/callback", load: async () => tokens };
  const config = { baseUrl: `http://127.0.0.1:${server.address().port}` };
  const { trader } = createApiClient({ auth: createSchwabAuth({ oauthConfig }), config });
  const pathParams = { accountNumber: "hash-of-the-account" };
  await trader.transactions.getTransactions({ pathParams, queryParams: { types: "TRADE", startDate: "2025-01-01", endDate: "2025-12-31" } });
  await trader.orders.getOrdersByAccount({ pathParams, queryParams: { fromEnteredTime: "2026-01-05", toEnteredTime: "2026-01-05" } });
  for (const [what, query] of asked) console.log(what, "->", query);
  assert.deepStrictEqual(asked, [
    ["transactions", { startDate: "2025-01-01T00:00:00.000Z", endDate: "2025-12-31T00:00:00.000Z", types: "TRADE" }],
    ["orders", { fromEnteredTime: "2026-01-05T00:00:00.000Z", toEnteredTime: "2026-01-05T00:00:00.000Z" }],
  ]);
  console.log("as stated");
  process.exit(0);
});
JS
timeout 60 node run.mjs
