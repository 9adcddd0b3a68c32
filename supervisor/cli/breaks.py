"""The ``breaks`` group of the command line: what is open, who works on it, and what to do about it.

``list`` and ``show`` read the journal where no supervisor runs; commands that change something call the running
supervisor, as the operating system's user.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brokers.frozen import dataclass
from supervisor.cli.either_way import EitherWay

if TYPE_CHECKING:
    from actors.book.break_work import BreakAction
    from actors.events import Record
    from supervisor.client.processes import Running
    from supervisor.config.models import Configuration

_DEFAULT = "config/accounts.yaml"
breaks = typer.Typer(
    cls=EitherWay,
    no_args_is_help=True,
    rich_markup_mode=None,
    short_help="Work on open breaks.",
    help=(
        "Work on open differences between books and brokers: take one, assign it, approve its correction, or waive it "
        "for a while.\n\nA break is named by its id or the first letters of it. Everything is journaled, with who, "
        "when and why."
    ),
)
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help=f"The configuration; default {_DEFAULT}.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of the break, or its first letters.")]
Code = Annotated[str, typer.Option("--reason", help="The reason code, such as UNDER_INVESTIGATION.")]
Note = Annotated[str | None, typer.Option("--note", help="The reason in your own words.")]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="90s, 15m, 2h, 3d (from now), or a time (UTC).")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
JournalFile = Annotated[
    Path | None, typer.Option("--journal", help="Read this journal file (an archive, a copy) without a configuration.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@breaks.command("list")
def list_(
    config: ConfigOption = None,
    journal: JournalFile = None,
    account: Annotated[str | None, typer.Option("--account", help="Only this account.")] = None,
    instrument: Annotated[str | None, typer.Option("--instrument", help="Only this instrument.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only this type.")] = None,
    severity: Annotated[str | None, typer.Option("--severity", help="Only CRITICAL, WARNING or INFO.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only OPEN, ACKNOWLEDGED, PROPOSED, APPROVED…")] = None,
    older: Annotated[
        str | None, typer.Option("--older", metavar="2h", help="Only breaks open at least this long.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", help="Only breaks of this person; `nobody`: those without an owner.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many rows.")] = 200,
    as_json: Json = False,
) -> int:
    """List the open breaks, most urgent first.

    Exit status: 1 if any is open, 0 if none is.
    """
    from supervisor.cli.console import Failure, print_json, say
    from supervisor.presentation.break_filter import BreakFilter
    from supervisor.presentation.breaks import summary
    from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK

    try:
        wanted = BreakFilter(account, instrument, kind, severity, state, older, owner)
    except ValueError as error:
        raise Failure(str(error)) from None
    every, live = _open(_place(config, journal))
    rows = wanted.rows(every)
    if not rows and (account is not None or instrument is not None):
        _check_known(config, journal, account, instrument)
    if as_json:
        print_json({"live": live, "summary": summary(rows), "breaks": rows[:limit]})
    else:
        if not live:
            say(f"{'no supervisor is running: ' if journal is None else ''}this is what the journal says")
        _print(rows, limit)
        if len(rows) < len(every):
            print(f"{len(every) - len(rows)} more are open but not selected")
    return EXIT_BREAK_OPEN if rows else EXIT_OK


@breaks.command()
def show(break_id: Id, config: ConfigOption = None, journal: JournalFile = None, as_json: Json = False) -> int:
    """Show one break: both sides, cause and history.

    It may be open or closed.
    """
    from supervisor.cli.break_history import archived, history_of
    from supervisor.cli.console import Failure, print_json, say

    configuration = _place(config, journal)
    rows, _ = _open(configuration)
    row = chosen(rows, break_id)
    whole = break_id if row is None else row["id"]
    history = history_of(configuration, whole)
    elsewhere = archived(configuration, whole, history)
    if row is None and not history:
        where = "" if elsewhere is None else f"; {elsewhere}"
        raise Failure(f"the journal has no break {break_id!r}{where}")
    if as_json:
        from actors.journal.hash_chain import record_to_json

        records = [dict(record_to_json(record)) for record in history]
        print_json({"break": row, "history": records})
    else:
        _print_one(row, history)
    if elsewhere is not None:
        say(elsewhere)
    return 0


@breaks.command()
def ack(
    break_id: Id,
    reason: Code,
    until: Until = "8h",
    note: Note = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> int:
    """Acknowledge a break: no reminders until then."""
    from actors.book.break_work import BreakAction

    return _do(BreakAction.ACKNOWLEDGE, break_id, config, as_json=as_json, reason=reason, note=note, until=until)


@breaks.command()
def assign(
    break_id: Id,
    owner: Annotated[str | None, typer.Option("--to", help="The new owner; `nobody`: it is to have none.")] = None,
    note: Note = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> int:
    """Assign a break to somebody, or add a note to it."""
    from actors.book.break_work import BreakAction

    return _do(BreakAction.ASSIGN, break_id, config, as_json=as_json, owner=owner, note=note)


@breaks.command()
def propose(
    break_id: Id, reason: Code, note: Note = None, yes: Yes = False, config: ConfigOption = None, as_json: Json = False
) -> int:
    """Propose a correction for another person to approve."""
    from actors.book.break_work import BreakAction

    return _do(BreakAction.PROPOSE, break_id, config, as_json=as_json, reason=reason, note=note, yes=yes)


@breaks.command()
def approve(
    break_id: Id, reason: Code, note: Note = None, yes: Yes = False, config: ConfigOption = None, as_json: Json = False
) -> int:
    """Approve the correction of a break, as both sides are now.

    The instrument makes it at its next check; if either side has changed by then, nothing is corrected. With
    `four_eyes` the first person's approval is a proposal.
    """
    from actors.book.break_work import BreakAction

    return _do(BreakAction.APPROVE, break_id, config, as_json=as_json, reason=reason, note=note, yes=yes)


@breaks.command()
def waive(
    break_id: Id,
    reason: Code,
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="90s, 15m, 2h, 3d (from now), or a time.")],
    note: Note = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> int:
    """Waive a break until then; this also revokes an approval.

    The break stays open, and trading stays forbidden as before.
    """
    from actors.book.break_work import BreakAction

    return _do(BreakAction.WAIVE, break_id, config, as_json=as_json, reason=reason, note=note, until=until)


def _do(
    action: BreakAction,
    break_id: str,
    config: Path | None,
    *,
    as_json: bool,
    reason: str | None = None,
    note: str | None = None,
    until: str | None = None,
    owner: str | None = None,
    yes: bool = True,
) -> int:
    from actors.book.break_work import BreakRefused
    from supervisor.cli.console import Failure, load_place, print_json
    from supervisor.client.processes import find

    supervisor = find(load_place(config))
    ends = None if until is None else until_of(until, datetime.now(UTC))
    sides = None
    if action in ("propose", "approve"):
        row = _row(supervisor, break_id)
        sides = row["book_value"], row["broker_value"]
        if not as_json:
            print(_sentence(row))
        if not yes and not _confirmed(action):
            raise Failure("nothing was done")
        break_id = row["id"]
    try:
        done = supervisor.work_on_break(
            action, break_id, reason=reason, note=note, until=ends, owner=owner, sides=sides
        )
    except BreakRefused as refused:
        raise Failure(str(refused)) from None
    if as_json:
        print_json(done)
    else:
        print(f"{done['id'][:12]} is {done['state']}{_by(done)}")
        if action == "approve" and done["state"] == "PROPOSED":
            print("four_eyes is set: another person has to approve it")
    return 0


def until_of(text: str, now: datetime) -> datetime:
    """The future time that a text names: a length of time counts from now. Raises :class:`Failure`."""
    from supervisor.cli.console import Failure
    from supervisor.cli.time_text import NoMoment, moment

    try:
        named = moment(text, now)
        ago = now - named
        # A length that means "that long ago" elsewhere can only mean "from now on" here.
        relative = text.strip().lower() not in {"now", "today", "yesterday"} and ":" not in text and "-" not in text
        return now + ago if relative and ago.total_seconds() > 0 else named
    except NoMoment:
        forms = "a length from now on (90s, 15m, 2h, 3d) or a moment (2026-01-31 14:00; UTC where no zone is given)"
        raise Failure(f"until {text!r} is not a time. Write {forms}") from None


def _confirmed(action: str) -> bool:
    from supervisor.cli.console import Failure

    if not sys.stdin.isatty():
        raise Failure(f"without a terminal, {action} needs --yes")
    return typer.confirm(f"{action} this?", default=False)


def _row(supervisor: Running, break_id: str) -> dict[str, Any]:
    from supervisor.cli.console import Failure

    found = chosen(supervisor.breaks(), break_id)
    if found is None:
        raise Failure(f"no open break has an id that starts with {break_id!r}. List the open breaks again")
    return found


def chosen(rows: Sequence[dict[str, Any]], break_id: str) -> dict[str, Any] | None:
    """The named open break, ``None`` where none matches. Raises :class:`Failure` where several do."""
    from actors.book.break_work import SHORTEST_ID
    from supervisor.cli.console import Failure

    if len(break_id) < SHORTEST_ID:
        raise Failure(f"the id {break_id!r} is too short. Give at least {SHORTEST_ID} letters of it")
    found = [row for row in rows if row["id"].startswith(break_id)]
    if len(found) > 1:
        ids = ", ".join(row["id"] for row in found[:5])
        raise Failure(f"{len(found)} open breaks have ids that start with {break_id!r} ({ids}). Give more of it")
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class _JournalAlone:
    """A journal without the configuration that it is of."""

    journal_url: str
    beside_journal: Path


def _place(config: Path | None, journal: Path | None) -> Configuration | _JournalAlone:
    from supervisor.cli.audit_selection import source
    from supervisor.cli.console import load_place

    return load_place(config) if journal is None else _JournalAlone(source(config, journal).url, journal.absolute())


def _open(configuration: Configuration | _JournalAlone) -> tuple[list[dict[str, Any]], bool]:
    """The open breaks, and whether they are from a running supervisor."""
    from actors.runtime.ports import CallError
    from supervisor.cli.break_history import open_in_journal
    from supervisor.client.processes import find
    from supervisor.errors import NotRunning

    if isinstance(configuration, _JournalAlone):
        return open_in_journal(configuration), False
    try:
        return find(configuration).breaks(), True
    except (NotRunning, CallError):
        return open_in_journal(configuration), False


def _check_known(config: Path | None, file: Path | None, account: str | None, instrument: str | None) -> None:
    """Refuse a name that neither the running supervisor nor the journal nor the configuration knows: an empty list for
    it would prove nothing."""
    from actors.runtime.ports import CallError
    from supervisor.cli.audit_selection import check_known, reading, source
    from supervisor.cli.console import load_place
    from supervisor.client.processes import find
    from supervisor.errors import NotRunning

    running: Any = {}
    if file is None:
        with contextlib.suppress(NotRunning, CallError):
            running = find(load_place(config)).directory()
    chosen = [row for name, row in running.items() if account in (None, name)]
    if chosen and (instrument is None or any(row["all"] or instrument in row["instruments"] for row in chosen)):
        return
    of = source(config, file)
    with reading(of) as journal:
        check_known(journal, of, account, instrument)


def _print(rows: Sequence[Mapping[str, Any]], limit: int) -> None:
    from rich.table import Table

    from supervisor.cli.console import console
    from supervisor.presentation.breaks import BUCKETS, age_words, summary

    out = console()
    if rows:
        table = Table(box=None, pad_edge=False, header_style="")
        for heading in ("id", "where", "what", "severity", "book", "broker", "age", "state", "owner", "correction"):
            table.add_column(heading, overflow="fold")
        for row in rows[:limit]:
            where = f"{row['account']}/{row['instrument']}" if row["instrument"] else row["account"]
            what = f"{row['type']} {row['key']}"
            sides = (row["book_value"] or "nothing", row["broker_value"] or "nothing")
            cells = (row["id"][:12], where, what, row["severity"], *sides, age_words(row["age_s"]), row["state"])
            table.add_row(*map(_plain, (*cells, row["owner"] or "", row["correction"] or "")))
        out.print(table)
    if len(rows) > limit:
        out.print(f"{len(rows) - limit} more: --limit, --account, --type, --severity, --state, --older, --owner")
    ages = summary(rows)["by_age"]
    out.print(f"{len(rows)} open: " + (", ".join(f"{name} {ages[name]}" for name in BUCKETS if ages[name]) or "none"))


def _print_one(row: Mapping[str, Any] | None, history: Sequence[Record]) -> None:
    from supervisor.cli.console import console
    from supervisor.presentation.event_text import behind, describe

    out = console()
    if row is not None:
        out.print(_plain(_sentence(row)), soft_wrap=True)
        for key in ("cause", "told", "correction", "state", "until", "owner", "note", "opened_at"):
            if row[key] is not None:
                out.print(f"{key}: {_plain(str(row[key]))}", soft_wrap=True)
    else:
        out.print(_plain(last_words(history)), soft_wrap=True)
    for record in history:
        event, text = record.event, describe(record.event)
        line = f"{event.time:%Y-%m-%d %H:%M:%S}Z {record.seq} {event.type} {text}{behind(event, text)}"
        out.print(_plain(line), soft_wrap=True)


def last_words(history: Sequence[Record]) -> str:
    """What is known of a break that is not open."""
    looks = [record for record in history if "resolved" in record.event.payload]
    if not looks:
        return "it is not among the open breaks, and what it was is not in this journal"
    last, payload = looks[-1], looks[-1].event.payload
    what = f"{str(payload['id'])[:12]} {last.stream} {payload['type']} {payload['key']}"
    if not payload["resolved"]:
        return f"{what}: it was open when it was last looked at, and nobody looks at {last.stream} any more"
    return f"{what}: closed {last.event.time:%Y-%m-%d %H:%M:%S}Z"


def _sentence(row: Mapping[str, Any]) -> str:
    where = f"{row['account']}/{row['instrument']}" if row["instrument"] else row["account"]
    sides = f"book {row['book_value'] or 'nothing'}, broker {row['broker_value'] or 'nothing'}"
    correction = f", {row['correction']}" if row["correction"] else ""
    return f"{row['id'][:12]} {where} {row['severity']} {row['type']} {row['key']}: {sides}{correction}"


def _by(row: Mapping[str, Any]) -> str:
    owner = f", owner {row['owner']}" if row["owner"] else ""
    return f" until {row['until'][:16]}Z{owner}" if row["until"] else owner


def _plain(text: str) -> str:
    """The text without characters that could move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
