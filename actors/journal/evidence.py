"""The audit actor's part in the evidence: when heads are signed, stamped and delivered, and how long that may take.

Imports no database driver: creating the audit actor only names it, and must not import one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from loguru import logger

from actors.journal.types import JournalError
from brokers.frozen import dataclass

if TYPE_CHECKING:
    from actors.journal.evidence_tables import StoredHead
    from actors.journal.head_keeper import HeadKeeper
    from actors.journal.store import Journal

T = TypeVar("T")

SIGN_EVERY_S: Final = 45.0
"""With a probe every few seconds, a head is signed and sent within a minute of what it covers."""
GIVE_AT_MOST_S: Final = 12.0
"""How long signing waits for the places: one that has not taken its heads by then goes on beside the next ones."""
LAST_WORDS_S: Final = 5.0
"""How long the end waits for places that do not answer: they receive the rest after the next start."""


class RunBlocking(Protocol):
    """Runs work that waits for the disk, and returns its result without blocking the loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """The result of ``work``, or what it raised."""


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """What a journal's heads are signed with and where they go. ``key`` is a path or ``keyring:SERVICE/NAME``,
    ``public`` the list of public keys, ``places`` as :func:`head_places.deliver` takes them, ``timestamp_url`` an
    RFC 3161 server and ``timestamp_roots`` a PEM file with the roots its answers must lead to. ``slices`` is the file
    that keeps the grounds of decisions, if they are kept, and ``beside`` the common name of the files that are kept on
    this machine for a journal on a server."""

    key: str
    public: str
    places: tuple[str, ...] = ()
    timestamp_url: str | None = None
    timestamp_roots: str | None = None
    slices: str | None = None
    beside: str | None = None

    def __repr__(self) -> str:
        # Places may hold credentials.
        return f"EvidenceSettings({self.key}, {len(self.places)} places)"


class Evidence:
    """The evidence of the journal that one audit actor writes. Methods that block do so in the threads that they are
    given; none of them raises for what can be tried again."""

    def __init__(self, settings: EvidenceSettings, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._monotonic = monotonic
        self._keeper: HeadKeeper | None = None
        self._tried_at: float | None = None
        self._away: dict[str, str] = {}
        self._warned: set[str] = set()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._no_time = asyncio.Event()

    @property
    def signed_size(self) -> int | None:
        """How many records the last signed head covers."""
        return None if self._keeper is None else self._keeper.signed_size

    @property
    def error(self) -> str | None:
        """Why heads are not signed, stamped or delivered, without credentials."""
        own = None if self._keeper is None else self._keeper.error
        return "; ".join([*([own] if own else []), *self._away.values()]) or None

    @property
    def caution(self) -> str | None:
        """What was not checked when the journal was opened."""
        return None if self._keeper is None else self._keeper.caution

    def begin(self, journal: Journal) -> None:
        """Check a journal against its last signed head, and take the key. Waits for the disk. Raises ``JournalCorrupt``
        where the journal contradicts that head."""
        from actors.journal.head_keeper import HeadKeeper

        keeper = HeadKeeper(journal, self._settings, self._now)
        keeper.begin()
        self._keeper = keeper
        if keeper.error is not None:
            self._warn_once("key", keeper.error)
        if keeper.caution is not None:
            logger.warning("{}", keeper.caution)

    def due(self) -> bool:
        """Whether it is time for the next work."""
        waited = self._tried_at is None or self._monotonic() - self._tried_at >= SIGN_EVERY_S
        return self._keeper is not None and waited

    async def work(self, write: RunBlocking, publish: RunBlocking) -> None:
        """Grow the tree, sign the head, deliver it to every place, and stamp it when that is due."""
        self._tried_at = self._monotonic()
        keeper = self._keeper
        if keeper is None:
            return
        try:
            await self._sign(keeper, write)
        except JournalError as error:
            self._warn_once("journal", str(error))
            return
        beside = {place: self._give(keeper, place, write, publish) for place in self._settings.places}
        beside["time stamp"] = self._stamp(keeper, write, publish)
        for what, work in beside.items():
            former = self._under_way.get(what)
            if former is None or former.done():
                self._under_way[what] = asyncio.create_task(self._in_words(work))
            else:
                work.close()  # it hangs, and takes what is due once it does no longer
        places = asyncio.create_task(asyncio.wait(list(self._under_way.values()), timeout=GIVE_AT_MOST_S))
        no_time = asyncio.create_task(self._no_time.wait())
        try:
            await asyncio.wait({places, no_time}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            places.cancel()
            no_time.cancel()

    def hurry(self) -> None:
        """Wait for no place any longer in the work that goes on: the end follows."""
        self._no_time.set()

    async def _in_words(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except JournalError as error:
            self._warn_once("journal", str(error))

    async def end(self, write: RunBlocking, publish: RunBlocking) -> None:
        """The same for the last time, due or not; places that do not answer are not waited for long."""
        self._no_time.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.work(write, publish), LAST_WORDS_S)
        for task in self._under_way.values():
            task.cancel()

    async def _sign(self, keeper: HeadKeeper, write: RunBlocking) -> None:
        try:
            while await write(keeper.grow):
                pass
            await write(keeper.sign)
        except JournalError as error:
            keeper.error = str(error)
            raise

    async def _give(self, keeper: HeadKeeper, place: str, write: RunBlocking, publish: RunBlocking) -> None:
        from actors.journal.head_places import PlaceAway, deliver

        while heads := await write(lambda: keeper.due(place)):
            try:
                await publish(lambda heads=heads: deliver(place, heads))  # type: ignore[misc]  # the heads of this turn
            except PlaceAway as error:
                self._away[place] = str(error)
                self._warn_once(place, str(error))
                return
            await write(lambda last=heads[-1]: keeper.mark_delivered(place, last))  # type: ignore[misc]  # as above
            self._well(place)

    async def _stamp(self, keeper: HeadKeeper, write: RunBlocking, publish: RunBlocking) -> None:
        url, roots = self._settings.timestamp_url, self._settings.timestamp_roots
        if url is None or roots is None or not keeper.stamp_due():
            return
        head = await write(keeper.newest)
        if head is None or head.stamp is not None:
            return
        from actors.journal.time_stamp import StampError, ask_for_stamp

        def ask(head: StoredHead = head) -> bytes:
            return ask_for_stamp(url, head.note, Path(roots))

        try:
            stamp = await publish(ask)
        except StampError as error:
            self._away["time stamp"] = str(error)
            self._warn_once("time stamp", str(error))
            return
        await write(lambda: keeper.stamped(head, stamp))
        self._well("time stamp")

    def _warn_once(self, what: str, found: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("{}. It is tried again", found.rstrip("."))

    def _well(self, what: str) -> None:
        self._away.pop(what, None)
        self._warned.discard(what)
