"""Delivers a message: one blocking call of apprise, in the caller's thread.

The laws of this module: the URL is resolved here and is in nothing that is returned; certificates are verified,
whatever the URL says; each delivery has an object of its own, since apprise sleeps between two calls of the same
object.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading

from actors.alerts.router import Message, MessageKind
from actors.events import Severity
from brokers.errors import Refused
from brokers.spec import SecretRef

_LOGGER = "apprise"
_CREDENTIALS = re.compile(r"\S+://\S+")
_LONGEST = 300


def deliver(url: SecretRef | str, message: Message) -> str | None:
    """Deliver a message; returns why it failed, without the URL, else ``None``. Blocks for as long as apprise does: the
    time-outs of its services are seconds."""
    try:
        import apprise
    except ImportError as error:
        return f"apprise is not installed ({error}): pip install -e '.[alerts]'"
    try:
        place = url if isinstance(url, str) else url.resolve()
    except Refused as refused:
        return str(refused)
    kinds = {Severity.CRITICAL: apprise.NotifyType.FAILURE, Severity.WARNING: apprise.NotifyType.WARNING}
    kind = kinds.get(message.severity, apprise.NotifyType.INFO)
    if message.kind is MessageKind.RESOLVED and message.severity is Severity.INFO:
        kind = apprise.NotifyType.SUCCESS
    asset = apprise.AppriseAsset(app_id="reconciliation-supervisor", async_mode=False)
    with _Logged() as logged:
        # Not by Apprise.notify: that calls services in a pool of threads, which would mix up their log messages.
        service = apprise.Apprise.instantiate(place, asset=asset, suppress_exceptions=True)
        if service is None:
            return "apprise does not know such a URL"
        # A URL can say verify=no: then whoever is on the way reads the alert and the credentials of its receiver.
        service.verify_certificate = True
        if "overflow=" not in place:
            # Otherwise a text longer than the service accepts is refused as a whole, however often it is sent.
            service.overflow_mode = apprise.OverflowMode.SPLIT
        body = f"{message.body}\n\n{message.id[:12]}"
        # Without a format apprise passes the text on unchanged, and some of its services, such as mail, then label it
        # HTML, in which the line breaks and everything between < and > are lost.
        text = apprise.NotifyFormat.TEXT
        done = service.notify(body=body, title=message.title, notify_type=kind, body_format=text)
    return None if done else (logged.words or "its service did not take it, and apprise does not say why")


def prepare() -> None:
    """Import what the first delivery would otherwise wait for."""
    with contextlib.suppress(ImportError):
        import apprise

        apprise.Apprise.instantiate("json://127.0.0.1/")


class _Logged(logging.Handler):
    """What apprise logs in this thread meanwhile: there is no other way to learn why a delivery failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.words = ""

    def __enter__(self) -> _Logged:
        logging.getLogger(_LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if threading.get_ident() == self._thread:
            self.words = _CREDENTIALS.sub("…", record.getMessage())[:_LONGEST]
