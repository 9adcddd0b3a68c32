"""``sink``: writes position updates of the journal into a Delta table, from a process of its own.

It reads the journal beside its writer, and nothing waits for it. It may start before the supervisor, outlive it, and be
killed at any time: the table itself records how far it was written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Event as Flag
from typing import TYPE_CHECKING

from actors.journal.store import Journal
from actors.journal.types import JournalError
from brokers.errors import Unreachable
from supervisor.cli.console import Failure, say
from supervisor.cli.signals import StopSignals
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_OK

if TYPE_CHECKING:
    from actors.delta.once import OnceTable

EXTRA = "delta"
AGAIN_AFTER_S = 5.0


def sink(configuration: Configuration, uri: str, *, every_s: float, once: bool) -> int:
    """Write what the journal has and, unless ``once``, new records every ``every_s``, until SIGINT, SIGTERM or SIGHUP.

    Raises :class:`Failure` where the extra is missing, ``Refused`` where the table belongs to another journal. A store
    or a journal that does not answer is tried again after :data:`AGAIN_AFTER_S`; with ``once`` its error is raised.
    """
    try:
        from actors.delta.sink import position_table
    except ImportError:
        raise Failure(f"sink needs the extra {EXTRA!r}: pip install -e '.[{EXTRA}]'") from None
    table = position_table(uri)
    with _asked_to_stop() as stop:
        if once:
            _follow(configuration, table, every_s=None, stop=stop)
        else:
            _follow_for_ever(configuration, table, every_s=every_s, stop=stop)
    return EXIT_OK


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Flag]:
    signals = StopSignals()
    signals.install()
    try:
        yield signals.asked
    finally:
        signals.restore()


def _follow_for_ever(configuration: Configuration, table: OnceTable, *, every_s: float, stop: Flag) -> None:
    while not stop.is_set():
        try:
            _follow(configuration, table, every_s=every_s, stop=stop)
        except (Unreachable, JournalError) as error:
            say(f"{error} Trying again in {AGAIN_AFTER_S:g} s")
            stop.wait(AGAIN_AFTER_S)


def _follow(configuration: Configuration, table: OnceTable, *, every_s: float | None, stop: Flag) -> None:
    """Write batch after batch; only to the present end of the journal where ``every_s`` is ``None``."""
    from actors.delta.sink import Sink

    journal = Journal.open(configuration.journal_url, read_only=True, beside=configuration.beside_journal)
    try:
        made = Sink(journal, table, lambda: datetime.now(UTC))
        while not stop.is_set():
            done = made.step()
            if done.rows:
                print(f"seq {done.seq}: {done.rows} position updates", flush=True)
            if done.more:
                continue
            if every_s is None:
                return
            made.keep_up()
            stop.wait(every_s)
    finally:
        journal.close()
