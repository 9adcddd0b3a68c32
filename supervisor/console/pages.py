"""The pages as HTML. A page is a frame around parts; the parts are what changes while it is open, and are sent again
when they change.

The laws of this module: ages are kept beside the parts, so that time alone sends nothing; the templates escape every
text; a page of something unknown is ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2s
from html import unescape
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from actors.book.break_work import NOBODY, TRANSITIONS, BreakAction, BreakState
from actors.book.discrepancies import HOW_IT_ENDS, DiscrepancyType
from actors.book.history import who as who_of
from actors.events import EventType, Record, Severity, to_iso
from actors.journal.types import JournalError
from brokers.frozen import dataclass
from supervisor.cli.screen import book_words
from supervisor.console.feed import Seen
from supervisor.console.past import JournalReader, NotFound, Progress, Story
from supervisor.console.users import Role
from supervisor.presentation import sides
from supervisor.presentation.attention import (
    NEED_WORDS,
    Attention,
    Need,
    account_attention,
    attention,
)
from supervisor.presentation.break_filter import BreakFilter
from supervisor.presentation.breaks import AGE_BUCKETS, age_words
from supervisor.presentation.event_text import describe
from supervisor.presentation.json_contract import halted_scopes
from supervisor.presentation.prices import shown_price

_BREAKS = "breaks"
BREAK_ID = re.compile(r"[0-9a-f]{32}")
MOST_BREAKS = 200
MOST_ROWS = 500
_NOT_RUNNING = -1
_AGE = re.compile(r'<time data-a="([^"]*)"></time>')
_KEPT = 512
ROLE_OF: Mapping[BreakAction, Role] = {
    BreakAction.ACKNOWLEDGE: Role.OPERATOR,
    BreakAction.ASSIGN: Role.OPERATOR,
    BreakAction.PROPOSE: Role.OPERATOR,
    BreakAction.WAIVE: Role.OPERATOR,
    BreakAction.APPROVE: Role.APPROVER,
}


@dataclass(frozen=True, slots=True)
class Live:
    """The parts of a page, by their ids; ``lists`` are the ids in each list, in order; ``ages`` are in seconds, as of
    the supervisor's answer (``None``: never). ``waiting`` is how much needs a person in the whole fleet."""

    title: str
    parts: Mapping[str, Markup]
    lists: Mapping[str, Sequence[str]]
    ages: Mapping[str, float | None]
    waiting: int


def id_of(*names: str) -> str:
    """An id of HTML for any names."""
    return "x" + blake2s("\0".join(names).encode(), digest_size=8).hexdigest()


def environment() -> Environment:
    """Jinja with everything escaped, where an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("supervisor.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {
        "age": lambda key: Markup('<time data-a="{}"></time>').format(key),
        "instrument_url": instrument_url,
        "account_url": lambda name: f"/account/{quote(name, safe='')}",
        "describe": lambda record: describe(record.event),
        "who": lambda record: who_of(record.event),
        "clock": clock,
        "iso": to_iso,
    }
    made.filters |= {"price": shown_price, "age_words": age_words}
    return made


def clock(at: Any) -> str:
    """A time for a person, always with its zone: UTC."""
    text = at if isinstance(at, str) else to_iso(at)
    return f"{text[:19].replace('T', ' ')}Z"


def instrument_url(account: str, symbol: str) -> str:
    """The address of an instrument's page, or without an instrument the account's."""
    if not symbol:
        return f"/account/{quote(account, safe='')}"
    return f"/instrument/{quote(account, safe='')}/{quote(symbol, safe='/')}"


def with_ages(html: str, ages: Mapping[str, float | None], later_s: float) -> str:
    """The page with its ages filled in, for browsers without scripts; ``later_s`` have passed since the answer."""

    def words(found: re.Match[str]) -> str:
        age_s = ages.get(_unescaped(found[1]))
        age = "never" if age_s is None else f"{age_words(age_s + later_s)} ago"
        return f'<time data-a="{found[1]}">{age}</time>'

    return _AGE.sub(words, html)


def _unescaped(key: str) -> str:
    return unescape(key)


def breaks_path(wanted: BreakFilter) -> str:
    """The address of the filtered breaks: the same for equal filters, however they were written."""
    return f"/{_BREAKS}?{wanted.query}" if wanted else f"/{_BREAKS}"


class Pages:
    """Makes the pages. ``reason_codes`` are those that a person may choose."""

    def __init__(self, journal: JournalReader, reason_codes: Sequence[str]) -> None:
        self._journal = journal
        self._env = environment()
        self._env.globals["reason_codes"] = list(reason_codes)
        self._parts: Any = self._env.get_template("parts.html").module
        self._rows: dict[str, tuple[Any, Markup]] = {}
        self._stories: dict[str, tuple[Any, Markup]] = {}
        self._evidence: dict[str, _Evidence] = {}

    def render(self, name: str, **values: Any) -> str:
        """A whole page."""
        return self._env.get_template(name).render(**values)

    def _part(self, name: str, *values: Any) -> Markup:
        made: Markup = getattr(self._parts, name)(*values)
        return made

    async def live(self, path: str, seen: Seen, role: Role) -> Live | None:
        """The parts of the page at a path, as of now; ``None`` where nothing has that name."""
        names = [part for part in path.split("/") if part]
        match names:
            case [breaks] if breaks.startswith(f"{_BREAKS}?"):
                try:
                    return self._breaks(seen, BreakFilter.of_query(breaks.partition("?")[2]))
                except ValueError:
                    return None
            case []:
                return self._fleet(seen, None)
            case ["account", account]:
                return self._fleet(seen, account)
            case ["instrument", account, *rest] if rest:
                return await self._instrument(seen, account, path.split("/", 3)[3], role)
            case ["breaks"]:
                return self._breaks(seen, BreakFilter())
            case ["break", break_id] if BREAK_ID.fullmatch(break_id):
                return await self._break(seen, break_id, role)
        return None

    def halting(self, account: str, role: Role) -> Markup:
        """The form that halts and resumes trading in an account or in everything."""
        return self._part("halting", account, "", (), role >= Role.OPERATOR)

    def record_list(self, records: Sequence[Record], caption: str) -> Markup:
        """Records as a list, each with its link."""
        return self._part("record_list", records, caption)

    def record_body(self, record: Record, payload: str) -> Markup:
        """A record in full."""
        return self._part("record_body", record, payload)

    def verification(self, progress: Progress | None) -> Markup:
        """The progress of a verification, or its result."""
        return self._part("verification", progress)

    # The fleet

    def _fleet(self, seen: Seen, only: str | None) -> Live | None:
        status = seen.status
        if only is not None and seen.account(only) is None and status is not None:
            return None
        of_place = seen.of_place
        listed: list[tuple[tuple[Any, ...], str, Mapping[str, Any] | None, Attention]] = []
        parts: dict[str, Markup] = {}
        ages: dict[str, float | None] = {}
        needs: list[Need] = []
        for account in status["accounts"] if status is not None else ():
            name = account["account"]
            whole = account_attention(account, of_place.get((name, ""), []))
            if whole.need is not Need.NOTHING:
                needs.append(whole.need)
                listed.append((_sortable((*whole.rank, name)), name, None, whole))
            for row in account["instruments"]:
                found = attention(row, of_place.get((name, row["instrument"]), []))
                needs.append(found.need)
                listed.append((_sortable((*found.rank, f"{name}/{row['instrument']}")), name, row, found))
        if only is not None:
            listed = [one for one in listed if one[1] == only]
        listed.sort(key=lambda one: one[0])
        shown = listed[:MOST_ROWS]
        keys = []
        for _, name, row, found in shown:
            key = id_of(name) if row is None else id_of(name, row["instrument"])
            keys.append(key)
            if row is None:
                made = partial(self._part, "account_row", key, name, found)
                parts[key] = self._row(key, (found.need, found.why), made)
            else:
                parts[key] = self._instrument_row(key, name, row, found)
                ages[key] = row["health"]["verified_age_s"]
        parts["top"] = self._top(seen, needs)
        parts["more"] = self._part("more", len(listed) - len(shown))
        if only is not None:
            parts["account"] = self._part("account_facts", seen.account(only))
        return Live(only or "Fleet", parts, {"rows": keys}, ages, _waiting(needs))

    def _instrument_row(self, key: str, account: str, row: Mapping[str, Any], found: Attention) -> Markup:
        health = row["health"]
        content = (
            found.why, found.need, row["status"], health["state"], health["paused"], bool(health.get("halted")),
            health["verified_at"] is None, health["last_cycle_at"] is None, row["book"], row["broker"],
            [(one["key"], one["broker_value"], one["resolved"]) for one in row["discrepancies"]],
        )  # fmt: skip

        def made() -> Markup:
            held = book_words(row["book"], known=health["verified_at"] is not None)
            return self._part("instrument_row", key, account, row, found, held, _broker_words(row))

        return self._row(key, content, made)

    def _row(self, key: str, content: Any, made: Callable[[], Markup]) -> Markup:
        """A row, rendered again only when its content has changed."""
        kept = self._rows.get(key)
        if kept is not None and kept[0] == content:
            return kept[1]
        if len(self._rows) > 20_000:
            self._rows.clear()
        html = made()
        self._rows[key] = (content, html)
        return html

    def _top(self, seen: Seen, needs: Sequence[Need] | None = None) -> Markup:
        if needs is None:
            needs = needs_of(seen)
        counts = {NEED_WORDS[need]: sum(one is need for one in needs) for need in Need}
        status = seen.status
        halted = halted_scopes(status) if status is not None else []
        return self._part("top", seen, counts, halted)

    # One instrument

    async def _instrument(self, seen: Seen, account: str, symbol: str, role: Role) -> Live | None:
        row = seen.instrument(account, symbol)
        if row is None:
            if seen.status is not None and not await self._known(account, symbol):
                return None
            story = await self._story(account, symbol, _NOT_RUNNING)
            parts = {"top": self._top(seen), "state": self._part("not_running", account, symbol), "story": story}
            return Live(f"{account}/{symbol}", parts, {}, {}, _waiting(needs_of(seen)))
        breaks = seen.of_place.get((account, symbol), [])
        found = attention(row, breaks)
        health = row["health"]
        cycles = seen.cycles.get(f"{account}/{symbol}", ())
        parts = {
            "top": self._top(seen),
            "state": self._part("instrument_state", account, row, found),
            "sides": self._part("both_sides", sides.legs(row), sides.orders(row), list(sides.others(row))),
            "open": self._part("open_breaks", breaks),
            "acts": self._part("halting", account, symbol, health.get("halted"), role >= Role.OPERATOR),
            "cycles": self._part("cycles", cycles),
            "story": await self._story(account, symbol, health["version"]),
        }
        ages = {"verified": health["verified_age_s"], **{one["id"]: float(one["age_s"]) for one in breaks}}
        return Live(f"{account}/{symbol}", parts, {}, ages, _waiting(needs_of(seen)))

    async def _known(self, account: str, symbol: str) -> bool:
        try:
            return await self._journal.knows(account, symbol)
        except JournalError:
            return False

    async def _story(self, account: str, symbol: str, version: int) -> Markup:
        """An instrument's history from the journal, read again when its stream has grown."""
        key = id_of(account, symbol)
        kept = self._stories.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        trouble, story = None, None
        try:
            story = await self._journal.story(account, symbol)
        except (NotFound, JournalError, OSError) as error:
            trouble = str(error)
        html = self._part("story", account, symbol, story or Story(None, (), ()), trouble)
        if trouble is None:
            self._remember(key, version, html)
        return html

    def _remember(self, key: str, content: Any, html: Markup) -> None:
        while len(self._stories) >= _KEPT:
            del self._stories[next(iter(self._stories))]
        self._stories[key] = (content, html)

    # Breaks

    def _breaks(self, seen: Seen, wanted: BreakFilter) -> Live:
        found = wanted.rows(seen.breaks)
        shown = found[:MOST_BREAKS]
        parts = {
            one["id"]: self._row(
                f"b{one['id']}",
                {key: value for key, value in one.items() if key not in ("age_s", "age")},
                partial(self._part, "break_row", one),
            )
            for one in shown
        }
        parts["top"] = self._top(seen)
        parts["count"] = self._part("break_count", len(seen.breaks), len(found), len(shown))
        parts["filters"] = self._part("break_filters", wanted, _choices(seen.breaks, wanted))
        ages = {one["id"]: float(one["age_s"]) for one in shown}
        return Live("Breaks", parts, {"rows": [one["id"] for one in shown]}, ages, _waiting(needs_of(seen)))

    async def _break(self, seen: Seen, break_id: str, role: Role) -> Live | None:
        row = seen.open_break(break_id)
        content = None if row is None else {key: value for key, value in row.items() if key not in ("age_s", "age")}
        kept = self._evidence.get(break_id)
        if kept is None or kept.content != content:
            kept = await self._read_evidence(break_id, row, content)
        if row is None and kept.trouble is None and not kept.records:
            return None
        parts = {
            "top": self._top(seen),
            "break": self._part("break_facts", row, kept.ended, kept.records, _how_it_ends(row)),
            "acts": self._part("break_acts", row, _allowed(row, role), role),
            "evidence": kept.html,
        }
        ages = {} if row is None else {break_id: float(row["age_s"])}
        title = "Break" if row is None else f"{row['type']} {row['account']}/{row['instrument']}"
        return Live(title, parts, {}, ages, _waiting(needs_of(seen)))

    async def _read_evidence(self, break_id: str, row: Mapping[str, Any] | None, content: Any) -> _Evidence:
        """The records behind a break. They are cached once they include everything in its row, or how it ended."""
        records: Sequence[Record] = ()
        trouble = None
        try:
            records = await self._journal.of_break(break_id, row)
        except (JournalError, OSError) as error:
            trouble = str(error)
        ended = _end(records)
        found = _Evidence(content, tuple(records), ended, trouble, self._part("evidence", records, trouble))
        if trouble is None and (_covers(records, row) if row is not None else ended is not None):
            while len(self._evidence) >= _KEPT:
                del self._evidence[next(iter(self._evidence))]
            self._evidence[break_id] = found
        return found


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The records behind a break whose row has this content (``None``: it is no longer open)."""

    content: Any
    records: tuple[Record, ...]
    ended: Mapping[str, Any] | None
    trouble: str | None
    html: Markup


def needs_of(seen: Seen) -> list[Need]:
    """How urgently each account and instrument needs a person."""
    if seen.status is None:
        return []
    of_place = seen.of_place
    found: list[Need] = []
    for account in seen.status["accounts"]:
        name = account["account"]
        whole = account_attention(account, of_place.get((name, ""), [])).need
        found += [whole] if whole is not Need.NOTHING else []
        found += [attention(row, of_place.get((name, row["instrument"]), [])).need for row in account["instruments"]]
    return found


def _choices(rows: Sequence[Mapping[str, Any]], wanted: BreakFilter) -> dict[str, list[str]]:
    """The choices of each filter: the values of the open breaks, and the chosen one."""

    def of(name: str) -> list[str]:
        chosen = getattr(wanted, name)
        return sorted({*(row[name] for row in rows if row[name]), *([chosen] if chosen else [])} - {NOBODY})

    return {
        "account": of("account"),
        "instrument": of("instrument"),
        "type": of("type"),
        "severity": [one.value for one in reversed(Severity)],
        "state": [one.value for one in BreakState if one is not BreakState.RESOLVED],
        "older": list(dict.fromkeys([*(name for name, _ in AGE_BUCKETS), *([wanted.older] if wanted.older else [])])),
        "owner": [NOBODY, *of("owner")],
    }


def _waiting(needs: Sequence[Need]) -> int:
    return sum(one is Need.ACT for one in needs)


def _sortable(rank: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sorts numbers before texts at every position, so that ranks of any length compare."""
    return tuple((1, part) if isinstance(part, str) else (0, part) for part in rank)


def _broker_words(row: Mapping[str, Any]) -> str:
    if row["health"]["last_cycle_at"] is None:
        return "not asked yet"
    legs = sides.legs(row)
    differing = [f"{one.name} {one.broker}" for one in legs if one.agrees is False]
    if differing:
        return ", ".join(differing)
    return (
        sides.NOT_KNOWN if any(one.agrees is None and one.broker == sides.NOT_KNOWN for one in legs) else legs[0].broker
    )


def _covers(records: Sequence[Record], row: Mapping[str, Any]) -> bool:
    """Whether the journal has everything in the row, which may be older or newer than the reading of the journal."""
    hands = [row[name]["at"] for name in ("acknowledged", "proposed", "approved") if row[name] is not None]
    newest = max((to_iso(record.event.time) for record in records), default="")
    return all(newest >= at for at in hands) and bool(records)


def _end(records: Sequence[Record]) -> Mapping[str, Any] | None:
    """How a break ended, if it did."""
    last = next((one for one in reversed(records) if one.event.type in _FOUND), None)
    if last is None or last.event.type is not EventType.DISCREPANCY_RESOLVED:
        return None
    payload = last.event.payload
    return {
        "at": last.event.time,
        "correction": payload.get("correction"),
        "approved_by": payload.get("approved_by"),
        "seq": last.seq,
    }


_FOUND = frozenset({EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED})


def _how_it_ends(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else HOW_IT_ENDS[DiscrepancyType(row["type"])]


def _allowed(row: Mapping[str, Any] | None, role: Role) -> list[str]:
    """The actions that this person may take on a break in its present state."""
    if row is None:
        return []
    state = BreakState(row["state"])
    allowed = [action for action in BreakAction if role >= ROLE_OF[action] and state in TRANSITIONS[action]]
    if row["correction"] is None:
        allowed = [one for one in allowed if one not in (BreakAction.PROPOSE, BreakAction.APPROVE)]
    return [one.value for one in allowed]
