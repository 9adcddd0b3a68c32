#!/usr/bin/env bash
# delta-rest-client 1.0.14 (Delta Exchange): once one has paged through the fills, fills() begins with the old page, for good and for every account.
#
# One would guess: fills() is the first page, the newest, and fills(after=cursor) the one behind it. Each call stands by itself.
# What happens: the cursor and the page size are written into the query, whose default is one dict for all calls of the process. What stands in it
#   is sent by the next call, by that of another client, too. A query that one hands in is changed as well. order_history() does the same.
# Seen: six fills, pages of two: fills() 6 and 5, with the cursor 4 and 3. Then the seventh is executed, and fills() gives 4 and 3 again; the second
#   account's fills(), its first call, asks behind the first one's cursor. A new process sees 7 and 6.
# Why it matters: a program that reads all pages at its start never sees a later fill, and no error: the answer has as many rows as always. An order
#   that is gone from the open ones without a fill is taken for cancelled, and sent again.
# Instead: pass a new dict with each call, fills(query={}), and order_history(query={}).
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check delta-rest-client==1.0.14 requests==2.32.5 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

timeout 60 venv/bin/python - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

from delta_rest_client import DeltaRestClient

print("delta-rest-client", version("delta-rest-client"))
executed = {"first": [1, 2, 3, 4, 5, 6], "second": [11, 12, 13]}
asked = []


class Delta(BaseHTTPRequestHandler):
    """Newest first; `after` is the id of the last row that one has."""

    def do_GET(self):
        address = urlsplit(self.path)
        query = {name: int(values[0]) for name, values in parse_qs(address.query).items()}
        asked.append((self.headers["api-key"], query))
        rows = sorted((one for one in executed[self.headers["api-key"]] if one < query.get("after", 10**9)), reverse=True)[: query["page_size"]]
        body = json.dumps({"success": True, "result": [{"id": one} for one in rows], "meta": {"after": str(rows[-1]) if rows else None}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Delta)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
first, second = (DeltaRestClient(base, api_key=name, api_secret="secret") for name in ("first", "second"))


def ids(answer):
    return [row["id"] for row in answer["result"]]


for read in ("fills", "order_history"):
    executed["first"] = [1, 2, 3, 4, 5, 6]
    page = getattr(first, read)(page_size=2)
    behind = getattr(first, read)(page_size=2, after=page["meta"]["after"])
    executed["first"].append(7)
    again = ids(getattr(first, read)(page_size=2))
    fresh = ids(getattr(first, read)(query={}, page_size=2))
    other = ids(getattr(second, read)(page_size=2))
    print(f"{read}: {ids(page)}, behind it {ids(behind)}; after the seventh {again}, with a new query {fresh}; second account {other}, asked", asked[-1][1])
    assert (ids(page), ids(behind)) == ([6, 5], [4, 3])
    assert again == [4, 3]
    assert fresh == [7, 6]
    assert other == []
    assert asked[-1] == ("second", {"page_size": 2, "after": 5})

mine = {"product_ids": 27}
first.fills(query=mine, page_size=2, after="5")
print("a query of one's own is afterwards", mine)
assert mine == {"product_ids": 27, "after": "5", "page_size": 2}
server.shutdown()
print("as stated")
PY
