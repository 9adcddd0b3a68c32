"""A message on its way out: one blocking call of apprise, in whichever thread the caller has.

The laws of this module: the URL is resolved here and stands in nothing that is answered; a delivery has an object of
its own, as one that is used again makes apprise sleep between two of its calls.
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
    """Deliver a message; why it was not, in words without the URL, else ``None``. Blocks for as long as apprise does:
    the time-outs of its services are seconds."""
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
    with _Said() as said:
        # Not by Apprise.notify: that calls services in a pool of threads, and their reasons could not be told apart.
        service = apprise.Apprise.instantiate(place, asset=asset, suppress_exceptions=True)
        if service is None:
            return "apprise does not know such a URL"
        if "overflow=" not in place:
            # Else a text longer than the service takes is refused whole, however often it is sent.
            service.overflow_mode = apprise.OverflowMode.SPLIT
        body = f"{message.body}\n\n{message.id[:12]}"
        # Without a format apprise hands the text on as it is, and mail and others of its services then call it HTML, in
        # which the lines run together and what stands between < and > is not shown.
        text = apprise.NotifyFormat.TEXT
        done = service.notify(body=body, title=message.title, notify_type=kind, body_format=text)
    return None if done else (said.words or "its service did not take it, and apprise does not say why")


def prepare() -> None:
    """Import what the first delivery would wait for."""
    with contextlib.suppress(ImportError):
        import apprise

        apprise.Apprise.instantiate("json://127.0.0.1/")


class _Said(logging.Handler):
    """What apprise logs meanwhile, in this thread: it tells no other way why something was not delivered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.words = ""

    def __enter__(self) -> _Said:
        logging.getLogger(_LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if threading.get_ident() == self._thread:
            self.words = _CREDENTIALS.sub("…", record.getMessage())[:_LONGEST]
