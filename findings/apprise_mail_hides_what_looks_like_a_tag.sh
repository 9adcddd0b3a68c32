#!/usr/bin/env bash
# apprise: in a mail the text "cause <unknown>, book 5" shows as "cause , book 5", on one line with the next.
#
# One would guess: notify(body=...) of plain text arrives as plain text, as it does at a webhook. The body's format is optional.
# What happens: without body_format the text is not converted, and mailto:// sends it as HTML: <unknown> is a tag, which a mail
#   program does not show, and line ends are spaces. The plain part of the same mail has lost both as well. With
#   body_format="text" the mail is plain text.
# Why it matters: an alert loses a part of what it is about, and nobody sees that something is missing.
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

for package in "apprise aiosmtpd".split():
    print(package, version(package))

import asyncio
import email
import email.policy

import apprise
from aiosmtpd.smtp import SMTP

TEXT = "AAPL: cause <unknown>, book 5\nsince 09:15"


class Mailbox:
    async def handle_DATA(self, server, session, envelope):
        self.mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        return "250 OK"


async def mailed(**how):
    mailbox = Mailbox()
    async with await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        service = apprise.Apprise()
        service.add(f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com&mode=insecure")
        assert await asyncio.to_thread(service.notify, body=TEXT, title="alert", **how)
    return {part.get_content_type(): part.get_content() for part in mailbox.mail.walk() if not part.is_multipart()}


for how in ({}, {"body_format": "text"}):
    parts = asyncio.run(mailed(**how))
    print(how, "->", parts)
    if how:
        assert list(parts) == ["text/plain"] and parts["text/plain"].splitlines() == TEXT.splitlines()
    else:
        assert parts["text/html"].splitlines() == TEXT.splitlines()
        assert "unknown" not in parts["text/plain"] and len(parts["text/plain"].splitlines()) == 1
print("as stated")
PY
