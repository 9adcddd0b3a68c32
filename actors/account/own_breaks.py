"""What belongs to no instrument of an account: positions and working orders that no instrument manages, and rows that
name no instrument. Each is an open break, journaled once when it opens and once when it closes; what could not be
checked stays open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from datetime import datetime

from actors.account.break_work import AccountWork, Before
from actors.account.circuit import Say
from actors.account.table_watch import TableWatch
from actors.book import payloads
from actors.book.discrepancies import Break, DiscrepancyType, Phase, unreadable_keys
from actors.book.flapping import PROBLEMS_AT_MOST, RecentReports
from actors.events import EventType, Severity, event_id, to_text
from actors.runtime.ports import Runtime
from brokers.model import Complete, Failed, RowProblem, SectionName, Snapshot, Unsupported, rows_of

Place = tuple[DiscrepancyType, str]
"""The type of a break, and its key."""
Held = Mapping[str, str]


class OwnBreaks:
    """The open breaks of the account itself. ``now`` is the steady clock of its actor; ``say`` journals."""

    def __init__(self, account: str, runtime: Runtime, now: Callable[[], datetime], say: Say) -> None:
        self.by_place: dict[Place, Break] = {}
        self.work = AccountWork(account, runtime)
        self._account = account
        self._wall = runtime.now
        self._now = now
        self._say = say
        self._lately: RecentReports[Place] = RecentReports()
        self._learning = False
        self._alone = False
        self._unsaid: set[Place] = set()

    def words(self) -> list[str]:
        """Each open break in a few words."""
        return [f"{kind} {key}: {one.broker_value}, open" for (kind, key), one in self.by_place.items()]

    def begin(self) -> None:
        """From now on, hold a new break back until :meth:`learn` has finished."""
        self._learning = True

    def look(self, snapshot: Snapshot, looked_after: Set[str] | None, table: TableWatch | None, held: Held) -> None:
        """Report the breaks that a snapshot opens, and those that it closes. ``looked_after`` are the managed
        instruments, ``None`` for all; ``held`` describes what the table of the account's book has of each."""
        found: dict[Place, str] = {}
        shown: Counter[SectionName] = Counter()
        unreadable: list[tuple[int, RowProblem]] = []
        for number, problem in enumerate(snapshot.problems()):
            if problem.instrument is not None and (looked_after is None or problem.instrument in looked_after):
                continue  # its instrument's actor reports it
            name = problem.section.value
            shown[problem.section] += 1
            if shown[problem.section] > PROBLEMS_AT_MOST:
                text = f"more than {PROBLEMS_AT_MOST} rows of {name} cannot be read"
                found[(DiscrepancyType.MALFORMED_DATA, f"{name}:more")] = text
            else:
                unreadable.append((number, problem))
        for key, problem in unreadable_keys(unreadable).items():
            found[(DiscrepancyType.MALFORMED_DATA, key)] = problem.text
        if looked_after is not None:
            for name, text in _exposures(snapshot).items():
                if name not in looked_after:
                    found[(DiscrepancyType.UNMANAGED_INSTRUMENT, name)] = f"{text}, and not in the configuration"
            for name, text in held.items():
                if name not in looked_after:
                    text = f"in the table of its book: {text}, and not in the configuration"
                    found.setdefault((DiscrepancyType.UNMANAGED_INSTRUMENT, name), text)
        for place, text in found.items():
            if place not in self.by_place:
                self._open_break(place, text)
            elif self.by_place[place].broker_value != text:
                self.by_place[place] = replace(self.by_place[place], broker_value=text)
                if self._alone and place[0] is DiscrepancyType.UNMANAGED_INSTRUMENT:
                    self._say_open(self.by_place[place])  # later the journal is the only place to learn of it
        silent = table is not None and table.doubt is not None
        over = [place for place in self.by_place if place not in found and _would_show(snapshot, *place)]
        for place in [one for one in over if not (silent and one[0] is DiscrepancyType.UNMANAGED_INSTRUMENT)]:
            if self._lately.flaps(place, self._now()):
                continue  # it would reopen at once: it stays open until it is calm
            old = self.by_place.pop(place)
            self.work.forget(old.id)
            if place in self._unsaid:
                self._unsaid.discard(place)
                continue
            payload = payloads.break_to(old, resolved=True, correction=None)
            self._say(EventType.DISCREPANCY_RESOLVED, payload, old.id)

    def _open_break(self, place: Place, text: str) -> None:
        kind, key = place
        new = Break(
            id=event_id(self._account, kind, key),
            type=kind,
            key=key,
            severity=Severity.WARNING,
            phase=Phase.SECTIONS,
            cause=None,
            book_value=None,
            broker_value=text,
            difference=None,
            opened_at=self._wall(),
        )
        self.by_place[place] = new
        self._lately.add(place, self._now())
        if self._learning:
            self._unsaid.add(place)
        else:
            self._say_open(new)

    def _say_open(self, found: Break) -> None:
        payload = payloads.break_to(found, resolved=False, correction=None)
        self._say(EventType.RECONCILIATION_DISCREPANCY, payload, found.id, Severity.WARNING)

    async def learn(self) -> bool:
        """Read from the journal which breaks were open before this actor began: each continues, or has closed. Until
        then no new break is reported. Returns whether the connection was lost then."""
        return self._go_on_from(await self.work.learn())

    async def recall(self) -> bool:
        """As :meth:`learn`, for an actor that makes one verdict and cannot wait: if the journal does not answer now,
        nothing is known from before."""
        before = await self.work.recall()
        return before is not None and self._go_on_from(before, alone=True)

    def _go_on_from(self, journaled: Before, *, alone: bool = False) -> bool:
        self._alone = alone
        before = {(found.type, found.key): found for found in journaled.breaks}
        for place, found in before.items():
            shown = self.by_place.get(place)
            self.by_place[place] = found if shown is None else replace(shown, opened_at=found.opened_at)
        self._learning = False
        for place in sorted(self._unsaid - before.keys()):
            self._say_open(self.by_place[place])
        self._unsaid.clear()
        return journaled.lost


def _exposures(snapshot: Snapshot) -> dict[str, str]:
    """What each instrument of a snapshot holds or may still come to hold, as text: its legs and working orders. An
    instrument that is flat and has no working order is left out."""
    words: dict[str, list[str]] = {}
    for row in rows_of(snapshot.positions):
        if row.quantity:
            words.setdefault(row.instrument, []).append(f"{row.leg} {to_text(row.quantity)}")
    working = Counter(order.instrument for order in rows_of(snapshot.orders) if not order.status.terminal)
    for name, orders in working.items():
        words.setdefault(name, []).append(f"{orders} working order{'s' if orders > 1 else ''}")
    return {name: f"in the account: {', '.join(found)}" for name, found in words.items()}


def _would_show(snapshot: Snapshot, kind: DiscrepancyType, key: str) -> bool:
    """Whether a snapshot would show a discrepancy if it still existed: unknown does not mean closed."""
    sections = {
        SectionName.POSITIONS.value: snapshot.positions,
        SectionName.ORDERS.value: snapshot.orders,
        SectionName.FILLS.value: snapshot.fills,
    }
    if kind is DiscrepancyType.MALFORMED_DATA:
        return not isinstance(sections[key.split(":")[0]], Failed)
    return isinstance(snapshot.positions, Complete) and isinstance(snapshot.orders, Complete | Unsupported)
