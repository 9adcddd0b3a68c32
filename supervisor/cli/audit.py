"""The ``audit`` group of the command line: options to arguments. Each command imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli.either_way import EitherWay

if TYPE_CHECKING:
    from supervisor.cli.audit_query import Format

_TIMES = "2026-01-31T14:32Z, 14:32 (today), 2h (ago), today, …; UTC where no zone is given"

audit = typer.Typer(
    cls=EitherWay,
    no_args_is_help=True,
    rich_markup_mode=None,
    help=(
        "Read the journal: what was believed, what the broker said, who changed it and why, and the proof of it.\n\n"
        "It is the configuration's, or the one that --journal names; both may be read while a supervisor runs. "
        f"Times: {_TIMES}."
    ),
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration; default config/accounts.yaml.")]
JournalFile = Annotated[
    Path | None, typer.Option("--journal", help="Read this journal file (an archive, a copy) without a configuration.")
]
Account = Annotated[str | None, typer.Option("--account", help="Only this account (or: supervisor).")]
Instrument = Annotated[str | None, typer.Option("--instrument", help="Only this instrument.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only this type of event; may be repeated.")]
Severities = Annotated[list[str] | None, typer.Option("--severity", help="Only this severity; may be repeated.")]
OrderId = Annotated[str | None, typer.Option("--order-id", help="Only what names this order: broker's or client's id.")]
FillId = Annotated[str | None, typer.Option("--fill-id", help="Only what names this fill.")]
DiscrepancyId = Annotated[str | None, typer.Option("--discrepancy-id", help="Only what names this discrepancy.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="From this time on, it included.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Up to this time, it not included.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come, until Ctrl-C.")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="The public keys you trust: a file, or one; else those beside the journal."),
]
Archives = Annotated[
    list[Path] | None, typer.Option("--archive", help="An archive with what is older; may be repeated.")
]


@audit.command("query")
def query(
    config: Config = None,
    journal: JournalFile = None,
    account: Account = None,
    instrument: Instrument = None,
    kinds: Types = None,
    severities: Severities = None,
    order_id: OrderId = None,
    fill_id: FillId = None,
    discrepancy_id: DiscrepancyId = None,
    since: Since = None,
    until: Until = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first; so it is if nothing is said.")] = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=0, help="At most so many; a table shows 100 if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array and nothing else.")] = False,
    as_json_lines: Annotated[bool, typer.Option("--jsonl", help="Print a JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    follow: Follow = False,
) -> int:
    """The records that meet every condition given."""
    from supervisor.cli import audit_query
    from supervisor.cli.audit_selection import select, source
    from supervisor.cli.console import Failure

    if newest and oldest:
        raise Failure("--newest and --oldest: use one of them")
    asked = select(
        account=account,
        instrument=instrument,
        types=kinds or (),
        severities=severities or (),
        order_id=order_id,
        fill_id=fill_id,
        discrepancy_id=discrepancy_id,
        since=since,
        until=until,
    )
    form = _form(as_json=as_json, as_json_lines=as_json_lines, as_csv=as_csv)
    return audit_query.query(source(config, journal), asked, form, oldest=oldest, limit=limit, follow=follow)


def _form(*, as_json: bool, as_json_lines: bool, as_csv: bool) -> Format:
    from supervisor.cli.audit_query import Format
    from supervisor.cli.console import Failure

    asked = {Format.JSON: as_json, Format.JSONL: as_json_lines, Format.CSV: as_csv}
    chosen = [form for form, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        raise Failure(f"{' and '.join(f'--{form}' for form in chosen)}: use one of them")
    return chosen[0] if chosen else Format.TABLE


@audit.command("tail")
def tail(
    config: Config = None,
    journal: JournalFile = None,
    count: Annotated[int, typer.Option("-n", min=0, help="How many records.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array and nothing else.")] = False,
    as_json_lines: Annotated[bool, typer.Option("--jsonl", help="Print a JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    follow: Follow = False,
) -> int:
    """The last records, oldest first; `query` for more."""
    from supervisor.cli import audit_query
    from supervisor.cli.audit_selection import source

    form = _form(as_json=as_json, as_json_lines=as_json_lines, as_csv=as_csv)
    form = audit_query.Format.LINES if form is audit_query.Format.TABLE else form
    return audit_query.tail(source(config, journal), count, form, follow=follow)


@audit.command("verify")
def verify(
    config: Config = None,
    journal: JournalFile = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HASH", help="A hash noted before: all up to it must be there.")
    ] = None,
    heads: Annotated[
        list[Path] | None, typer.Option("--heads", help="Signed heads that were kept elsewhere; may be repeated.")
    ] = None,
    key: Key = None,
    archives: Archives = None,
    since: Annotated[
        Path | None, typer.Option("--since", metavar="HEAD", help="Only what came after this signed head; costs that.")
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Make the Merkle tree anew from the records, too.")] = False,
    as_json: Json = False,
) -> int:
    """Is the journal what was written?

    Reads all of it again and holds it against its signed heads: 0 it is, 1 it is not, 3 it cannot be read.
    """
    from supervisor.cli import audit_verify
    from supervisor.cli.audit_selection import source

    if since is not None:
        return audit_verify.verify_since(
            source(config, journal), since, key=key, archives=archives or (), as_json=as_json
        )
    return audit_verify.verify(
        source(config, journal),
        head=head,
        as_json=as_json,
        heads=heads or (),
        key=key,
        archives=archives or (),
        tree=tree,
    )


@audit.command("prove")
def prove(
    seqs: Annotated[list[int] | None, typer.Argument(metavar="[SEQ]...", help="The records to prove.")] = None,
    config: Config = None,
    journal: JournalFile = None,
    account: Annotated[str | None, typer.Option("--account", help="A book instead: of this account ...")] = None,
    instrument: Annotated[str | None, typer.Option("--instrument", help="... and this instrument ...")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="... at this time; now if left out.")] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="HEAD", help="Under this signed head (a size, a file), not the newest."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="HEAD", help="Also that nothing was cut out since this head.")
    ] = None,
    archives: Archives = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Into this file, not on standard output.")] = None,
) -> int:
    """One self-contained document that proves records.

    Whoever has the public key checks it with `audit check`, or with evidence/check_proof.py alone.
    """
    from datetime import UTC, datetime

    from supervisor.cli import audit_evidence
    from supervisor.cli.audit_selection import past, source
    from supervisor.cli.console import Failure

    if (account is None) != (instrument is None) or (at is not None and account is None):
        raise Failure("a book is named by --account and --instrument together, and --at is its time")
    if seqs and account is not None:
        raise Failure("name records or a book, not both")
    moment = None if at is None else past("--at", at, datetime.now(UTC))
    wanted = audit_evidence.Wanted(tuple(seqs or ()), account, instrument, moment)
    return audit_evidence.prove(source(config, journal), wanted, to, since, archives or (), out)


@audit.command("check")
def check(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", help="What `audit prove` wrote.")],
    key: Annotated[str, typer.Option("--key", help="The public keys you trust: a file, or one key itself.")],
    heads: Annotated[
        list[Path] | None, typer.Option("--heads", help="Signed heads that you got elsewhere; may be repeated.")
    ] = None,
    roots: Annotated[
        Path | None, typer.Option("--roots", help="The pinned roots (PEM) of the time-stamp server.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Does a proof hold? Needs no journal and no configuration: 0 it does, 1 it does not."""
    from supervisor.cli import audit_evidence

    return audit_evidence.check_proof(proof, key, heads or (), roots, as_json=as_json)


@audit.command("heads")
def heads(
    config: Config = None,
    journal: JournalFile = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many; one is printed as it is signed.")] = 20,
    as_json: Json = False,
) -> int:
    """The signed heads, the newest last.

    `audit heads -n 1` prints the newest in full: kept elsewhere, it proves all before it to `verify --heads`.
    """
    from supervisor.cli import audit_evidence
    from supervisor.cli.audit_selection import source

    return audit_evidence.heads(source(config, journal), count=count, as_json=as_json)


@audit.command("key")
def key(
    config: Config = None,
    journal: JournalFile = None,
    new: Annotated[
        bool, typer.Option("--new", help="Hand on to a new key, which the old one signs. The supervisor must not run.")
    ] = False,
) -> int:
    """The public keys that this journal's heads are signed with: give them to whoever is to check."""
    from supervisor.cli import audit_evidence
    from supervisor.cli.audit_selection import source
    from supervisor.cli.console import load_place

    private = None if journal is not None else load_place(config).signing_key
    return audit_evidence.key(source(config, journal), private, new=new)


@audit.command("head")
def head(config: Config = None, journal: JournalFile = None, as_json: Json = False) -> int:
    """The last record's seq, hash and time.

    Kept elsewhere, the hash proves all before it to `verify --head`.
    """
    from supervisor.cli import audit_verify
    from supervisor.cli.audit_selection import source

    return audit_verify.head(source(config, journal), as_json=as_json)


@audit.command("replay")
def replay(
    account: Annotated[str | None, typer.Option("--account", help="The account.")] = None,
    instrument: Annotated[str | None, typer.Option("--instrument", help="The instrument.")] = None,
    config: Config = None,
    journal: JournalFile = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When; now if left out. It is part of the past itself.")
    ] = None,
    diff: Annotated[
        tuple[str, str] | None, typer.Option("--diff", metavar="TIME TIME", help="What changed in between, and why.")
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Decide again on the slices that were kept (journal.keep_slices).")
    ] = False,
    since: Since = None,
    until: Until = None,
    slices: Annotated[
        Path | None, typer.Option("--slices", help="The file of kept slices, where it is not beside the journal.")
    ] = None,
    archives: Archives = None,
    as_json: Json = False,
) -> int:
    """A book as it was, folded from the journal.

    Also what the broker had said by then. The hash it shows proves it: give it to `verify --head`. With --recompute
    the kept slices go through the code of today: 0 it decides the same, 1 it would decide otherwise (with where and
    how) or they are not as they were kept, 3 some are not there.
    """
    from datetime import UTC, datetime

    from supervisor.cli import audit_replay
    from supervisor.cli.audit_selection import past, select, source
    from supervisor.cli.console import Failure, load_place

    if recompute:
        from supervisor.cli import audit_recompute

        if at is not None or diff is not None:
            raise Failure("--recompute decides on all that was kept, or on what is between --since and --until")
        chosen = select(since=since, until=until)
        wanted = audit_recompute.Wanted(account, instrument, chosen.get("since"), chosen.get("until"))
        return audit_recompute.recompute(source(config, journal), wanted, slices, archives or (), as_json=as_json)
    if since is not None or until is not None or slices is not None:
        raise Failure("--since, --until and --slices go with --recompute; a book is asked for by --at or --diff")
    if account is None or instrument is None:
        raise Failure("a book is named by --account and --instrument")
    if at is not None and diff is not None:
        raise Failure("--at names one time, and --diff two: use one of them")
    of, now = source(config, journal), datetime.now(UTC)
    if diff is None:
        moment = past("--at", at or "now", now)
        running = load_place(config) if at is None and journal is None else None
        return audit_replay.replay(of, account, instrument, moment, archives or (), as_json=as_json, running=running)
    moments = past("--diff", diff[0], now), past("--diff", diff[1], now)
    if moments[0] > moments[1]:
        raise Failure(f"--diff: {diff[0]} is after {diff[1]}. Name the earlier one first")
    return audit_replay.diff(of, account, instrument, moments, archives or (), as_json=as_json)


@audit.command("export")
def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to; must not be there yet. With delta: a table's URI.")
    ],
    form: Annotated[str, typer.Option("--format", help="parquet, csv, jsonl or delta.")],
    config: Config = None,
    journal: JournalFile = None,
    account: Account = None,
    instrument: Instrument = None,
    kinds: Types = None,
    severities: Severities = None,
    since: Since = None,
    until: Until = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> int:
    """Records into a file, oldest first.

    The file takes its name when it is whole. Parquet needs the extra `parquet`. With `delta` the whole journal goes
    into a Delta table, and what came since is added when it is done again; it needs the extra `delta`.
    """
    from supervisor.cli import audit_export
    from supervisor.cli.audit_selection import select, source
    from supervisor.cli.console import Failure

    if form == audit_export.DELTA:
        if force or any((account, instrument, kinds, severities, since, until)):
            raise Failure(
                "--format delta takes the whole journal, and adds to a table: it goes with no filter or --force"
            )
        return audit_export.export_to_delta(source(config, journal), file)
    if form not in list(audit_export.FileFormat):
        raise Failure(
            f"--format: there is no {form!r}. There are: {', '.join((*audit_export.FileFormat, audit_export.DELTA))}"
        )
    asked = select(
        account=account,
        instrument=instrument,
        types=kinds or (),
        severities=severities or (),
        since=since,
        until=until,
    )
    wanted = audit_export.FileFormat(form)
    return audit_export.export(source(config, journal), asked, wanted, Path(file), force=force)


@audit.command("archive")
def archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new journal for them; must not be there yet.")],
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="What is older may go.")],
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Move old records into a journal of their own.

    The chain stays verifiable across the cut, and every book is the same. The supervisor must not run.
    """
    from datetime import UTC, datetime

    from supervisor.cli import audit_archive
    from supervisor.cli.audit_selection import past, source

    moment = past("--before", before, datetime.now(UTC))
    return audit_archive.archive(source(config, None), moment, file, as_json=as_json)
