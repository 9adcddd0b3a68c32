#!/usr/bin/env bash
# apprise: of two mails on one object the second one sleeps 5.5 seconds inside notify(); a webhook's does not.
#
# One would guess: notify() takes as long as the server does, whichever service it is; nothing is said of a limit.
# What happens: mailto:// inherits a pause of 5.5 s between two calls, kept as the time of the last call on the object;
#   json:// has none. An object made anew for each message never sleeps. On top of that the pause is by datetime.now(),
#   so that a clock that is set back prolongs it by as much.
# Why it matters: "as soon as it is found" is 5.5 s late for the second finding, and whoever calls it in an event loop's
#   thread holds everything up.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check apprise==2.3.0 aiosmtpd==1.4.6
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in ("apprise", "aiosmtpd"):
    print(package, version(package))

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import apprise
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


web = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=web.serve_forever, daemon=True).start()
loop = asyncio.new_event_loop()
mail = loop.run_until_complete(loop.create_server(lambda: SMTP(Sink()), "127.0.0.1", 0))
threading.Thread(target=loop.run_forever, daemon=True).start()
port = mail.sockets[0].getsockname()[1]
urls = {
    "mailto": f"mailto://127.0.0.1:{port}?from=a@desk.test&to=b@desk.test&mode=insecure",
    "json": f"json://127.0.0.1:{web.server_port}/",
}
took = {}
for name, url in urls.items():
    one = apprise.Apprise()
    assert one.add(url)
    took[name] = []
    for number in range(2):
        began = time.monotonic()
        assert one.notify(title="t", body=f"{number}")
        took[name].append(time.monotonic() - began)
    print(name, "same object:", " then ".join(f"{s:.1f} s" for s in took[name]))
began = time.monotonic()
another = apprise.Apprise()
assert another.add(urls["mailto"]) and another.notify(title="t", body="2")
anew = time.monotonic() - began
print(f"mailto, an object of its own: {anew:.1f} s")
assert took["mailto"][1] > 4 and took["json"][1] < 3 and anew < 3
print("as stated")
PY
