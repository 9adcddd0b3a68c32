"""What every request passes first: the right host, a session, a form from our own page, and headers that keep the
browser from running scripts of others and from requests to others.

The laws of this module: a request under a name that is not ours gets no page (a foreign name that leads to this machine
would otherwise let foreign scripts in); a change is a POST with our own ``Origin`` and the session's secret; every
error is a plain page with a status, and never a traceback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brokers.frozen import dataclass
from supervisor.console.sessions import COOKIE, Session, Sessions

LARGEST_FORM = 16_384
_MOST_FIELDS = 30
_OPEN = frozenset({"/sign-in", "/healthz"})
HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not no-referrer: a browser would then send no Origin with a form, and we check it.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Refused(HTTPException):
    """An error page with this status and this text for a person."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status, words)
        self.words = words


@dataclass(frozen=True, slots=True)
class Names:
    """The names under which the page is reached: ``hosts`` in the form of a ``Host`` header, ``origins`` in that of an
    ``Origin``. ``secure``: people come by TLS, and the cookie is sent over nothing else."""

    hosts: frozenset[str]
    origins: frozenset[str]
    secure: bool

    @classmethod
    def of(cls, port: int, url: str | None) -> Names:
        """The names of a page on this port of loopback, and at ``url`` if a proxy shows it there."""
        hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        origins = {f"http://{host}" for host in hosts}
        if url is not None:
            hosts.add(urlsplit(url).netloc)
            origins.add(url)
        return cls(frozenset(hosts), frozenset(origins), url is not None and url.startswith("https:"))


ErrorPage = Callable[[Request, int, str], Awaitable[Response]]


class Guard:
    """The middleware around all pages. ``names`` is called at each request, since the port may be known late."""

    def __init__(self, app: ASGIApp, sessions: Sessions, names: Callable[[], Names], error_page: ErrorPage) -> None:
        self._app = app
        self._sessions = sessions
        self._names = names
        self._error_page = error_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there is no other protocol
        began = False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                _add_headers(message, private=not scope["path"].startswith("/static/"))
            await send(message)

        readable = _is_readable(scope)
        if not readable:
            scope = {**scope, "path": "/", "raw_path": b"/", "query_string": b""}  # so that the error page can be made
        request = Request(scope, receive)
        scope["state"] = {**scope.get("state", {}), "session": None, "form": {}}
        try:
            if not readable:
                raise Refused(400, "The address cannot be read.")
            answer = await self._before(request)
            await (answer or self._app)(scope, receive, guarded)
        except HTTPException as error:
            words = getattr(error, "words", None) or str(error.detail)
            await self._say(request, error.status_code, words, began, guarded)
        except Exception as error:  # noqa: BLE001 - a person sees a plain page, and the log has the rest
            logger.opt(exception=error).error("{} {}", request.method, request.url.path)
            words = "This should not have happened. What it was is in the log of the page's process."
            await self._say(request, 500, words, began, guarded)

    async def _say(self, request: Request, status: int, words: str, began: bool, send: Send) -> None:
        if began:
            return  # half a response is out; closing the connection shows that it is incomplete
        page = await self._error_page(request, status, words)
        await page(request.scope, request.receive, send)

    async def _before(self, request: Request) -> Response | None:
        """A response in place of the page, or ``None``; raises :class:`Refused`."""
        names = self._names()
        if request.headers.get("host", "").lower() not in names.hosts:
            raise Refused(421, "This page is not known under the name that was asked for.")
        path = request.url.path
        if path.startswith("/static/"):
            return None
        live = path == "/live"
        session = self._sessions.of(request.cookies.get(COOKIE))
        request.state.session = session
        if request.method == "POST":
            request.state.form = await _form(request)
            _check_origin(request, names)
        if path in _OPEN:
            return None
        if session is None:
            if request.method == "GET" and not live and "hx-request" not in request.headers:
                if request.headers.get("sec-fetch-site") == "cross-site":
                    # A link in a mail sends no Strict cookie; the same address from a page of ours does.
                    return HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0"><title>…</title>')
                back = f"{path}?{request.url.query}" if request.url.query else path
                return RedirectResponse(f"/sign-in?{urlencode({'next': back})}", 303)
            raise Refused(401, "You are signed out: sign in again.")
        if request.method == "POST":
            _check_secret(request, session)
        return None


def _is_readable(scope: Scope) -> bool:
    """Whether path and query are text. A browser escapes what is not ASCII; a server passes on any other bytes."""
    try:
        scope["query_string"].decode("ascii")
        scope["path"].encode("utf-8")
    except UnicodeError:
        return False
    return True


def _check_origin(request: Request, names: Names) -> None:
    if request.headers.get("origin", "").lower() not in names.origins:
        raise Refused(403, "This form did not come from this page, so nothing was done.")


def _check_secret(request: Request, session: Session) -> None:
    given = request.headers.get("x-csrf-token") or request.state.form.get("csrf", "")
    if not session.proves(given):
        raise Refused(403, "This form is of an earlier session, and nothing was done. Load the page again.")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; each once. Raises :class:`Refused`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise Refused(413, "That is more than a form may hold.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise Refused(415, "Forms must be application/x-www-form-urlencoded.")
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise Refused(400, "The form cannot be read.") from None
    return dict(fields)


def _add_headers(message: Message, *, private: bool) -> None:
    headers = [*message.get("headers", ()), *HEADERS]
    if private and not any(name.lower() == b"cache-control" for name, _ in headers):
        # A page reached by the back button is requested again, and shows the present state.
        headers.append((b"cache-control", b"no-store"))
    message["headers"] = headers
