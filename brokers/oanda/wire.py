"""The calls of one OANDA account through the oandapyV20 SDK, by the laws of :mod:`brokers.kit.sdk_call`.

Only reads are repeated: after no answer, 429, 5xx or an unreadable answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import oandapyV20
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS

from brokers.errors import Malformed, Refused, Unreachable
from brokers.kit.foreign_row import read_json
from brokers.kit.sdk_call import Answer, AttemptFailed, Heard, SdkCalls, at_most

AGAIN = "It is requested again in the next cycle; if it goes on, check the network, `rest_url` and OANDA's status page"
TOKEN = (
    "The token is wrong, expired or of the other environment (practice, live), or not one of this account's login: "  # noqa: S105 - words
    "check `token` and `account_id`"
)
PATH = "Check `account_id`, and that `rest_url` is the host part, without /v3"

REQUESTS_PER_S = 100.0
"""OANDA v20 documentation, best practices: 120 requests a second on one connection, and 429 beyond it."""

_ABSENT = ("NO_SUCH_ORDER", "ORDER_DOESNT_EXIST")


class Wire(SdkCalls):
    """The calls of one account: each is an endpoint of the SDK, made anew for every attempt."""

    def __init__(self, account: str, token: str, rest_url: str, timeout_s: float, backoff_s: float) -> None:
        super().__init__(account, "oanda", AGAIN, timeout_s, backoff_s, at_most(REQUESTS_PER_S))
        self.keep_secret(token)
        self._api = self._open(token, rest_url.rstrip("/"))

    def _open(self, token: str, url: str) -> oandapyV20.API:
        # The SDK looks hosts up by name in a table of its module, shared by all accounts of a process. Named by its own
        # URL, an entry is the same for every account that writes it, and two hosts never share one.
        TRADING_ENVIRONMENTS[url] = {"api": url, "stream": url}
        api = oandapyV20.API(
            token,
            environment=url,
            # A cached account is an old account.
            headers={"Cache-Control": "no-cache"},
            request_params={"timeout": self.http_timeout_s, "allow_redirects": False},
        )
        self.prepare(api.client, url)
        return api

    def close(self) -> None:
        """Abort what is under way and close the connections."""
        super().close()
        self._api.close()

    def _send(self, call: Callable[..., Any]) -> None:
        self._api.request(call())

    def _judge(self, attempted: str, expected: Collection[object], received: Heard) -> Answer | AttemptFailed:
        failed, status, found = self.failed, received.status or 0, received.shown
        if status in expected:
            if not _is_from_oanda(received.body):
                return failed(Malformed, attempted, f"not the answer of OANDA v20, but {found}", PATH)
            return Answer({}, received.date, received.elapsed_s, status)
        if status == 429 or status >= 500:
            return failed(Unreachable, attempted, found, AGAIN, received.retry_after_s)
        if status in {401, 403}:
            return failed(Refused, attempted, found, TOKEN)
        if status >= 400:
            return failed(Refused, attempted, found, PATH)
        try:
            # Parsed again: the SDK's own parser reads numbers as floats.
            payload = read_json(received.body) if status == 200 else None
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            return failed(Malformed, attempted, f"not the answer of OANDA v20, but {found}", PATH)
        return Answer(self.scrubber.json(payload), received.date, received.elapsed_s)


def _is_from_oanda(body: bytes | None) -> bool:
    """Whether OANDA itself refused (OANDA v20 documentation: an error is an object with an ``errorMessage`` and, for
    some requests, an ``errorCode``)."""
    try:
        answer = read_json(body)
    except ValueError:
        return False
    if not isinstance(answer, dict):
        return False
    message = answer.get("errorMessage")
    return answer.get("errorCode") in _ABSENT or (isinstance(message, str) and bool(message.strip()))
