"""A page with a supervisor that says what a test wants, a journal on disk, and people who may sign in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from actors.book.break_work import BreakAction, BreakRefused
from actors.book.trading_permission import Halted
from actors.events import Event, to_iso
from actors.journal.store import Journal
from actors.journal.types import Append
from supervisor.changes.asking import Asked
from supervisor.config.loader import load_place
from supervisor.config.models import Configuration
from supervisor.console.app import Console
from supervisor.console.desk import Away
from supervisor.console.guard import Names
from supervisor.console.users import Role, add

PORT = 8321
HERE = f"http://127.0.0.1:{PORT}"
BREAK = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def instrument(symbol: str, **changed: Any) -> dict[str, Any]:
    """An instrument of a status document: in step, with nothing, unless said otherwise."""
    health = {
        "state": "UP", "paused": False, "restarts": 0, "pid": 1, "version": 1, "verified_at": to_iso(NOW),
        "verified_age_s": 2.0, "last_cycle_at": to_iso(NOW), "next_check_s": 1.0, "last_cycle_ms": 3.0, "cycles": 4,
        "success_rate": 1.0, "discrepancies": 0, "critical": 0, "corrections": 0, "by_type": {}, "mean_cycle_ms": 3.0,
        "halted": [],
    }  # fmt: skip
    row: dict[str, Any] = {
        "instrument": symbol, "status": "SUCCESS", "error": None, "passes": 1,
        "book": {"legs": [], "open_orders": []},
        "broker": {"positions": "COMPLETE", "orders": "COMPLETE", "fills": "COMPLETE"},
        "discrepancies": [],
        "health": health | changed.pop("health", {}),
    }  # fmt: skip
    return row | changed


def document(*instruments: dict[str, Any], account: str = "fx", **changed: Any) -> dict[str, Any]:
    """A status document of one account."""
    of_account = {
        "account": account, "broker": "oanda", "connection": "CONNECTED", "error": None, "broker_calls": 1,
        "discrepancies": [], "instruments": list(instruments),
        "health": {"retry_at": None, "stream": "LIVE", "fetches": 1, "call_seconds": 0.1, "call_errors": 0,
                   "clock_steps": 0, "pid": 1},
    }  # fmt: skip
    return {
        "status": "SUCCESS", "started_at": to_iso(NOW), "duration_ms": 1.0, "accounts": [of_account | changed],
        "supervisor": {"state": "RUNNING", "pid": 1, "journal": {"error": None, "last_seq": 1}},
    }  # fmt: skip


def a_break(symbol: str = "EUR_USD", **changed: Any) -> dict[str, Any]:
    """A row of an open break: a naked position, whose correction waits for a person."""
    row = {
        "id": BREAK, "account": "fx", "instrument": symbol, "type": "NAKED_POSITION", "key": "long",
        "severity": "CRITICAL", "cause": "UNEXPLAINED", "book_value": "100", "broker_value": None, "difference": "-100",
        "opened_at": to_iso(NOW), "age_s": 61, "age": "<15m", "state": "OPEN", "until": None, "owner": None,
        "note": None, "correction": "force_close_position", "strategy": None, "told": None, "acknowledged": None,
        "proposed": None, "approved": None,
    }  # fmt: skip
    return row | changed


def naked(symbol: str = "EUR_USD") -> dict[str, Any]:
    """An instrument whose book holds what the broker does not."""
    found = {
        "id": BREAK, "type": "NAKED_POSITION", "severity": "CRITICAL", "phase": "GHOST", "cause": "UNEXPLAINED",
        "key": "long", "book_value": "100", "broker_value": None, "resolved": False, "correction": None,
    }  # fmt: skip
    legs = [{"leg": "long", "quantity": "100", "average_price": "1.1"}]
    return instrument(symbol, status="PARTIAL", discrepancies=[found], book={"legs": legs, "open_orders": []})


class FakeDesk:
    """Says what a test wants said, and keeps what it was asked to do. ``fails`` is raised by what changes something."""

    def __init__(self) -> None:
        self.status = document(instrument("EUR_USD"), instrument("GBP_JPY"))
        self.breaks: list[dict[str, Any]] = []
        self.away: str | None = None
        self.fails: Exception | None = None
        self.looks = 0
        self.hangs = False
        self.asked: list[tuple[Any, ...]] = []

    async def look(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        self.looks += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.away is not None:
            raise Away(self.away)
        return self.status, self.breaks

    async def work_on_break(self, who: Asked, action: BreakAction, break_id: str, **terms: Any) -> dict[str, Any]:
        self._do(who, action.value, break_id, terms)
        return self.breaks[0] | {"state": "PROPOSED" if action is BreakAction.PROPOSE else "ACKNOWLEDGED"}

    async def halt(self, who: Asked, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        self._do(who, "halt", account, instrument, reason)
        return Halted(("fx",), (), (), ())

    async def resume_trading(self, who: Asked, account: str | None, instrument: str | None) -> Halted:
        self._do(who, "resume", account, instrument)
        return Halted(("fx",), (), (), ())

    def _do(self, who: Asked, *what: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.asked.append((who.by.partition("@")[0], who.via, *what))


class House:
    """A page, and browsers at it."""

    def __init__(self, directory: Path) -> None:
        file = directory / "accounts.yaml"
        file.write_text(f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\naccounts: []\n")
        self.configuration: Configuration = load_place(file, ("console", "breaks"))
        Journal.open(self.configuration.journal_url).close()
        self.desk = FakeDesk()
        self.now_s = 1_000.0
        self.console = Console(
            self.configuration, self.desk, lambda: Names.of(PORT, None), monotonic_s=lambda: self.now_s
        )
        self.tokens = {
            name: add(self.configuration.console_tokens, name, role)
            for name, role in (("vic", Role.VIEWER), ("ann", Role.OPERATOR), ("bob", Role.APPROVER))
        }

    def write(self, stream: str, events: Sequence[Event]) -> None:
        """Put events into the journal, as the first of their stream."""
        journal = Journal.open(self.configuration.journal_url)
        journal.append([Append(stream, 0, tuple(events))])
        journal.close()

    def later(self, seconds: float) -> None:
        """Let time pass, so that a page asks anew."""
        self.now_s += seconds

    def open(self) -> None:
        """Begin to serve."""
        self.client = TestClient(self.console.app, base_url=HERE, follow_redirects=False)
        self.client.__enter__()

    def close(self) -> None:
        """End."""
        self.client.__exit__()

    @contextlib.contextmanager
    def browser(self, name: str | None = None) -> Iterator[Browser]:
        """Somebody's browser, signed in as that user."""
        made = Browser(self.client)
        if name is not None:
            answer = made.post("/sign-in", token=self.tokens[name], next="/")
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield made


class Browser:
    """As much of a browser as forms need, with cookies of its own."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.cookies: dict[str, str] = {}

    def request(self, method: str, path: str, **terms: Any) -> Any:
        self._client.cookies.clear()
        self._client.cookies.update(self.cookies)
        answer = self._client.request(method, path, **terms)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies = {name: value} if value.strip('"') else {}
        return answer

    def get(self, path: str, **headers: str) -> Any:
        return self.request("GET", path, headers=headers)

    def text(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return str(answer.text)

    def csrf(self) -> str:
        return str(self.text("/verify").partition('name="csrf" content="')[2].partition('"')[0])

    def post(self, path: str, *, origin: str | None = HERE, **fields: str) -> Any:
        return self.request("POST", path, data=fields, headers={} if origin is None else {"origin": origin})

    def send(self, path: str, **fields: str) -> Any:
        """A form of one of our pages."""
        return self.post(path, csrf=self.csrf(), **fields)


def refused(found: str) -> BreakRefused:
    """What a supervisor says that will not."""
    return BreakRefused("approve break 01234567", found, "Look at it again.")


def in_a_while() -> datetime:
    """A time to come."""
    return datetime.now(UTC) + timedelta(hours=8)
