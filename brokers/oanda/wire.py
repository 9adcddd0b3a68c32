"""One OANDA account's calls through the oandapyV20 SDK: bounded, counted, scrubbed, and retried where that is safe.

The laws of this module:

* Every wait is bounded. requests' read time-out bounds the silence between two bytes, so a server that trickles
  could hold a call for ever: a bound over the whole call cuts its socket, and the thread ends by itself.
* Only reads are repeated, and only after what may pass: no answer, 429, 5xx, an unreadable answer.
* The token is masked in the bytes of an answer before the SDK, its log or we decode them. The Authorization header
  goes to the configured host alone: no redirect is followed, no .netrc replaces it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import oandapyV20
import requests
import stamina
from oandapyV20.exceptions import V20Error
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.oanda.cut import Call, CuttableAdapter
from brokers.scrub import Scrubber

ATTEMPTS = 3
CONNECT_TIMEOUT_S = 5.0
WAIT_MAX_S = 5.0
_FOUND_LENGTH = 300

AGAIN = "It is asked again in the next cycle; if it goes on, check the network, `rest_url` and OANDA's status page"
TOKEN = "The token is wrong, expired or of the other environment (practice, live): check `token`"  # noqa: S105 - words
PATH = "Check `account_id`, and that `rest_url` is the host part, without /v3"


@dataclass(frozen=True, slots=True)
class Answer:
    """A readable answer. ``date`` is the broker's Date header (whole seconds); ``elapsed_s`` the time it took."""

    status: int
    payload: dict[str, Any]
    date: datetime | None
    elapsed_s: float


@dataclass(slots=True)
class _Heard:
    """What came back for one call, noted before the SDK makes what it can of it."""

    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class _AttemptFailed(Exception):
    """One attempt's error, on its way through the retries."""

    def __init__(self, error: BrokerError, *, transient: bool, retry_after_s: float | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.transient = transient
        self.retry_after_s = retry_after_s


class Wire:
    """The calls of one account. Not bound to an event loop."""

    def __init__(self, account: str, token: str, rest_url: str, timeout_s: float, backoff_s: float) -> None:
        self._account = account
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._scrubber = Scrubber([token])
        self._heard = threading.local()
        self._under_way: set[Call] = set()
        self._api = self._open(token, rest_url.rstrip("/"))
        self.calls = 0

    def _open(self, token: str, url: str) -> oandapyV20.API:
        # The SDK looks hosts up by name in a table of the module, shared by all accounts of a process. Named by its
        # own url, an entry is the same for all who write it, and two hosts never share one.
        TRADING_ENVIRONMENTS[url] = {"api": url, "stream": url}
        api = oandapyV20.API(
            token,
            environment=url,
            # A cached account is an old account.
            headers={"Cache-Control": "no-cache"},
            request_params={
                "timeout": (min(self._timeout_s, CONNECT_TIMEOUT_S), self._timeout_s),
                "allow_redirects": False,
            },
        )
        api.client.auth = _leave_header
        api.client.trust_env = not _is_loopback(url)
        api.client.hooks["response"].append(self._note)
        for scheme in ("http://", "https://"):
            api.client.mount(scheme, CuttableAdapter())
        return api

    def scrub(self, text: str) -> str:
        """The text without our credentials."""
        return self._scrubber.text(text)

    async def read(self, attempted: str, endpoint: Callable[[], Any], expected: Collection[int] = ()) -> Answer:
        """Ask; again after what may pass, at most ``ATTEMPTS`` times and with no new attempt after twice the
        time-out. An HTTP status in ``expected`` is an answer and not an error. Raises ``BrokerError``."""
        try:
            async for attempt in stamina.retry_context(
                on=self._again,
                attempts=ATTEMPTS,
                timeout=2 * self._timeout_s,
                wait_initial=self._backoff_s,
                wait_max=WAIT_MAX_S,
                wait_jitter=self._backoff_s,
            ):
                with attempt:
                    return await self._once(attempted, endpoint, expected)
        except _AttemptFailed as failed:
            error = failed.error
        # Outside the handler, so that no exception of requests (they carry the header) is chained to ours.
        raise error

    async def write(self, attempted: str, endpoint: Callable[[], Any], expected: Collection[int] = ()) -> Answer:
        """Ask for a change, once."""
        try:
            return await self._once(attempted, endpoint, expected)
        except _AttemptFailed as failed:
            error = failed.error
        raise error

    def _again(self, exc: Exception) -> bool | float:
        if not isinstance(exc, _AttemptFailed) or not exc.transient:
            return False
        if exc.retry_after_s is None:
            return True
        # A longer wait than this is for the caller's schedule, not for a call that somebody waits for.
        return exc.retry_after_s if exc.retry_after_s <= min(WAIT_MAX_S, self._timeout_s) else False

    def close(self) -> None:
        """Cut what is under way and give the connections back."""
        for call in tuple(self._under_way):
            call.cut()
        self._api.close()

    async def _once(self, attempted: str, endpoint: Callable[[], Any], expected: Collection[int]) -> Answer:
        """One attempt in a thread of its own: one that outlives its bound holds up neither the loop's executor nor
        the end of the process."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Answer | _AttemptFailed] = loop.create_future()
        call = Call()

        def deliver(result: Answer | _AttemptFailed) -> None:
            if not outcome.done():
                outcome.set_result(result)

        def work() -> None:
            try:
                with call:
                    result = self._ask(attempted, endpoint, expected)
                loop.call_soon_threadsafe(deliver, result)
            except RuntimeError:
                pass  # the loop was closed while we waited: nobody is left to tell
            finally:
                self._under_way.discard(call)

        self.calls += 1
        self._under_way.add(call)
        threading.Thread(target=work, name=f"oanda-{self._account}", daemon=True).start()
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await outcome
        except TimeoutError:
            result = self._failed(Unreachable, attempted, self._no_answer(), AGAIN)
        finally:
            if not outcome.done() or outcome.cancelled():
                call.cut()
        if isinstance(result, _AttemptFailed):
            raise result
        return result

    def _no_answer(self) -> str:
        return f"no whole answer within {self._timeout_s:g} s"

    def _ask(self, attempted: str, endpoint: Callable[[], Any], expected: Collection[int]) -> Answer | _AttemptFailed:
        """The call itself, every exception turned into an outcome."""
        heard = self._heard.value = _Heard()
        began = time.monotonic()
        try:
            self._api.request(endpoint())
        except requests.exceptions.Timeout:
            return self._failed(Unreachable, attempted, self._no_answer(), AGAIN)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            return self._failed(Malformed, attempted, "an answer that ends in the middle", AGAIN)
        except requests.exceptions.RequestException as exc:
            return self._failed(Unreachable, attempted, f"no connection: {_cause(exc)}", AGAIN)
        except (V20Error, ValueError):
            pass  # told apart below, by what was heard
        except Exception as exc:  # noqa: BLE001 - an outcome of this thread has to reach its caller, whatever it is
            return self._failed(Unreachable, attempted, f"{type(exc).__name__}: {exc}", AGAIN)
        return self._judge(attempted, heard, expected, time.monotonic() - began)

    def _note(self, response: requests.Response, *_args: object, **_kwargs: object) -> None:
        """Runs in the calling thread before the SDK sees the answer."""
        heard: _Heard = self._heard.value
        body = self._scrubber.body(response.content)
        response._content = body  # no public way to change a body
        heard.status, heard.body = response.status_code, body
        heard.headers = {key.lower(): value for key, value in response.headers.items()}

    def _judge(
        self, attempted: str, heard: _Heard, expected: Collection[int], elapsed_s: float
    ) -> Answer | _AttemptFailed:
        if heard.status is None or heard.body is None:
            return self._failed(Unreachable, attempted, "no answer", AGAIN)
        shown = heard.body.decode("utf-8", "replace").strip()
        status = heard.status
        found = f"HTTP {status}: {shown}" if shown else f"HTTP {status}"
        date = _date(heard.headers.get("date"))
        if status in expected:
            return Answer(status, {}, date, elapsed_s)
        if status == 429 or status >= 500:
            return self._failed(Unreachable, attempted, found, AGAIN, _seconds(heard.headers.get("retry-after")))
        if status in {401, 403}:
            return self._failed(Refused, attempted, found, TOKEN)
        if status >= 400:
            return self._failed(Refused, attempted, found, PATH)
        try:
            # Read again: the SDK's own reading takes numbers by way of float.
            payload = json.loads(heard.body, parse_float=Decimal, parse_constant=str) if status == 200 else None
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            return self._failed(Malformed, attempted, f"not the answer of OANDA v20, but {found}", PATH)
        return Answer(status, self._scrubber.json(payload), date, elapsed_s)

    def _failed(
        self,
        kind: type[BrokerError],
        attempted: str,
        found: str,
        remedy: str,
        retry_after_s: float | None = None,
    ) -> _AttemptFailed:
        clean = " ".join(self._scrubber.text(found).split())
        clean = clean if len(clean) <= _FOUND_LENGTH else f"{clean[:_FOUND_LENGTH]}…"
        error = kind(attempted, self._account, clean, remedy)
        return _AttemptFailed(error, transient=kind is not Refused, retry_after_s=retry_after_s)


def _cause(error: BaseException) -> str:
    """What stopped a call, without the layers of pools and retries around it."""
    inner = error.args[0] if error.args else None
    inner = getattr(inner, "reason", inner)
    return str(inner if isinstance(inner, BaseException) else error)


def _leave_header(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds nothing: with one set, requests does not look into .netrc for another."""
    return request


def _is_loopback(url: str) -> bool:
    """Whether the host is this machine, which no proxy reaches for us."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _date(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        at = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the backoff."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
