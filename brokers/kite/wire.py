"""The calls of one Kite account through the kiteconnect SDK, by the laws of :mod:`brokers.kit.sdk_call`.

* What the SDK raises for an answer it cannot digest (``KeyError`` for a missing Content-Type, ``TypeError`` for an
  error without error_type, ``UnboundLocalError`` for ``data: null``) means that there was no answer, never "empty".
* Kite Connect documentation: at most 10 requests a second. In no second are more sent from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

import requests
from kiteconnect import KiteConnect

from brokers.errors import Malformed, Refused, Unreachable
from brokers.kit.foreign_row import read_json
from brokers.kit.sdk_call import Answer, AttemptFailed, Heard, SdkCalls, at_most

REST_URL = "https://api.kite.trade"
REQUESTS_PER_S = 10
"""Kite Connect documentation: 10 requests a second for everything but quotes and history."""

AGAIN = (
    "It is requested again in the next cycle; if it goes on, check the network, `rest_url` and Zerodha's status page"
)
LOG_IN = "Log in again: a Kite session ends at 6 AM IST, and with a logout"
RENEWAL = "Give the new access token as `access_token`; its source is read again by itself"
PERMISSION = "Check that the app of `api_key` may make this call for this user"
HOST = "Check `rest_url`: it is the host alone, as in https://api.kite.trade"
_REFUSALS = frozenset(
    {
        "PermissionException",
        "InputException",
        "OrderException",
        "UserException",
        "MarginException",
        "HoldingException",
    }
)
_TRANSIENT = frozenset({"NetworkException", "DataException"})
_NO_SUCH_ORDER = re.compile(
    r"(could ?n.t|could not|cannot|unable to) find.*order|order.*(not found|does ?n.t exist|does not exist)"
    r"|no such order|(trigger|gtt).*(not found|does ?n.t exist|does not exist)",
    re.IGNORECASE,
)


TABLE = object()
"""Expected where the answer is a table of instruments, in CSV and without the envelope: its bytes are the payload."""

NO_SUCH_ORDER = object()
"""The payload where the broker says that it has no such order, and that was ``expected``."""


class _Session(requests.Session):
    """Follows no redirect: the SDK asks for redirects to be followed, which would send our credentials elsewhere."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send as requests does, without redirects."""
        return super().send(request, **{**kwargs, "allow_redirects": False})


class _Kite(KiteConnect):  # type: ignore[misc]  # the SDK ships no types
    """The SDK without its reading of rows: their bytes are read here. Its own reading takes half of a snapshot's time
    (dateutil, for seven fields of every row of the day), and fails the whole list at one time that it cannot read."""

    def _format_response(self, data: Any) -> Any:
        return data


class Wire(SdkCalls):
    """The calls of one account. Not bound to an event loop, unless it has to wait for its turn.

    In any second fewer than ``requests_per_s`` of them are sent (:func:`brokers.kit.sdk_call.at_most`). ``renewal``
    is a sentence that says where to put a new access token.
    """

    def __init__(
        self,
        account: str,
        api_key: str,
        rest_url: str | None,
        timeout_s: float,
        backoff_s: float,
        requests_per_s: float = REQUESTS_PER_S,
        renewal: str = RENEWAL,
    ) -> None:
        self.log_in = f"{LOG_IN}. {renewal}"
        self.url = (rest_url or REST_URL).rstrip("/")
        self._api_key = api_key
        super().__init__(account, "kite", AGAIN, timeout_s, backoff_s, at_most(requests_per_s))
        self.keep_secret(api_key)
        self._kite = _Kite(api_key, root=self.url)
        self._kite.timeout = self.http_timeout_s
        self._kite.reqsession = _Session()
        self.prepare(self._kite.reqsession, self.url)

    @property
    def misdirected(self) -> bool:
        """Whether ``rest_url`` has a path, which the SDK would drop silently."""
        parts = urlsplit(self.url)
        return parts.scheme not in {"http", "https"} or not parts.hostname or bool(parts.path or parts.query)

    def use(self, access_token: str) -> None:
        """Send this token from now on."""
        self.keep_secret(self._api_key, access_token)
        self._kite.set_access_token(access_token)

    def close(self) -> None:
        """Abort what is under way and close the connections."""
        super().close()
        self._kite.reqsession.close()

    def _send(self, call: Callable[..., Any]) -> None:
        call(self._kite)

    def _judge(self, attempted: str, expected: Collection[object], received: Heard) -> Answer | AttemptFailed:
        if TABLE in expected and received.status == 200 and (received.body or b"").startswith(b"instrument_token,"):
            return Answer(received.body, received.date, received.elapsed_s)
        payload = _payload(received)
        kind = payload.get("error_type")
        status, failed = received.status or 0, self.failed
        if status < 500 and NO_SUCH_ORDER in expected and kind and _NO_SUCH_ORDER.search(str(payload.get("message"))):
            return Answer(NO_SUCH_ORDER, received.date, received.elapsed_s)
        if kind in _REFUSALS:
            return failed(Refused, attempted, received.shown, PERMISSION if kind == "PermissionException" else HOST)
        if kind == "TokenException" or status in {401, 403}:
            return failed(Refused, attempted, received.shown, self.log_in)
        if kind in _TRANSIENT or status == 429 or status >= 500:
            return failed(Unreachable, attempted, received.shown, AGAIN, received.retry_after_s)
        if status >= 400 and (kind or not payload):
            return failed(Refused, attempted, received.shown, HOST)
        data = payload.get("data")
        if status != 200 or received.raised is not None or payload.get("status") != "success" or data is None:
            return failed(Malformed, attempted, f"not the answer of Kite Connect, but {received.shown}", HOST)
        return Answer(self.scrubber.json(data), received.date, received.elapsed_s)


def _payload(received: Heard) -> dict[str, Any]:
    """The envelope, parsed again: the SDK's own parser reads numbers as floats. Empty where it is not an envelope."""
    try:
        read = read_json(received.body)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
