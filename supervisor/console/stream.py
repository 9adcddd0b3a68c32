"""Sends the changes of an open page, as server-sent events.

The laws of this module: a page that connects, for the first time or again, gets the difference from what it is known to
have, or everything where that is unknown; an open page is sent at most :data:`BUDGET` bytes of parts with each update,
the most urgent first; each message has the age of its content.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from brokers.frozen import dataclass
from supervisor.console.feed import Feed, Seen
from supervisor.console.pages import Live, Pages
from supervisor.console.users import Role

BUDGET = 18_000
"""Bytes of parts in one message to an open page."""
HEARTBEAT_S = 5.0
_VERSIONS_KEPT = 30
_PAGES_KEPT = 200
_AGE_SLACK_S = 1.5
Lists = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Version:
    """A page at one time: its parts by their hashes, and its lists."""

    token: str
    hashes: Mapping[str, int]
    lists: Lists


@dataclass(slots=True)
class _Page:
    """A page as one role sees it. ``made`` is the number of the answer it was made from."""

    made: tuple[int, Live] | None = None
    versions: deque[Version] = field(default_factory=lambda: deque(maxlen=_VERSIONS_KEPT))


@dataclass(slots=True)
class Has:
    """What one open page has."""

    token: str = ""
    hashes: dict[str, int] = field(default_factory=dict)
    lists: Lists | None = None
    ages: dict[str, tuple[float | None, float]] = field(default_factory=dict)
    whole: bool = False


class Streams:
    """All open pages of everybody."""

    def __init__(self, feed: Feed, pages: Pages) -> None:
        self._feed = feed
        self._pages = pages
        self._run = secrets.token_hex(4)
        self._count = 0
        self._kept: OrderedDict[tuple[str, Role], _Page] = OrderedDict()

    async def now(self, path: str, role: Role, seen: Seen) -> tuple[Live, str] | None:
        """A page as of now, and the token of this version of it; ``None`` where there is none."""
        page = self._page(path, role)
        if page.made is None or page.made[0] != seen.number:
            live = await self._pages.live(path, seen, role)
            if live is None:
                return None
            page.made = (seen.number, live)
        live = page.made[1]
        hashes = {name: hash(html) for name, html in live.parts.items()}
        if not page.versions or page.versions[-1].hashes != hashes or page.versions[-1].lists != live.lists:
            self._count += 1
            page.versions.append(Version(f"{self._run}-{self._count}", hashes, live.lists))
        return live, page.versions[-1].token

    def has(self, path: str, role: Role, token: str) -> Has:
        """What a page that was sent this version has; nothing where that is unknown."""
        found = next((one for one in self._page(path, role).versions if token and one.token == token), None)
        return Has() if found is None else Has(found.token, dict(found.hashes), found.lists, {}, whole=True)

    async def message(self, path: str, role: Role, seen: Seen, has: Has) -> dict[str, Any] | None:
        """The next message to a page, noted in ``has`` as sent; ``None`` where the page no longer exists."""
        found = await self.now(path, role, seen)
        if found is None:
            return None
        live, token = found
        now_s = self._feed.monotonic_s()
        later_s = max(0.0, now_s - seen.heard_s)
        heard_s = None if seen.status is None else round(later_s, 1)
        message: dict[str, Any] = {"heard": heard_s, "waiting": live.waiting}
        parts, all_sent = self._parts(live, has)
        if parts:
            message["parts"] = parts
        if has.lists != live.lists:
            message["lists"] = has.lists = live.lists
        if all_sent:
            has.token = token
            has.hashes = {name: known for name, known in has.hashes.items() if name in live.parts}
        ages = _ages(live.ages, has, later_s, now_s)
        if ages:
            message["ages"] = ages
        return {"seen": has.token, **message}

    def _parts(self, live: Live, has: Has) -> tuple[dict[str, str], bool]:
        rows = [key for keys in live.lists.values() for key in keys]
        order = [*(name for name in live.parts if name not in set(rows)), *rows] if rows else list(live.parts)
        parts: dict[str, str] = {}
        left = BUDGET if has.whole else None
        for name in order:
            html = live.parts[name]
            if has.hashes.get(name) == hash(html):
                continue
            if left is not None and parts and len(html) > left:
                return parts, False
            parts[name] = html
            has.hashes[name] = hash(html)
            left = None if left is None else left - len(html.encode())
        has.whole = True
        return parts, True

    async def events(self, path: str, role: Role, token: str, still: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The events of one open page, until it is closed, signed out (``still``) or removed."""
        has = self.has(path, role, token)
        number = -1
        while not self._feed.closing:
            seen = await self._feed.newer(number, HEARTBEAT_S)
            number = seen.number
            if not still():
                yield b"event: signed-out\ndata: {}\n\n"
                return
            message = await self.message(path, role, seen, has)
            if message is None:
                return
            yield f"event: state\nid: {has.token}\ndata: {as_json(message)}\n\n".encode()

    def _page(self, path: str, role: Role) -> _Page:
        key = (path, role)
        page = self._kept.get(key)
        if page is None:
            page = self._kept[key] = _Page()
        self._kept.move_to_end(key)
        while len(self._kept) > _PAGES_KEPT:
            self._kept.popitem(last=False)
        return page


def _ages(ages: Mapping[str, float | None], has: Has, later_s: float, now_s: float) -> dict[str, float | None]:
    """The ages that differ from what the page counts by itself."""
    sent: dict[str, float | None] = {}
    for key, age_s in ages.items():
        now = None if age_s is None else age_s + later_s
        known = has.ages.get(key)
        if known is not None and now is not None and known[0] is not None:
            if abs(known[0] + now_s - known[1] - now) < _AGE_SLACK_S:
                continue
        elif known is not None and known[0] is None and now is None:
            continue
        has.ages[key] = (now, now_s)
        sent[key] = None if now is None else round(now)
    for gone in has.ages.keys() - ages.keys():
        del has.ages[gone]
    return sent


def as_json(message: Mapping[str, Any]) -> str:
    """A message as one line."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
