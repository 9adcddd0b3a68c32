"""The page's addresses: the requests, who may make them, and the responses."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from loguru import logger
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from actors.book.break_work import BreakAction, BreakRefused
from actors.journal.client import JournalAway
from actors.journal.types import JournalError
from actors.runtime.ports import CallError
from supervisor.cli.breaks import until_of
from supervisor.cli.console import Failure
from supervisor.cli.time_text import FORMS, NoMoment, moment
from supervisor.config.models import Configuration
from supervisor.console.desk import Away, Desk, who
from supervisor.console.feed import Feed
from supervisor.console.guard import Guard, Names, Refused
from supervisor.console.pages import BREAK_ID, ROLE_OF, Pages, breaks_path, instrument_url, with_ages
from supervisor.console.past import SHOWN_FOUND, JournalReader, NotFound, Verifier
from supervisor.console.sessions import COOKIE, ENDS_AFTER_S, Session, Sessions
from supervisor.console.stream import Streams, as_json
from supervisor.console.users import Role, TokensUnusable, Users
from supervisor.errors import UnknownName
from supervisor.presentation.break_filter import BreakFilter
from supervisor.supervision.halts import not_durable

_SEQ = re.compile(r"[0-9]{1,15}")
SAID: Mapping[str, str] = {
    "acknowledged": "It is yours until then.",
    "assigned": "Assigned.",
    "proposed": "Proposed. Another person has to approve it.",
    "approved": "Approved. The correction is made at the next look, if both sides still say the same.",
    "waived": "It may stand until then.",
    "halted": "Trading is halted, and stays so until it is resumed.",
    "resumed": "Trading is resumed. A halt of more than this stays in force, and is shown.",
    "nothing": "Nothing was halted there.",
}
_DONE = {
    BreakAction.ACKNOWLEDGE: "acknowledged",
    BreakAction.ASSIGN: "assigned",
    BreakAction.PROPOSE: "proposed",
    BreakAction.APPROVE: "approved",
    BreakAction.WAIVE: "waived",
}


class Console:
    """The application and its state. ``desk`` calls the supervisor; ``names`` returns the names under which the page is
    reached."""

    def __init__(
        self,
        configuration: Configuration,
        desk: Desk,
        names: Callable[[], Names],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._configuration = configuration
        self._desk = desk
        self._names = names
        self._journal = JournalReader(configuration)
        self.feed = Feed(desk, monotonic_s, self._open_in_journal)
        self.users = Users(configuration.console_tokens)
        self._sessions = Sessions(self.users, self.feed.monotonic_s)
        self._pages = Pages(self._journal, configuration.breaks.all_reason_codes)
        self.streams = Streams(self.feed, self._pages)
        self._verifier = Verifier(configuration)
        app = Starlette(
            routes=[
                Route("/", self._live_page, methods=["GET"]),
                Route("/account/{account}", self._live_page, methods=["GET"]),
                Route("/instrument/{account}/{symbol:path}", self._live_page, methods=["GET"]),
                Route("/breaks", self._live_page, methods=["GET"]),
                Route("/break/{break_id}", self._break_page, methods=["GET"]),
                Route("/break/{break_id}/{action}", self._work, methods=["POST"]),
                Route("/halt", self._halt, methods=["POST"]),
                Route("/at", self._at, methods=["GET"]),
                Route("/search", self._search, methods=["GET"]),
                Route("/record/{seq}", self._record, methods=["GET"]),
                Route("/verify", self._verify_page, methods=["GET"]),
                Route("/verify", self._verify, methods=["POST"]),
                Route("/live", self._live, methods=["GET"]),
                Route("/sign-in", self._sign_in_page, methods=["GET"]),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                Route("/sign-out", self._sign_out, methods=["POST"]),
                Route("/healthz", _healthz, methods=["GET"]),
                Mount("/static", StaticFiles(packages=[("supervisor.console", "static")])),
            ],
            lifespan=self._lifespan,
            exception_handlers={404: _raised, 405: _raised, Exception: _raised},
        )
        app.router.redirect_slashes = False
        self.app = Guard(app, self._sessions, names, self._error_page)

    async def _open_in_journal(self) -> tuple[Sequence[Mapping[str, Any]], float]:
        """The open breaks, from the journal alone."""
        now_s = self.feed.monotonic_s()
        try:
            return await self._journal.open_breaks(now_s)
        except (JournalError, OSError):
            return (), now_s

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        asking = asyncio.create_task(self.feed.run())
        try:
            yield
        finally:
            await self.feed.close()
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    # Pages with live updates

    async def _live_page(self, request: Request, *, refused: str | None = None, status: int = 200) -> Response:
        session = _session(request)
        path = request.scope["path"] if refused is None else str(request.state.shown)
        names = [one for one in path.split("/") if one]
        if path == "/breaks":
            try:
                path = breaks_path(BreakFilter.of_query(request.url.query))
            except ValueError as error:
                refused, status = f"{str(error)[:1].upper()}{str(error)[1:]}. All are shown.", 400
        seen = await self.feed.fresh()
        found = await self.streams.now(path, session.user.role, seen)
        if found is None:
            raise Refused(404, "There is no such account or instrument, neither running nor in the journal.")
        live, token = found
        later_s = max(0.0, self.feed.monotonic_s() - seen.heard_s)
        heard_s = None if seen.status is None else later_s
        page = self._frame(
            request,
            _TEMPLATES[names[0] if names else ""],
            title=live.title,
            parts=live.parts,
            lists=live.lists,
            live=path,
            seen_number=token,
            heard_s="" if heard_s is None else round(heard_s, 2),
            heard_words="never" if heard_s is None else "just now",
            waiting=live.waiting,
            refused=refused,
            said=SAID.get(request.query_params.get("said", "")),
            account=names[1] if len(names) > 1 else "",
            symbol=path.split("/", 3)[3] if len(names) > 2 else "",
            halting=self._halting(names, session),
        )
        return HTMLResponse(with_ages(page, live.ages, later_s), status)

    def _halting(self, names: list[str], session: Session) -> Markup:
        if names and names[0] != "account":
            return Markup()
        return self._pages.halting(names[1] if names else "", session.user.role)

    async def _break_page(self, request: Request) -> Response:
        _named_break(request)
        return await self._live_page(request)

    async def _live(self, request: Request) -> Response:
        session = _session(request)
        path = request.query_params.get("page", "")
        token = request.headers.get("last-event-id") or request.query_params.get("seen", "")
        role = session.user.role
        if "once" in request.query_params:
            seen = await self.feed.fresh()
            message = await self.streams.message(path, role, seen, self.streams.has(path, role, token))
            if message is None:
                raise Refused(404, "There is no such page.")
            return PlainTextResponse(as_json(message), media_type="application/json")
        if await self.streams.now(path, role, await self.feed.fresh()) is None:
            raise Refused(404, "There is no such page.")

        def still() -> bool:
            now = self._sessions.of(session.key)
            return now is not None and now.user.role is role

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        events = self.streams.events(path, role, token, still)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    # Actions

    async def _work(self, request: Request) -> Response:
        break_id = _named_break(request)
        try:
            action = BreakAction(request.path_params["action"])
        except ValueError:
            raise Refused(404, "There is no such thing to do to a break.") from None
        session = _may(request, ROLE_OF[action])
        form = request.state.form
        request.state.shown = f"/break/{break_id}"
        now = datetime.now(UTC)
        try:
            if action in (BreakAction.PROPOSE, BreakAction.APPROVE) and form.get("looked") != "yes":
                raise Failure("say that you looked at both sides")
            wanted = form.get("until", "").strip()
            until = until_of(wanted, now) if wanted else None
            done = await self._desk.work_on_break(
                who(session.user.name),
                action,
                break_id,
                reason=form.get("reason") or None,
                note=form.get("note", "").strip() or None,
                until=until,
                owner=form.get("owner", "").strip() or None,
                sides=(form.get("book_value"), form.get("broker_value")),
            )
        except Failure as failure:
            return await self._again(request, f"Nothing was done: {failure.message}.", 400)
        except BreakRefused as refused:
            return await self._again(request, f"{str(refused)[:1].upper()}{str(refused)[1:]}", 409)
        except (Away, JournalAway, JournalError, CallError) as error:
            return await self._again(request, f"Whether it was done is not known: {error}. Look again.", 503)
        logger.info("{} {} break {}", session.user.name, action.value, break_id)
        await self.feed.refresh()
        said = "proposed" if done["state"] == "PROPOSED" else _DONE[action]
        return RedirectResponse(f"/break/{break_id}?said={said}", 303)

    async def _again(self, request: Request, words: str, status: int) -> Response:
        await self.feed.refresh()
        with contextlib.suppress(Refused):
            return await self._live_page(request, refused=words, status=status)
        raise Refused(status, words)

    async def _halt(self, request: Request) -> Response:
        session = _may(request, Role.OPERATOR)
        form = request.state.form
        account, symbol = form.get("account") or None, form.get("instrument") or None
        if form.get("do") not in ("halt", "resume") or form.get("looked") != "yes":
            raise Refused(
                400, "Say whether trading is to be halted or resumed, and that you mean it. Nothing was done."
            )
        seen = await self.feed.fresh()
        there = account is None or (
            seen.account(account) is not None if symbol is None else seen.instrument(account, symbol) is not None
        )
        if not there or (account is None and symbol is not None):
            raise Refused(404, "No such account or instrument is running, so nothing was done.")
        me = who(session.user.name)
        try:
            if form["do"] == "halt":
                result = await self._desk.halt(me, account, symbol, form.get("reason", "").strip() or None)
            else:
                result = await self._desk.resume_trading(me, account, symbol)
        except (Away, JournalAway, JournalError, CallError, UnknownName) as error:
            raise Refused(503, f"Whether it was done is not known: {error}. Do it again.") from None
        if result.failure is not None:
            words = not_durable(result.failure)
            raise Refused(503, f"{words[:1].upper()}{words[1:]}.")
        await self.feed.refresh()
        said = "halted" if form["do"] == "halt" else "resumed" if result.scopes else "nothing"
        place = "/" if account is None else instrument_url(account, symbol or "")
        return RedirectResponse(f"{place}?said={said}", 303)

    # The past

    async def _at(self, request: Request) -> Response:
        asked = request.query_params
        account, symbol, text = (asked.get(name, "").strip() for name in ("account", "instrument", "at"))
        then, refused, status = None, None, 200
        if account or symbol or text:
            now = datetime.now(UTC)
            try:
                at = moment(text, now)
                if at > now:
                    raise NotFound("That time is in the future.")
                then = await self._journal.then(account, symbol, at)
            except NoMoment as error:
                refused, status = str(error), 400
            except NotFound as error:
                refused, status = str(error), 404
            except (JournalError, OSError) as error:
                refused, status = f"The journal was not read: {error}", 503
        page = self._frame(
            request, "at.html", title="The book at …", account=account, symbol=symbol, at=text or "1h", then=then,
            refused=refused, forms=FORMS,
        )  # fmt: skip
        return HTMLResponse(page, status)

    async def _search(self, request: Request) -> Response:
        text = request.query_params.get("q", "").strip()[:200]
        if BREAK_ID.fullmatch(text) and (await self.feed.fresh()).open_break(text) is not None:
            return RedirectResponse(f"/break/{text}", 303)
        records, refused, status = [], None, 200
        if text:
            try:
                records = await self._journal.search(text)
            except (JournalError, OSError) as error:
                refused, status = f"The journal was not read: {error}", 503
        page = self._frame(
            request, "search.html", title="Search", query=text, records=records, refused=refused, most=SHOWN_FOUND,
            listed=self._pages.record_list(records, "Records"),
        )  # fmt: skip
        return HTMLResponse(page, status)

    async def _record(self, request: Request) -> Response:
        seq = request.path_params["seq"]
        if not _SEQ.fullmatch(seq):
            raise Refused(404, "A record is named by its number.")
        try:
            record = await self._journal.record(int(seq))
        except NotFound as error:
            raise Refused(404, str(error)) from None
        except (JournalError, OSError) as error:
            raise Refused(503, f"The journal was not read: {error}") from None
        payload = orjson.dumps(record.event.payload, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
        body = self._pages.record_body(record, payload)
        if "part" in request.query_params:
            return HTMLResponse(body)
        return HTMLResponse(self._frame(request, "record.html", title=f"Record {seq}", body=body))

    async def _verify_page(self, request: Request) -> Response:
        part = self._pages.verification(self._verifier.progress)
        if "part" in request.query_params:
            return HTMLResponse(part)
        return HTMLResponse(self._frame(request, "verify.html", title="Is the journal whole?", verification=part))

    async def _verify(self, request: Request) -> Response:
        self._verifier.begin(_session(request).user.name)
        return RedirectResponse("/verify", 303)

    # Signing in and out

    async def _sign_in_page(self, request: Request) -> Response:
        trouble = None
        try:
            self.users.all()
        except TokensUnusable as error:
            trouble = str(error)
        return self._sign_in_answer(request, trouble, 200, request.query_params.get("next", ""))

    async def _sign_in(self, request: Request) -> Response:
        form = request.state.form
        where = _inside(form.get("next", ""))
        try:
            session = self._sessions.begin(form.get("token", "").strip())
        except TokensUnusable as error:
            return self._sign_in_answer(request, str(error), 503, where)
        if session is None:
            client = request.client.host if request.client is not None else "nobody known"
            logger.warning("an unknown token was tried from {}", client)
            return self._sign_in_answer(request, "This token is not known.", 401, where)
        self._sessions.end(request.cookies.get(COOKIE))
        answer = RedirectResponse(where, 303)
        answer.set_cookie(
            COOKIE, session.key, max_age=int(ENDS_AFTER_S), httponly=True, samesite="strict",
            secure=self._names().secure,
        )  # fmt: skip
        return answer

    def _sign_in_answer(self, request: Request, trouble: str | None, status: int, where: str) -> Response:
        page = self._frame(request, "sign_in.html", title="Sign in", trouble=trouble, next=_inside(where))
        return HTMLResponse(page, status)

    async def _sign_out(self, request: Request) -> Response:
        self._sessions.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def _error_page(self, request: Request, status: int, words: str) -> Response:
        if request.url.path in ("/live", "/healthz") or "hx-request" in request.headers:
            return PlainTextResponse(words, status)
        return HTMLResponse(
            self._frame(request, "error.html", title=_TITLES.get(status, "This did not work"), words=words), status
        )

    def _frame(self, request: Request, template: str, **values: Any) -> str:
        session: Session | None = getattr(request.state, "session", None)
        csrf = "" if session is None else session.csrf
        usual = {
            "csrf": csrf, "user": None if session is None else session.user, "live": "", "seen_number": "",
            "heard_s": "", "heard_words": "", "waiting": 0, "said": None, "refused": None,
            "posted": _place_of(request, values.get("live")) if request.method == "POST" else None,
        }  # fmt: skip
        page = self._pages.render(template, **{**usual, **values})
        # The forms in parts are the same for everybody with a role: what belongs to one session is put in last.
        return page.replace('name="csrf" value=""', f'name="csrf" value="{csrf}"')


_TEMPLATES: Mapping[str, str] = {
    "": "fleet.html",
    "account": "fleet.html",
    "instrument": "instrument.html",
    "breaks": "breaks.html",
    "break": "break.html",
}
_TITLES: Mapping[int, str] = {
    400: "That cannot be read",
    401: "Sign in again",
    403: "Not allowed",
    404: "Not found",
    405: "Not like that",
    409: "Not done",
    413: "Too large",
    415: "Not like that",
    421: "Not here",
    500: "Something went wrong here",
    503: "No answer",
}


async def _raised(_: Request, error: Exception) -> Response:
    raise error


async def _healthz(_: Request) -> Response:
    return JSONResponse({"ok": True})


def _session(request: Request) -> Session:
    found: Session | None = request.state.session
    if found is None:
        raise Refused(401, "You are signed out: sign in again.")
    return found


def _may(request: Request, role: Role) -> Session:
    session = _session(request)
    if session.user.role < role:
        needed = f"This takes a person who is {role.name.lower()}"
        raise Refused(403, f"{needed}, and {session.user.name} is {session.user.role.name.lower()}. Nothing was done.")
    return session


def _named_break(request: Request) -> str:
    break_id: str = request.path_params["break_id"]
    if not BREAK_ID.fullmatch(break_id):
        raise Refused(404, "A break is named by its whole id, as every list links to it.")
    return break_id


def _place_of(request: Request, shown: str | None) -> str:
    """The address of what is shown after a form was answered, without the form."""
    return request.url.path if request.url.path == "/sign-in" else shown or "/"


def _inside(where: str) -> str:
    """An address of this page; one of another site is not followed."""
    return where if re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", where) and "\\" not in where else "/"
