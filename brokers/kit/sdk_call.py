"""One call of a synchronous HTTP SDK at a time: bounded, counted, scrubbed, and retried where that is safe.

This is what the SDKs built on requests have in common. Each adapter's ``wire`` adds the client to call, and how to
judge its broker's answers. The laws of this module:

* Every wait is bounded. requests' read time-out bounds the silence between two bytes, so a server that trickles could
  hold a call for ever: a bound over the whole call cuts its socket, and the thread ends by itself.
* Only reads are repeated, and only after a failure that may pass: no answer, a request to wait, an unreadable answer.
* Where no HTTP server ever answered, a plain probe finds out what listens there, once a failed call, so that the error
  names a wrong scheme or port.
* Credentials are masked in the bytes of an answer before the SDK, its log or we decode them. They go to the configured
  host alone: no redirect is followed, no .netrc replaces them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import field
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import stamina

from brokers.clocks import BrokerTime, broker_time
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.frozen import dataclass
from brokers.kit.abortable_http import Call, CuttableAdapter
from brokers.kit.foreign_row import OUR_TIME
from brokers.kit.http_failure import CERTIFICATE, address_of, cause_of, explained, no_connection, tls_instead, wants_tls
from brokers.kit.port_probe import PROBE_S, probe
from brokers.kit.scrubber import Scrubber

ATTEMPTS = 3
CONNECT_TIMEOUT_S = 5.0
WAIT_MAX_S = 5.0
_FOUND_LENGTH = 300


@dataclass(slots=True)
class Heard:
    """The answer to one call, noted before the SDK processes it. ``raised`` is what the SDK raised."""

    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    elapsed_s: float = 0.0
    raised: Exception | None = None

    @property
    def shown(self) -> str:
        """Status and body for a person."""
        body = (self.body or b"").decode("utf-8", "replace").strip()
        return f"HTTP {self.status}: {body}" if body else f"HTTP {self.status}"

    @property
    def date(self) -> BrokerTime | None:
        """The broker's Date header: whole seconds, aware UTC; ``None`` where it is no time that can be."""
        header = self.headers.get("date")
        if header is None:
            return None
        try:
            at = broker_time(parsedate_to_datetime(header))
            at = at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
        except (TypeError, ValueError, OverflowError):
            return None
        return at if at.year in OUR_TIME else None

    @property
    def retry_after_s(self) -> float | None:
        """Retry-After in seconds; its other form, a date, is left to the backoff."""
        header = self.headers.get("retry-after")
        return float(header) if header is not None and header.isascii() and header.isdigit() else None


class AttemptFailed(Exception):
    """One attempt's error, on its way through the retries. ``unexplained``: nothing came, for whatever reason."""

    def __init__(
        self, error: BrokerError, *, transient: bool, retry_after_s: float | None = None, unexplained: bool = False
    ) -> None:
        super().__init__(error)
        self.error = error
        self.transient = transient
        self.retry_after_s = retry_after_s
        self.unexplained = unexplained


@dataclass(frozen=True, slots=True)
class Answer:
    """A readable answer, or an error of the broker's that the caller expected. ``date`` is its Date header (whole
    seconds); ``elapsed_s`` the time it took."""

    payload: Any
    date: BrokerTime | None
    elapsed_s: float
    status: int = 200

    @property
    def looked_at(self) -> BrokerTime | None:
        """The broker's time when it read the account, or earlier: the time of its answer less the time that took.
        ``None`` where the answer has no Date."""
        return None if self.date is None else self.date - timedelta(seconds=self.elapsed_s)


def at_most(requests_per_s: float) -> Callable[[], Awaitable[None]]:
    """Awaited before each request, it lets at most four fifths of ``requests_per_s`` go in any second, all at once
    where none went before. The rest is a reserve for requests that the network squeezes together, and for other
    programs of the same login."""
    most = max(1, int(requests_per_s * 0.8))
    window_s = max(1.0, most / requests_per_s)
    leave_at_s: deque[float] = deque(maxlen=most)

    async def turn() -> None:
        # A place is taken before the wait for it, so that callers leave in the order in which they came.
        now_s = time.monotonic()
        at_s = now_s if len(leave_at_s) < most else max(now_s, leave_at_s[0] + window_s)
        leave_at_s.append(at_s)
        while (wait_s := at_s - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)

    return turn


class SdkCalls:
    """The calls of one account. Not bound to an event loop. An adapter adds :meth:`_send`, which calls its SDK, and
    :meth:`_judge`, which turns what came into an answer or a failure.

    ``name`` names the threads, ``again`` is the remedy of errors that pass by themselves. ``admit`` is awaited before
    each request: a rate limiter's place.
    """

    def __init__(
        self,
        account: str,
        name: str,
        again: str,
        timeout_s: float,
        backoff_s: float,
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._account = account
        self._name = name
        self._again_remedy = again
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._admit = admit
        self._scrubber = Scrubber([])
        self._heard = threading.local()
        self._under_way: set[Call] = set()
        self._url = ""
        self._met = False
        self.calls = 0

    @property
    def http_timeout_s(self) -> tuple[float, float]:
        """For requests: to connect, and between two bytes."""
        return min(self._timeout_s, CONNECT_TIMEOUT_S), self._timeout_s

    @property
    def scrubber(self) -> Scrubber:
        """The scrubber that masks our credentials."""
        return self._scrubber

    def keep_secret(self, *secrets: str) -> None:
        """Mask these from now on, and no others."""
        self._scrubber = Scrubber(secrets)

    def prepare(self, session: requests.Session, url: str) -> None:
        """Prepare an SDK's session, so that its calls can be cut and its answers are noted and scrubbed. ``url`` is the
        configured ``rest_url``."""
        self._url = url
        session.auth = _leave_header
        session.trust_env = not _is_loopback(url)
        session.hooks["response"].append(self._note)
        for scheme in ("http://", "https://"):
            session.mount(scheme, CuttableAdapter())

    async def read(self, attempted: str, call: Callable[..., Any], expected: Collection[object] = ()) -> Answer:
        """Send a request; repeat it after a failure that may pass, at most ``ATTEMPTS`` times and with no new attempt
        after twice the time-out. What is ``expected`` counts as an answer and not as an error, but only if it comes
        from the broker: a proxy on the way may answer 404, too. Raises ``BrokerError``."""
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
                    return await self._once(attempted, call, expected)
        except AttemptFailed as failed:
            last = failed
        # Outside the handler, so that no exception of requests (they carry the header) is chained to ours.
        raise await self._explained(last)

    async def write(self, attempted: str, call: Callable[..., Any], expected: Collection[object] = ()) -> Answer:
        """Send a request for a change, once."""
        try:
            return await self._once(attempted, call, expected)
        except AttemptFailed as failed:
            last = failed
        raise await self._explained(last)

    def close(self) -> None:
        """Abort what is under way."""
        for call in tuple(self._under_way):
            call.cut()

    def scrub(self, text: str) -> str:
        """The text without our credentials."""
        return self._scrubber.text(text)

    def _send(self, call: Callable[..., Any]) -> None:
        """Call the SDK, in a thread of its own; the SDK's own result is ignored."""
        raise NotImplementedError

    def _judge(self, attempted: str, expected: Collection[object], received: Heard) -> Answer | AttemptFailed:
        """The answer or the failure that came."""
        raise NotImplementedError

    def failed(
        self,
        kind: type[BrokerError],
        attempted: str,
        found: str,
        remedy: str,
        retry_after_s: float | None = None,
    ) -> AttemptFailed:
        """A failure, its text scrubbed. Every failure but a refusal is transient."""
        clean = " ".join(self._scrubber.text(found).split())
        clean = clean if len(clean) <= _FOUND_LENGTH else f"{clean[:_FOUND_LENGTH]}…"
        error = kind(attempted, self._account, clean, remedy)
        return AttemptFailed(error, transient=kind is not Refused, retry_after_s=retry_after_s)

    def _unexplained(self, attempted: str, found: str) -> AttemptFailed:
        error = self.failed(Unreachable, attempted, found, self._again_remedy).error
        return AttemptFailed(error, transient=True, unexplained=True)

    async def _explained(self, failed: AttemptFailed) -> BrokerError:
        """The error, improved by a probe of the port where nothing ever came from it. A proxy hides the port."""
        if not failed.unexplained or self._met or not self._is_direct:
            return failed.error
        try:
            host, port = address_of(self._url)
        except ValueError:
            return failed.error
        return explained(failed.error, self._url, await probe(host, port, min(self._timeout_s, PROBE_S)))

    @property
    def _is_direct(self) -> bool:
        return _is_loopback(self._url) or not requests.utils.get_environ_proxies(self._url)

    def _again(self, exc: Exception) -> bool | float:
        if not isinstance(exc, AttemptFailed) or not exc.transient:
            return False
        if exc.retry_after_s is None:
            return True
        # A longer wait than this is for the caller's schedule, not for a call that somebody waits for.
        return exc.retry_after_s if exc.retry_after_s <= min(WAIT_MAX_S, self._timeout_s) else False

    async def _once(self, attempted: str, call: Callable[..., Any], expected: Collection[object]) -> Answer:
        """One attempt in a thread of its own: a thread that outlives its bound holds up neither the loop's executor nor
        the end of the process."""
        if self._admit is not None:
            await self._admit()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Answer | AttemptFailed] = loop.create_future()
        under_way = Call()

        def deliver(result: Answer | AttemptFailed) -> None:
            if not outcome.done():
                outcome.set_result(result)

        def work() -> None:
            try:
                with under_way:
                    result = self._ask(attempted, call, expected)
                loop.call_soon_threadsafe(deliver, result)
            except RuntimeError:
                pass  # the loop was closed meanwhile: nobody waits any more
            finally:
                self._under_way.discard(under_way)

        self.calls += 1
        self._under_way.add(under_way)
        threading.Thread(target=work, name=f"{self._name}-{self._account}", daemon=True).start()
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await outcome
        except TimeoutError:
            result = self._unexplained(attempted, self._no_answer())
        finally:
            if not outcome.done() or outcome.cancelled():
                under_way.cut()
        if isinstance(result, AttemptFailed):
            raise result
        return result

    def _no_answer(self) -> str:
        return f"no whole answer within {self._timeout_s:g} s"

    def _ask(self, attempted: str, call: Callable[..., Any], expected: Collection[object]) -> Answer | AttemptFailed:
        """The call itself; every exception becomes an outcome."""
        received = self._heard.value = Heard()
        began = time.monotonic()
        try:
            self._send(call)
        except requests.exceptions.Timeout:
            return self._unexplained(attempted, self._no_answer())
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            return self.failed(Malformed, attempted, "an answer that ends in the middle", self._again_remedy)
        except requests.exceptions.JSONDecodeError as exc:
            received.raised = exc
        except requests.exceptions.RequestException as exc:
            cause = cause_of(exc)
            found = no_connection(self._url, cause)
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self.failed(Refused, attempted, found, CERTIFICATE)
            if isinstance(cause, ConnectionRefusedError | socket.gaierror):
                return self.failed(Unreachable, attempted, found, self._again_remedy)
            return self._unexplained(attempted, found)
        except Exception as exc:  # noqa: BLE001 - an outcome of this thread has to reach its caller, whatever it is
            if received.status is None:
                return self.failed(Unreachable, attempted, f"{type(exc).__name__}: {exc}", self._again_remedy)
            received.raised = exc  # judged below, with what came
        received.elapsed_s = time.monotonic() - began
        if received.status is None or received.body is None:
            return self.failed(Unreachable, attempted, "no answer", self._again_remedy)
        if wants_tls(self._url, received.status, received.body):
            failure = self.failed(Malformed, attempted, received.shown, self._again_remedy)
            failure.error = tls_instead(failure.error, self._url)
            return failure
        return self._judge(attempted, expected, received)

    def _note(self, response: requests.Response, *_args: object, **_kwargs: object) -> None:
        """Runs in the calling thread before the SDK sees the answer."""
        received: Heard = self._heard.value
        self._met = True
        body = self._scrubber.body(response.content)
        response._content = body  # noqa: SLF001 - no public way to change a body
        received.status, received.body = response.status_code, body
        received.headers = {key.lower(): value for key, value in response.headers.items()}


def _leave_header(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds nothing: with one set, requests does not search .netrc for another."""
    return request


def _is_loopback(url: str) -> bool:
    """Whether the host is this machine, for which no proxy is used."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
