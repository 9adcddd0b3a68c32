"""``audit replay``: a book at a past time, what the broker had reported, and what changed between two times, by whom
and why.

Nothing here writes. The laws of this module: each replayed record is checked against its hash first; the hash of the
last one is shown, so that ``audit verify --head`` proves the answer; where records are missing, or nothing was recorded
yet, it says so and shows no book.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.book.book import Book
from actors.book.history import BookAt, Change, Explained, Incomplete, book_at, changes, explained
from actors.book.in_step import WRITTEN_WITHIN, concerns, named_in
from actors.book.payloads import break_to, leg_to, order_view
from actors.events import EventType, Record, to_iso, to_text
from actors.journal.hash_chain import canonical, chained, record_to_json
from actors.journal.parquet_archive import readable
from actors.journal.store import Journal
from actors.names import instrument_name
from actors.runtime.ports import CallError
from brokers.model import id_in_scope
from supervisor.cli.audit_selection import Source, check_known, reading
from supervisor.cli.console import Failure, console, print_json
from supervisor.config.models import Configuration
from supervisor.presentation.event_text import describe
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

_HEARD_BEFORE = 1000
"""How many records before a checkpoint are searched for the broker's reports."""
_NAMED_LOOKED_AT = 20
_TICK = timedelta(microseconds=1)
_ASK_TIMEOUT_S = 3.0


class Past:
    """One instrument's stream in a journal and its archives. ``journals`` may be in any order."""

    def __init__(self, journals: Sequence[Journal], account: str, instrument: str) -> None:
        self._journals = journals
        self._account = account
        self._instrument = instrument
        self._stream = instrument_name(account, instrument)

    def at(self, at: datetime) -> BookAt:
        """The book at a time. Raises :class:`Failure` where records that it needs are missing or altered."""
        last = self._last(at)
        if last is None:
            self._check_nothing_archived(at)
            return book_at(self._account, self._instrument, (), at)
        start = self._last(at, EventType.CHECKPOINT)
        since_seq = 0 if start is None else start.seq - 1
        records = self.between(since_seq, last.seq)
        try:
            named = self.named(at)
            return book_at(self._account, self._instrument, records, at, self._before(since_seq), named)
        except Incomplete as error:
            raise Failure(
                f"{error}. Older records are in an archive: give each with --archive FILE, or ask for a later time"
            ) from None

    def between(self, after_seq: int, last_seq: int) -> list[Record]:
        """The stream's records after one ``seq`` up to another, each checked."""
        found: dict[int, Record] = {}
        for journal in self._journals:
            for record in journal.records(stream=self._stream, after_seq=after_seq):
                if record.seq > last_seq:
                    break
                found[record.seq] = checked(record)
        return [found[seq] for seq in sorted(found)]

    def named(self, at: datetime) -> list[Record]:
        """The newest account records by that time, or written shortly after about it, that name it as in step."""
        found: dict[int, Record] = {}
        for journal in self._journals:
            asked = journal.records(
                account=self._account,
                instrument=self._instrument,
                types=(EventType.RECONCILED,),
                until=at + WRITTEN_WITHIN,
                order="newest",
                limit=_NAMED_LOOKED_AT,
            )
            found |= {record.seq: checked(record) for record in asked if record.stream == self._account}
        return [found[seq] for seq in sorted(found)]

    def around(self, since: datetime, until: datetime) -> list[Record]:
        """The events of the account and of this instrument's actor in that time, beside the stream itself."""
        beside: list[Iterable[Record]] = []
        for journal in self._journals:
            of_account = journal.records(stream=self._account, since=since, until=until + _TICK)
            beside.append(record for record in of_account if self._is_about_it(record))
            every = journal.records(stream="supervisor", since=since, until=until + _TICK)
            beside.append(record for record in every if self._concerned(record))
        found = {record.seq: checked(record) for record in merge(*beside, key=lambda record: record.seq)}
        return list(found.values())

    def _is_about_it(self, record: Record) -> bool:
        return named_in(record.event) is None or concerns(record, self._instrument)

    def _concerned(self, record: Record) -> bool:
        named = {self._account, self._stream}
        several = record.event.payload.get("instruments")
        return record.event.payload.get("actor") in named or (isinstance(several, list) and self._stream in several)

    def _check_nothing_archived(self, at: datetime) -> None:
        """Check that there is no record by then because there was none, and not because it was archived."""
        own = [next(journal.records(stream=self._stream, limit=1), None) for journal in self._journals]
        if any(first is not None and first.version == 1 for first in own):
            return
        every = [next(journal.records(limit=1), None) for journal in self._journals]
        if any(first is not None for first in own) or not any(first is None or first.seq == 1 for first in every):
            raise Failure(
                f"what {self._stream} was at {to_iso(at)} is in an archive: give each with --archive FILE, or ask for "
                "a later time"
            )

    def _last(self, at: datetime, kind: EventType | None = None) -> Record | None:
        types = None if kind is None else (kind,)
        last = [
            record
            for journal in self._journals
            for record in journal.records(stream=self._stream, types=types, until=at + _TICK, order="newest", limit=1)
        ]
        return max(last, key=lambda record: record.version, default=None)

    def _before(self, seq: int) -> list[Record]:
        if not seq:
            return []
        after_seq = max(0, seq - _HEARD_BEFORE)
        return self.between(after_seq, seq)


def checked(record: Record) -> Record:
    """The record, if its hash matches its content. Raises :class:`Failure`."""
    form = canonical(record.seq, record.stream, record.version, record.event)
    if chained(record.prev_hash, form.encode()) != record.hash:
        raise Failure(
            f"record {record.seq} was altered: its content does not have its hash. Run: python -m supervisor audit "
            "verify",
            EXIT_BREAK_OPEN,
        )
    return record


@contextlib.contextmanager
def _past(of: Source, archives: Sequence[Path], account: str, instrument: str) -> Iterator[Past]:
    with contextlib.ExitStack() as stack:
        journals = [stack.enter_context(reading(of))]
        journals += [
            stack.enter_context(reading(Source(f"sqlite:///{readable(file.absolute())}"))) for file in archives
        ]
        check_known(journals[0], of, account, instrument)
        yield Past(journals, account, instrument)


def replay(
    of: Source,
    account: str,
    instrument: str,
    at: datetime,
    archives: Sequence[Path],
    *,
    as_json: bool,
    running: Configuration | None = None,
) -> int:
    """Print a book at a time. If that is now and a supervisor of the configuration ``running`` answers, also print when
    that supervisor last found it in step. Raises ``JournalError`` and :class:`Failure`."""
    with _past(of, archives, account, instrument) as past:
        found = past.at(at)
    verified_now = None if running is None else _verified_now(running, account, instrument)
    if as_json:
        print_json({**document(found), "verified_now": verified_now})
    else:
        _print(_book_words(found, verified_now))
    return EXIT_OK


def _verified_now(configuration: Configuration, account: str, instrument: str) -> str | None:
    """When the running supervisor last verified the book against its broker; ``None`` where none answers, or the book
    is not verified now."""
    from supervisor.client.processes import find
    from supervisor.errors import NotRunning

    try:
        status = find(configuration).status(timeout_s=_ASK_TIMEOUT_S)
    except (NotRunning, CallError):
        return None
    for one in status["accounts"]:
        for row in one["instruments"]:
            if (one["account"], row["instrument"]) == (account, instrument) and row["status"] == "SUCCESS":
                verified_at: str | None = row["health"]["verified_at"]
                return verified_at
    return None


def diff(
    of: Source,
    account: str,
    instrument: str,
    moments: tuple[datetime, datetime],
    archives: Sequence[Path],
    *,
    as_json: bool,
) -> int:
    """Print the books at two times, what differs, and each event between with its cause."""
    begin, end = moments
    with _past(of, archives, account, instrument) as past:
        before, after = past.at(begin), past.at(end)
        own = past.between(_seq(before), _seq(after))
        every = merge(own, past.around(begin, end), key=lambda record: record.seq)
        steps = [step for step in explained(every) if step.record.event.type is not EventType.CHECKPOINT]
    changed = changes(before.book, after.book)
    if as_json:
        print_json(
            {
                "account": account,
                "instrument": instrument,
                "from": document(before),
                "to": document(after),
                "changes": [_change_document(change) for change in changed],
                "events": [_step_document(step) for step in steps],
            }
        )
    else:
        _print([*_book_words(before), "", *_book_words(after), "", *_diff_words(changed, steps)])
    return EXIT_OK


def _seq(found: BookAt) -> int:
    return 0 if found.last is None else found.last.seq


# For programs


def document(found: BookAt) -> dict[str, Any]:
    """A past book as JSON. ``book`` is ``null`` where nothing was recorded by then; ``seq`` and ``hash`` are those of
    the last record it rests on."""
    book, last = found.book, found.last
    return {
        "account": book.account,
        "instrument": book.instrument,
        "at": to_iso(found.at),
        "version": book.version,
        "seq": None if last is None else last.seq,
        "hash": None if last is None else last.hash,
        "last_event_at": None if last is None else to_iso(last.event.time),
        "clock_went_back": found.clock_went_back,
        "verified_at": None if found.verified_at is None else to_iso(found.verified_at),
        "book": None if last is None else _book_document(book),
        "breaks": [
            {"severity": one.severity.value, **break_to(one, resolved=False, correction=None)}
            for one in book.breaks.values()
        ],
        "broker": [
            {"subject": said.subject, "said": said.words, "at": to_iso(said.at), "seq": said.seq}
            for said in found.statements
        ],
    }


_OF_AN_ORDER = ("order_type", "limit_price", "submitted_at", "leg", "strategy")


def _book_document(book: Book) -> dict[str, Any]:
    lot_keys = ("quantity", "price", "fill_id", "opened_at")
    legs = []
    for _, leg in sorted(book.legs.items()):
        row: dict[str, Any] = leg_to(leg)
        row["lots"] = [dict(zip(lot_keys, lot, strict=True)) for lot in row["lots"]]
        for lot in row["lots"]:
            lot["fill_id"] = lot["fill_id"] and id_in_scope(lot["fill_id"])
        legs.append(row)
    return {
        "legs": legs,
        "open_orders": [order_view(order, *_OF_AN_ORDER) for order in book.open_orders()],
    }


def _change_document(change: Change) -> dict[str, Any]:
    return {"subject": change.subject, "field": change.field, "before": change.before, "after": change.after}


def _step_document(step: Explained) -> dict[str, Any]:
    return {**record_to_json(step.record), "what": describe(step.record.event), "who": step.who, "why": step.why}


# For people


def _print(parts: Iterable[RenderableType]) -> None:
    out = console()
    with out.capture() as captured:
        for part in parts:
            out.print(part, soft_wrap=isinstance(part, str))
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def _book_words(found: BookAt, verified_now: str | None = None) -> Iterator[RenderableType]:
    book, last = found.book, found.last
    yield f"{book.stream} at {to_iso(found.at)}"
    if last is None:
        yield "  nothing had been recorded: there was no book, which does not mean that nothing was held"
        return
    yield f"  version {book.version}, record {last.seq} of {to_iso(last.event.time)}, hash {last.hash}"
    if found.clock_went_back:
        yield "  a clock was set back: some events in it look later than this time"
    verified = "never by then" if found.verified_at is None else f"at least at {to_iso(found.verified_at)}"
    yield f"  verified {verified}{_later_words(found, verified_now)}"
    yield "  we believed"
    yield from _belief_words(book)
    yield "  the broker had said, as far as the journal knows"
    yield from (
        f"    {to_iso(said.at)} {said.title or said.subject}: {said.words} (record {said.seq})"
        for said in found.statements
    )
    if not found.statements:
        yield "    nothing"
    if found.idle:
        yield "  fills that moved nothing"
        for record in found.idle:
            name, event = record.event.payload.get("fill_id"), record.event
            yield f"    {to_iso(event.time)} {name}: {describe(event)} (record {record.seq})"


def _later_words(found: BookAt, verified_now: str | None) -> str:
    """What the journal alone does not show, since it notes a clean check at most every five minutes."""
    if verified_now is not None:
        return f" and, according to the running supervisor, last at {verified_now}"
    return " (a clean check is journaled at most every five minutes)" if found.verified_at is not None else ""


def _belief_words(book: Book) -> Iterator[str]:
    for name, leg in sorted(book.legs.items()):
        yield f"    leg {name}: {to_text(leg.quantity)} @ {to_text(leg.average_price)}"
        for lot in leg.lots:
            of = f", {id_in_scope(lot.fill_id)}" if lot.fill_id else ""
            yield f"      lot {to_text(lot.quantity)} @ {to_text(lot.price)} of {to_iso(lot.opened_at)}{of}"
    if not book.legs:
        yield "    nothing is held"
    for order in book.open_orders():
        name = order.broker_order_id or order.client_order_id or order.key
        price = "" if order.limit_price is None else f" @ {to_text(order.limit_price)}"
        terms = f"{order.side} {to_text(order.quantity)} {order.order_type}{price}"
        yield f"    order {name}: {terms}, {order.status}, filled {to_text(order.filled_quantity)}"
    for one in book.breaks.values():
        book_value, broker_value = (one.book_value or "nothing", one.broker_value or "nothing")
        yield (
            f"    open break {one.severity} {one.type} {one.key}: book {book_value}, broker {broker_value}, "
            f"since {to_iso(one.opened_at)}"
        )


def _diff_words(changed: Sequence[Change], steps: Sequence[Explained]) -> Iterator[RenderableType]:
    from rich.table import Table

    yield "changed" if changed else "nothing in the book changed"
    for change in changed:
        before, after = ("nothing" if value is None else value for value in (change.before, change.after))
        yield f"  {change.subject} {change.field}: {before} → {after}"
    if not steps:
        yield "nothing happened in between"
        return
    rows = Table(box=None, pad_edge=False, header_style="bold dim", collapse_padding=True)
    for name in ("seq", "time (UTC)", "who", "what happened", "why"):
        rows.add_column(name, overflow="fold", no_wrap=name in {"seq", "time (UTC)"})
    for step in steps:
        event = step.record.event
        at = f"{event.time:%Y-%m-%d %H:%M:%S}"
        rows.add_row(str(step.record.seq), at, step.who, f"{event.type} {describe(event)}", step.why)
    yield rows
