"""Which journal an ``audit`` command reads, and which of its records: options in, records out.

The laws of this module: nothing here writes; an unknown name, type, severity or time is refused with the valid ones,
never answered with an empty result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from actors.book.discrepancies import DiscrepancyType
from actors.events import EventType, Severity, to_iso
from actors.journal.parquet_archive import readable
from actors.journal.record_filter import RecordFilter
from actors.journal.signing_keys import public_file
from actors.journal.store import Journal
from actors.names import split_name, symbol_of
from brokers.frozen import dataclass
from supervisor.cli.console import Failure, load, load_place, say
from supervisor.cli.time_text import NoMoment, moment
from supervisor.config.errors import ConfigurationError
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Source:
    """A journal to read. ``configured`` are the accounts of the configuration with their symbols; empty where only a
    file was named. ``public`` lists the public keys of its heads, ``private`` is the place of the key that signs them,
    ``slices`` the file with the kept grounds of decisions, ``beside`` the name of the files beside the journal, and
    ``file`` the one that was named, which may be an archive."""

    url: str
    configured: tuple[tuple[str, tuple[str, ...]], ...] = ()
    public: str | None = None
    private: str | None = None
    slices: str | None = None
    beside: Path | None = None
    file: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Where its archives lie unless they are named: beside its file, or what else this machine keeps of it."""
        return None if self.public is None else Path(self.public).parent


def source(config: Path | None, file: Path | None) -> Source:
    """The journal of a configuration, or the one in ``file`` (an archive, a copy): then no configuration is read.
    Raises :class:`Failure` and ``ConfigurationError``."""
    if file is not None:
        if config is not None:
            raise Failure("--journal and --config name two journals: use only one of them")
        beside = file.absolute()
        return Source(f"sqlite:///{beside}", public=str(public_file(beside)), slices=f"{beside}.slices", file=beside)
    configured: tuple[tuple[str, tuple[str, ...]], ...] = ()
    try:
        configuration = load(config)
        configured = tuple((account.name, tuple(account.symbols)) for account in configuration.accounts)
    except ConfigurationError as error:
        # Reading the journal needs none of the accounts, nor their secrets: only the journal's place.
        try:
            configuration = load_place(config)
        except ConfigurationError:
            raise error from None
    return Source(
        configuration.journal_url,
        configured,
        configuration.public_keys,
        configuration.signing_key,
        configuration.kept_slices,
        configuration.beside_journal,
    )


@contextlib.contextmanager
def reading(of: Source) -> Iterator[Journal]:
    """The journal, open for reading beside its writer. Raises ``JournalError``."""
    url = of.url if of.file is None else f"sqlite:///{readable(of.file)}"
    journal = Journal.open(url, read_only=True, beside=of.beside)
    try:
        yield journal
    finally:
        journal.close()


def whole(journal: Journal) -> int:
    """The exit status of a reading command: 1, with a message, where the journal is not intact, since the result may
    then be incomplete."""
    doubt = journal.doubt()
    if doubt is None:
        return EXIT_OK
    say(f"the journal is NOT intact, and this may not be all that was written: {doubt}. Run `audit verify`")
    return EXIT_BREAK_OPEN


def check_known(journal: Journal, of: Source, account: str | None, instrument: str | None) -> None:
    """Refuse an account or instrument that is neither in the journal nor in the configuration."""
    if account is None and instrument is None:
        return
    known = _known(journal.streams(), of)
    accounts = sorted({name for name, _ in known})
    if account is not None and account not in accounts:
        raise Failure(f"the journal has no account {account!r}. It has: {', '.join(accounts) or 'none yet'}")
    if instrument is None:
        return
    chosen = sorted(f"{name}/{symbol}" for name, symbol in known if symbol and account in (None, name))
    if not any(symbol_of(one) == instrument for one in chosen):
        where = f"account {account}" if account is not None else "the journal"
        raise Failure(f"{where} has no instrument {instrument!r}. There are: {', '.join(chosen) or 'none yet'}")


def _known(streams: Sequence[str], of: Source) -> set[tuple[str, str]]:
    """Account and symbol of everything known; the symbol is empty for the account itself."""
    known = {(account, symbol) for account, symbols in of.configured for symbol in ("", *symbols)}
    for stream in streams:
        account, symbol = split_name(stream)
        known |= {(account, ""), (account, symbol)}
    return known


def warn_of_archived(journal: Journal, since: datetime | None) -> None:
    """Say on standard error where records from ``since`` on may be in an archive instead."""
    first = next(journal.records(limit=1), None)
    if first is None or first.seq == 1:
        return
    if since is None or since <= first.event.time:
        say(
            f"records 1 to {first.seq - 1} were archived and are not shown: `audit verify` names the archive, and "
            "--journal FILE reads it"
        )


def select(
    *,
    account: str | None = None,
    instrument: str | None = None,
    types: Sequence[str] = (),
    severities: Sequence[str] = (),
    order_id: str | None = None,
    fill_id: str | None = None,
    discrepancy_id: str | None = None,
    since: str | None = None,
    until: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> RecordFilter:
    """The filter from the options. Raises :class:`Failure`, which names the value and what is accepted."""
    at = now()
    begin, end = when("--since", since, at), when("--until", until, at)
    if begin is not None and end is not None and begin >= end:
        raise Failure(f"--since {since} is not before --until {until}: nothing lies between them")
    return {
        "account": account,
        "instrument": instrument,
        "types": _types(types) or None,
        "severities": _members("--severity", severities, Severity) or None,
        "order_id": order_id,
        "fill_id": fill_id,
        "discrepancy_id": discrepancy_id,
        "since": begin,
        "until": end,
    }


def when(option: str, text: str | None, now: datetime) -> datetime | None:
    """The time that an option names, ``None`` where it was left out."""
    if text is None:
        return None
    try:
        return moment(text, now)
    except NoMoment as error:
        raise Failure(f"{option}: {error}") from None


def past(option: str, text: str, now: datetime) -> datetime:
    """The time that an option names, which must not be in the future. Raises :class:`Failure`."""
    try:
        at = moment(text, now)
    except NoMoment as error:
        raise Failure(f"{option}: {error}") from None
    if at > now:
        raise Failure(f"{option} {text} is {to_iso(at)}, which is in the future: it is now {to_iso(now)}")
    return at


def _types(given: Sequence[str]) -> tuple[EventType, ...]:
    discrepancies = {text for text in given if text.upper() in DiscrepancyType.__members__}
    # Some discrepancies have an event type of their own by the same name.
    for text in sorted(discrepancies - {text for text in given if text.upper() in EventType.__members__}):
        raise Failure(
            f"--type {text} is a kind of discrepancy: those are in {EventType.RECONCILIATION_DISCREPANCY} and "
            f"{EventType.DISCREPANCY_RESOLVED}"
        )
    return _members("--type", given, EventType)


def _members(option: str, given: Sequence[str], kind: type[E]) -> tuple[E, ...]:
    known: Collection[str] = kind.__members__
    for text in given:
        if text.upper() not in known:
            raise Failure(f"{option}: there is no {text!r}. There are: {', '.join(known)}")
    return tuple(dict.fromkeys(kind[text.upper()] for text in given))
