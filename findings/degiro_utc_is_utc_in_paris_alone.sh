#!/usr/bin/env bash
# degiro-connector 3.0.36 (polars 2.1.0): the column response_datetime_utc is right on machines in Paris alone, and a bid that
#   has gone stays in the table.
#
# One would guess: `response_datetime_utc` is the moment of the answer in UTC; and where the feed says that a value is not
#   available any more ("ue"), the table has none.
# What happens: the fetcher stamps each answer with the machine's own local time, without a zone, and TickerToDF takes that
#   for Europe/Paris. On a server that runs on UTC the column is one hour early in winter and two in summer; in New York six.
#   "ue" is skipped, and every later row carries the last bid on.
# Seen: TZ=UTC -1:00 (or -2:00), TZ=America/New_York -6:00, TZ=Europe/Paris 0:00; after "ue" for the bid it is still 115.80.
# Why it matters: quotes that are joined with fills by that time are those of another hour, though all is well on the desk of
#   a developer in Paris or Amsterdam; and a stop that watches the bid watches one that nobody makes.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check degiro-connector==3.0.36 polars==2.1.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > quotes.py <<'PY'
import http.server
import threading
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from degiro_connector.quotecast.tools import ticker_fetcher
from degiro_connector.quotecast.tools.ticker_to_df import TickerToDF

ANSWERS = [
    '[{"m":"a_req","v":["360015751.LastPrice",1]},{"m":"a_req","v":["360015751.BidPrice",2]},'
    '{"m":"un","v":[1,115.85]},{"m":"un","v":[2,115.80]}]',
    '[{"m":"ue","v":[2]},{"m":"un","v":[1,115.60]}]',
]


class Feed(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ANSWERS.pop(0).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Feed)
threading.Thread(target=server.serve_forever, daemon=True).start()
ticker_fetcher.QUOTECAST = f"http://127.0.0.1:{server.server_address[1]}"

table = TickerToDF()
seen = []
for _ in range(2):
    ticker = ticker_fetcher.TickerFetcher.fetch_ticker(session_id="session")
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    row = table.parse(ticker).to_dicts()[0]
    off = timedelta(minutes=round((row["response_datetime_utc"] - now).total_seconds() / 60))
    seen.append((row["LastPrice"], row["BidPrice"], off))
expected = datetime.now().astimezone().utcoffset() - datetime.now(ZoneInfo("Europe/Paris")).utcoffset()
print(datetime.now().astimezone().tzname(), "price, bid, response_datetime_utc minus UTC:", *[(p, b, off.total_seconds() / 3600) for p, b, off in seen])
assert [row[:2] for row in seen] == [(115.85, 115.80), (115.60, 115.80)]
assert {row[2] for row in seen} == {expected}
assert (expected == timedelta(0)) == (datetime.now().astimezone().utcoffset() == datetime.now(ZoneInfo("Europe/Paris")).utcoffset())
PY
for zone in UTC America/New_York Europe/Paris; do
    TZ=$zone venv/bin/python quotes.py
done
echo "as stated"
