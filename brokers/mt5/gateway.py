"""One REQ socket to an MT5 gateway, used in the Lazy Pirate pattern of the ZeroMQ guide.

The laws of this module:

* Every wait is bounded: each attempt by the time-out, each call by its :class:`Deadline` over all of its attempts.
* One request is in flight at a time. After a time-out the socket is closed, and a new one sends the request again
  under a new ``request_id``, so that a late reply has nowhere to arrive.
* A lost connection is noticed before the next request: :attr:`Gateway.generation` grows with every new socket, so that
  the caller can check the login again.
* A reply with another ``request_id`` answers another request, whoever mixed them up; it is dropped.
* Only reads are sent here, so a repetition changes nothing at the broker.
* Where ZeroMQ's handshake failed, a plain probe finds out what listens there, once a call.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from datetime import datetime

import stamina
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.frozen import dataclass
from brokers.kit.foreign_row import BadRow
from brokers.kit.port_probe import PROBE_S, PortAnswer, probe
from brokers.mt5.curve import ClientKeys
from brokers.mt5.decode import Content, parse, quote
from brokers.port import Clock

ATTEMPTS = 3
_LARGEST_REPLY_BYTES = 64 * 1024 * 1024
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
_TCP = re.compile(r"tcp://(?:[^;]*;)?(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]{1,5})")
_ADDRESS = "host and port of `endpoint`"


@dataclass(frozen=True, slots=True)
class Answered:
    """The gateway's SUCCESS. ``received_at`` is our time."""

    content: Content
    received_at: datetime


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """The gateway says that it has no such action."""


_UNKNOWN = re.compile(
    r"\b(unknown|unsupported|invalid) (action|command|request)\b|\bnot (supported|implemented)\b", re.IGNORECASE
)
"""Our protocol says "unknown action …"; other gateways use other words."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The gateway's ERROR, in its own words."""

    words: str


@dataclass(frozen=True, slots=True)
class Garbled:
    """What came is not an answer to the request. It proves nothing."""

    found: str


Outcome = Answered | UnknownAction | Declined | Garbled


_FINE_CODES = frozenset({"", "0", "1"})
"""MetaTrader5's ``last_error``: RES_S_OK is 1; a terminal's own GetLastError is 0 without an error."""
_CONNECTED = frozenset({"true", "1", "none"})
"""How gateways, some in other languages, write that the terminal has its broker, or leave it out. Any other value does
not say that it has."""
_FINE_RETCODES = frozenset({"", "0", "10008", "10009"})
"""MQL5 documentation, trade server return codes: placed, done."""


def error_beside(content: Content) -> str | None:
    """What contradicts a SUCCESS in the same reply, in words: an error of the terminal, or a terminal without its
    broker. Such a reply is not an answer, above all not with an empty list."""
    if str(content.get("connected", True)).lower() not in _CONNECTED:
        return "the terminal is up, and not connected to its broker"
    last_error = content.get("last_error")
    code = (
        last_error[0]
        if isinstance(last_error, list) and last_error
        else last_error.get("code")
        if isinstance(last_error, dict)
        else last_error
    )
    if code is not None and code is not False and str(code) not in _FINE_CODES and code != []:
        return f"SUCCESS, and beside it the terminal's last_error {quote(last_error)}"
    retcode = content.get("retcode")
    if retcode is not None and str(retcode) not in _FINE_RETCODES:
        return f"SUCCESS, and beside it the retcode {quote(retcode)}"
    return None


class Deadline:
    """How much of a call's time is left."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end_s = self._loop.time() + seconds

    def left_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end_s - self._loop.time())


class _TryAgain(Exception):
    """An attempt without an answer."""


class _NotOurs(_TryAgain):
    """An attempt that received the answer to another request."""


class Gateway:
    """The connection to one gateway. ``calls`` counts the requests sent, repeated ones included; ``generation`` the
    sockets that were closed."""

    def __init__(
        self,
        account: str,
        endpoint: str,
        timeout_s: float,
        clock: Clock,
        backoff_s: float,
        curve: ClientKeys | None = None,
    ) -> None:
        self._curve = curve
        self.calls = 0
        self.generation = 0
        self._account = account
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._clock = clock
        self._backoff_s = backoff_s
        self._ids = f"{secrets.token_hex(4)}-"
        self._lock = asyncio.Lock()
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._monitor: zmq.asyncio.Socket | None = None
        self._met = self._turned_away = False

    async def ask(self, action: str, deadline: Deadline, **parameters: str | int) -> Outcome:
        """Send one request, again after a time-out, and return the outcome. Raises ``Unreachable`` when nothing came,
        ``Malformed`` when what listens there is not a gateway."""
        async with self._lock:
            try:
                async for attempt in stamina.retry_context(
                    on=_TryAgain,
                    attempts=ATTEMPTS if deadline.left_s() else 1,
                    timeout=deadline.left_s() or None,
                    wait_initial=self._backoff_s,
                    wait_max=self._timeout_s,
                    wait_jitter=self._backoff_s,
                ):
                    with attempt:
                        return await self._exchange(action, deadline, parameters)
            except _NotOurs as error:
                return Garbled(str(error))
            except _TryAgain as error:
                failure = await self._unanswered(action, str(error), deadline)
                raise failure from None
        raise AssertionError("stamina gives an attempt or raises")

    def forget(self) -> None:
        """Close the socket, and drop whatever is still on its way to it."""
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(linger=0)
            self._socket = None
            self._monitor = None
            self.generation += 1

    def close(self) -> None:
        """Leave no socket and no thread. The next request would open them again."""
        self.forget()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    async def _exchange(self, action: str, deadline: Deadline, parameters: dict[str, str | int]) -> Outcome:
        wait_s = min(self._timeout_s, deadline.left_s())
        if wait_s <= 0:
            raise _TryAgain("no time was left for the request")
        if await self._is_lost():
            self.forget()
        socket = self._socket or self._open()
        self.calls += 1
        request_id = f"{self._ids}{self.calls}"
        request = json.dumps({"action": action, **parameters, "request_id": request_id}).encode()
        try:
            async with asyncio.timeout(wait_s):
                await socket.send(request)
                parts = await socket.recv_multipart()
            return self._outcome(parts, request_id)
        except TimeoutError:
            try:
                await self._is_lost()
            finally:
                self.forget()
            raise _TryAgain(f"no reply within {wait_s:.3g} s") from None
        except zmq.ZMQError as error:
            self.forget()
            raise _TryAgain(f"the socket failed: {error}") from None
        except BaseException:
            # Also when our task is cancelled: the reply to come must not meet the next request.
            self.forget()
            raise

    async def _is_lost(self) -> bool:
        """Whether a connection was lost since the last call; also notes whether a ZeroMQ peer is there."""
        lost = False
        while self._monitor is not None and await self._monitor.poll(0):
            event = parse_monitor_message(await self._monitor.recv_multipart())["event"]
            ended = event == zmq.EVENT_DISCONNECTED
            self._turned_away = ended and not self._met
            self._met = not ended
            lost |= ended
        return lost

    async def _unanswered(self, action: str, found: str, deadline: Deadline) -> BrokerError:
        """The error for a request without any answer."""
        attempted = f"read {action} from the MT5 gateway at {self._endpoint}"
        address = _TCP.fullmatch(self._endpoint)
        within_s = min(self._timeout_s, PROBE_S, deadline.left_s())
        if self._met:
            found = f"{found}, though a ZeroMQ socket takes requests there"
            remedy = "The terminal or its gateway is busy or hangs: look at both, or raise `timeout_ms`"
            return Unreachable(attempted, self._account, found, remedy)
        if address is None or within_s <= 0:
            remedy = "Check that the terminal and its gateway are running there and reachable from here"
            return Unreachable(attempted, self._account, found, remedy)
        answer = await probe(address["host"].strip("[]"), int(address["port"]), within_s)
        kind, does, remedy = _judged(answer, turned_away=self._turned_away)
        return kind(attempted, self._account, f"{found}: {does}", remedy)

    def _outcome(self, parts: list[bytes], request_id: str) -> Outcome:
        try:
            content = parse(b"".join(parts))
        except BadRow as error:
            return Garbled(str(error))
        echo = content.get("request_id")
        if echo is not None and str(echo) != request_id:
            raise _NotOurs("the reply carries the request_id of another request: the gateway mixes replies up")
        status = content.get("status")
        if status == "SUCCESS":
            beside = error_beside(content)
            return Answered(content, self._clock()) if beside is None else Declined(beside)
        if status == "ERROR":
            words = quote(content.get("error") or "an ERROR without a reason")
            return UnknownAction() if _UNKNOWN.search(words) else Declined(words)
        return Garbled(f"its status is {quote(status)}, neither SUCCESS nor ERROR")

    def _open(self) -> zmq.asyncio.Socket:
        if self._context is None:
            self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.REQ)
        socket.linger = 0
        # The two belong together: REQ_RELAXED alone returns the reply to the previous request.
        socket.setsockopt(zmq.REQ_RELAXED, 1)
        socket.setsockopt(zmq.REQ_CORRELATE, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_REPLY_BYTES)
        if self._curve is not None:
            self._curve.secure(socket)
        monitor = socket.get_monitor_socket(_WATCHED)
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            socket.disable_monitor()
            socket.close(linger=0)
            raise Refused(
                f"connect to the MT5 gateway at {quote(self._endpoint)}",
                self._account,
                str(error),
                "Set endpoint to an address such as tcp://127.0.0.1:5555",
            ) from None
        self._socket, self._monitor = socket, monitor
        self._met = self._turned_away = False
        return socket


def _judged(answer: PortAnswer, *, turned_away: bool) -> tuple[type[BrokerError], str, str]:
    """What listens where no REQ socket was accepted: the kind of error, what was found, and the remedy."""
    if answer.protocol == "ZeroMQ" and not turned_away:
        return Unreachable, "a ZeroMQ socket has come up there meanwhile", "It is requested again by itself"
    if answer.protocol == "ZeroMQ":
        does = "a ZeroMQ socket is there that takes no requests (perhaps the one for events), or wants credentials"
        return Malformed, does, "Set `endpoint` to the gateway's REP socket; its PUB socket is `events_endpoint`"
    if answer.said:
        return Malformed, f"something that is no MT5 gateway answers there: {answer.words}", f"Check {_ADDRESS}"
    if answer.unreached is not None:
        return Unreachable, answer.words, f"Start the terminal and its gateway there, or correct {_ADDRESS}"
    does = f"what listens there does not speak ZeroMQ: {answer.words}"
    return Unreachable, does, f"Restart the gateway, if it is one that hangs, or correct {_ADDRESS}"
