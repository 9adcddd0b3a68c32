"""How long a list of breaks takes: of a journal with 100,000 of them, and of 100,000 open ones at hand.

``python -m tests.benchmarks.breaks``
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from actors.book.book import Book
from actors.book.checkpoint import checkpoint_event
from actors.book.discrepancies import Break, Correction, DiscrepancyType, Phase
from actors.book.payloads import break_to
from actors.events import Event, EventType, Severity
from actors.instrument.book_keeper import CHECKPOINT_EVERY
from actors.journal.store import Journal
from actors.journal.types import Append
from supervisor.cli.break_history import history_of, open_in_journal
from supervisor.config.models import Configuration
from supervisor.presentation.breaks import break_row, summary, urgency
from tests.benchmarks.form import Figure, show
from tests.unit.builders import at

BREAKS, INSTRUMENTS, LEFT_OPEN = 100_000, 100, 10


def a_break(number: int) -> Break:
    """One of them."""
    kind, correction = DiscrepancyType.POSITION_MISMATCH, Correction.FORCE_UPDATE_POSITION
    opened_at = at(number)
    return Break(
        f"{number:032x}", kind, f"leg{number}", Severity.WARNING, Phase.DRIFT, None, "100", "150", "50", opened_at,
        offers=correction,
    )  # fmt: skip


def write(journal: Journal, instrument: int, each: int) -> None:
    """The breaks of one instrument, opened and all but the last resolved, with the checkpoints of its actor."""
    book = Book("acc", f"I{instrument}")
    events: list[Event] = []

    def put(event: Event) -> None:
        events.append(event)
        book.apply(event)

    checkpointed = 0
    for place in range(each):
        number = instrument * each + place
        found = a_break(number)
        kinds = [(EventType.RECONCILIATION_DISCREPANCY, False)]
        if place < each - LEFT_OPEN:
            kinds.append((EventType.DISCREPANCY_RESOLVED, True))
        for kind, resolved in kinds:
            payload = break_to(found, resolved=resolved, correction=None)
            put(Event(f"{number}{kind}", kind, found.severity, at(number) + timedelta(seconds=resolved), payload))
        if book.version - checkpointed >= CHECKPOINT_EVERY:
            put(checkpoint_event(book, at(number)))
            checkpointed = book.version
    journal.append([Append(book.stream, 0, tuple(events))])


def best_ms(work: Any, times: int = 5) -> float:
    """The shortest of some runs, in milliseconds."""
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - began_s)
    return min(took) * 1000


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """Of a journal with so many breaks, and of as many open ones at hand."""
    count = 10_000 if quick else BREAKS
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'journal.db'}"
        journal = Journal.open(url)
        for instrument in range(INSTRUMENTS):
            write(journal, instrument, count // INSTRUMENTS)
        journal.close()
        place = cast("Configuration", SimpleNamespace(journal_url=url, beside_journal=None))
        rows = open_in_journal(place)
        listed_ms = best_ms(lambda: open_in_journal(place), 2 if quick else 5)
        yield Figure(f"{len(rows)} open breaks out of a journal with {count:,}", listed_ms, "ms")
        yield Figure("the history of one of them", best_ms(lambda: history_of(place, rows[0]["id"]), 2), "ms")
    now = at(count + 5)
    held = [a_break(number) for number in range(count)]

    def listed() -> None:
        found = sorted((break_row("acc", "I", one, None, now) for one in held), key=urgency)
        summary(found)

    yield Figure(f"{count:,} open breaks at hand: rows, sorted and summed up", best_ms(listed, 3), "ms")


def main() -> None:
    """Measure and print."""
    show(figures())


if __name__ == "__main__":
    main()
