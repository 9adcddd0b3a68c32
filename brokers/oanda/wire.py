"""One OANDA account's calls through the oandapyV20 SDK, by the laws of :mod:`brokers.kit.sdk_call`.

Only reads are repeated: after no answer, 429, 5xx or an unreadable answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import oandapyV20
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS

from brokers.errors import Malformed, Refused, Unreachable
from brokers.kit.sdk_call import AttemptFailed, Heard, SdkCalls, at_most

AGAIN = "It is asked again in the next cycle; if it goes on, check the network, `rest_url` and OANDA's status page"
TOKEN = (
    "The token is wrong, expired or of the other environment (practice, live), or not one of this account's login: "  # noqa: S105 - words
    "check `token` and `account_id`"
)
PATH = "Check `account_id`, and that `rest_url` is the host part, without /v3"

REQUESTS_PER_S = 100.0
"""OANDA v20 documentation, best practices: 120 requests a second on one connection, and 429 beyond it."""

_ABSENT = ("NO_SUCH_ORDER", "ORDER_DOESNT_EXIST")


@dataclass(frozen=True, slots=True)
class Answer:
    """A readable answer. ``date`` is the broker's Date header (whole seconds); ``elapsed_s`` the time it took."""

    status: int
    payload: dict[str, Any]
    date: datetime | None
    elapsed_s: float


class Wire:
    """The calls of one account. Not bound to an event loop."""

    def __init__(self, account: str, token: str, rest_url: str, timeout_s: float, backoff_s: float) -> None:
        self._sdk = SdkCalls(account, "oanda", AGAIN, timeout_s, backoff_s, at_most(REQUESTS_PER_S))
        self._sdk.keep_secret(token)
        self._api = self._open(token, rest_url.rstrip("/"))

    def _open(self, token: str, url: str) -> oandapyV20.API:
        # The SDK looks hosts up by name in a table of the module, shared by all accounts of a process. Named by its
        # own url, an entry is the same for all who write it, and two hosts never share one.
        TRADING_ENVIRONMENTS[url] = {"api": url, "stream": url}
        api = oandapyV20.API(
            token,
            environment=url,
            # A cached account is an old account.
            headers={"Cache-Control": "no-cache"},
            request_params={"timeout": self._sdk.http_timeout_s, "allow_redirects": False},
        )
        self._sdk.prepare(api.client, url)
        return api

    @property
    def calls(self) -> int:
        """How many requests have left, repeated ones included."""
        return self._sdk.calls

    def scrub(self, text: str) -> str:
        """The text without our credentials."""
        return self._sdk.scrubber.text(text)

    async def read(self, attempted: str, endpoint: Callable[[], Any], expected: Collection[int] = ()) -> Answer:
        """Ask; again after what may pass. An HTTP status in ``expected`` is an answer and not an error, in
        the broker's own words only: a proxy on the way says 404, too. Raises ``BrokerError``."""
        judge = partial(self._judge, attempted, expected)
        return await self._sdk.read(attempted, lambda: self._api.request(endpoint()), judge)

    async def write(self, attempted: str, endpoint: Callable[[], Any], expected: Collection[int] = ()) -> Answer:
        """Ask for a change, once."""
        judge = partial(self._judge, attempted, expected)
        return await self._sdk.write(attempted, lambda: self._api.request(endpoint()), judge)

    def close(self) -> None:
        """Cut what is under way and give the connections back."""
        self._sdk.close()
        self._api.close()

    def _judge(self, attempted: str, expected: Collection[int], heard: Heard) -> Answer | AttemptFailed:
        failed, status, found = self._sdk.failed, heard.status or 0, heard.shown
        if status in expected:
            if not _in_its_own_words(heard.body):
                return failed(Malformed, attempted, f"not the answer of OANDA v20, but {found}", PATH)
            return Answer(status, {}, heard.date, heard.elapsed_s)
        if status == 429 or status >= 500:
            return failed(Unreachable, attempted, found, AGAIN, heard.retry_after_s)
        if status in {401, 403}:
            return failed(Refused, attempted, found, TOKEN)
        if status >= 400:
            return failed(Refused, attempted, found, PATH)
        try:
            # Read again: the SDK's own reading takes numbers by way of float.
            payload = json.loads(heard.body or b"", parse_float=Decimal, parse_constant=str) if status == 200 else None
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            return failed(Malformed, attempted, f"not the answer of OANDA v20, but {found}", PATH)
        return Answer(status, self._sdk.scrubber.json(payload), heard.date, heard.elapsed_s)


def _in_its_own_words(body: bytes | None) -> bool:
    """Whether OANDA itself said no (OANDA v20 documentation: an error is an object with an ``errorMessage`` and, for
    some requests, an ``errorCode``)."""
    try:
        said = json.loads(body or b"")
    except ValueError:
        return False
    if not isinstance(said, dict):
        return False
    message = said.get("errorMessage")
    return said.get("errorCode") in _ABSENT or (isinstance(message, str) and bool(message.strip()))
