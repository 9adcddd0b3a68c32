"""Where signed heads go besides the journal: files, web addresses, mail. A head is worth something once there is a copy
that the journal's keeper cannot reach.

* A place receives every head that it has not had, oldest first; one that does not answer receives them later.
* A place delays nothing else: each call is bounded, and a failure is reported once, without credentials.
"""

from __future__ import annotations

import hashlib
import os
import re
import smtplib
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from actors.journal.evidence_tables import StoredHead
from brokers.kit.whole_file import append_durably

TIMEOUT_S: Final = 10.0
MOST_AT_ONCE: Final = 100
"""The number of heads in one call; the rest goes with the next calls."""

Deliver = Callable[[Sequence[StoredHead]], None]


class PlaceAway(Exception):
    """A place did not accept its heads; the message has no credentials. They are sent again."""


def shown(place: str) -> str:
    """A place for people: without the credentials and the query that it may have."""
    parts = urllib.parse.urlsplit(place)
    if not parts.scheme or not parts.hostname:
        return place
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def stored_name(place: str) -> str:
    """A place as the journal names it, whose copies go to other people: a URL without its password and query, and a
    digest of the query, which keeps two such places apart."""
    parts = urllib.parse.urlsplit(place)
    if not parts.hostname or (parts.password is None and not (parts.query and parts.scheme in ("http", "https"))):
        return place
    apart = hashlib.sha256(f"{parts.username}?{parts.query}".encode()).hexdigest()[:16]
    return f"{shown(place)}#{apart}"


def deliver(place: str, heads: Sequence[StoredHead]) -> None:
    """Send these heads to a place, oldest first; raises :class:`PlaceAway`.

    A path gets them appended, an empty line after each; ``http(s)://`` one POST of ``text/plain`` in the same form;
    ``smtp(s)://[user:password@]host[:port]/?from=A&to=B`` one mail.
    """
    place = _with_environment(place)
    scheme = urllib.parse.urlsplit(place).scheme
    text = "".join(f"{head.note}\n" for head in heads)
    try:
        if scheme in ("http", "https"):
            _post(place, text)
        elif scheme in ("smtp", "smtps"):
            _mail(place, text, heads[-1])
        else:
            append_durably(Path(place.removeprefix("file://")), text, mode=0o644)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        found = getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
        raise PlaceAway(f"heads could not be given to {shown(place)}: {found}") from None


def _with_environment(place: str) -> str:
    def value(match: re.Match[str]) -> str:
        if not os.environ.get(match[1], "").strip():
            raise PlaceAway(f"heads could not be given to {shown(place)}: ${{{match[1]}}} is not set")
        return urllib.parse.quote(os.environ[match[1]], safe="")

    return re.sub(r"\$\{(\w+)\}", value, place)


def _post(url: str, text: str) -> None:
    parts = urllib.parse.urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    bare = urllib.parse.urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = urllib.request.Request(bare, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})  # noqa: S310 - the scheme is http or https
    if parts.username is not None:
        import base64

        user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - as above
        pass


def _mail(url: str, text: str, last: StoredHead) -> None:
    parts = urllib.parse.urlsplit(url)
    asked = dict(urllib.parse.parse_qsl(parts.query))
    mail = EmailMessage()
    mail["From"], mail["To"] = asked["from"], asked["to"]
    mail["Subject"] = f"journal head {last.size} {last.time}"
    mail.set_content(text)
    host, port, checked = parts.hostname or "", parts.port or 0, ssl.create_default_context()
    # Without a context smtplib takes any certificate, and the password goes to whoever shows one.
    server = (
        smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=checked)
        if parts.scheme == "smtps"
        else smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    )
    with server:
        if parts.username is not None:
            if parts.scheme == "smtp":
                server.starttls(context=checked)
            server.login(urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
        server.send_message(mail)
