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
    short_help="Read, verify and export the journal.",
    help=(
        "Read the journal: what was believed, what the broker said, who changed what and why, and proof of it.\n\n"
        "Reads the journal of the configuration, or the file given by --journal, also while a supervisor runs. "
        f"Times: {_TIMES}."
    ),
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration; default config/accounts.yaml.")]
JournalFile = Annotated[
    Path | None, typer.Option("--journal", help="Read this journal file (an archive, a copy) without a configuration.")
]
Account = Annotated[str | None, typer.Option("--account", help="Only this account (or `supervisor`).")]
Instrument = Annotated[str | None, typer.Option("--instrument", help="Only this instrument.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only this type of event; may be repeated.")]
Severities = Annotated[list[str] | None, typer.Option("--severity", help="Only this severity; may be repeated.")]
OrderId = Annotated[str | None, typer.Option("--order-id", help="Only records of this order (either id).")]
FillId = Annotated[str | None, typer.Option("--fill-id", help="Only records of this fill.")]
DiscrepancyId = Annotated[str | None, typer.Option("--discrepancy-id", help="Only records of this discrepancy.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Start of the period, inclusive.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="End of the period, exclusive.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new records until Ctrl-C.")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="The public keys you trust: a file, or one key; default: those beside the journal."),
]
Archives = Annotated[
    list[Path] | None, typer.Option("--archive", help="An archive with older records; may be repeated.")
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
    newest: Annotated[bool, typer.Option("--newest", help="Newest first (the default).")] = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=0, help="At most this many; a table shows 100 if omitted.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array and nothing else.")] = False,
    as_json_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    follow: Follow = False,
) -> int:
    """Print the records that match every condition."""
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
    as_json_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    follow: Follow = False,
) -> int:
    """Print the latest records, oldest first."""
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
        str | None, typer.Option("--head", metavar="HASH", help="A hash noted earlier: all up to it must be there.")
    ] = None,
    heads: Annotated[
        list[Path] | None, typer.Option("--heads", help="Signed heads kept elsewhere; may be repeated.")
    ] = None,
    key: Key = None,
    archives: Archives = None,
    since: Annotated[
        Path | None, typer.Option("--since", metavar="HEAD", help="Check only what came after this signed head.")
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Also rebuild the Merkle tree from the records.")] = False,
    as_json: Json = False,
) -> int:
    """Check that the journal was not changed.

    Reads all of it and compares it with its signed heads. Exit status: 0 intact, 1 changed, 3 it cannot be read.
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
    account: Annotated[str | None, typer.Option("--account", help="Prove a book instead: of this account ...")] = None,
    instrument: Annotated[str | None, typer.Option("--instrument", help="... and this instrument ...")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="... at this time; now if omitted.")] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="HEAD", help="Use this signed head (a size or a file), not the newest."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="HEAD", help="Also prove that nothing was removed since this head.")
    ] = None,
    archives: Archives = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to this file; default: standard output.")
    ] = None,
) -> int:
    """Write one self-contained document that proves records.

    Anyone with the public key can check it with `audit check`, or with evidence/check_proof.py alone.
    """
    from datetime import UTC, datetime

    from supervisor.cli import audit_evidence
    from supervisor.cli.audit_selection import past, source
    from supervisor.cli.console import Failure

    if (account is None) != (instrument is None) or (at is not None and account is None):
        raise Failure("a book needs --account and --instrument together; --at is its time")
    if seqs and account is not None:
        raise Failure("give records or a book, not both")
    moment = None if at is None else past("--at", at, datetime.now(UTC))
    wanted = audit_evidence.Wanted(tuple(seqs or ()), account, instrument, moment)
    return audit_evidence.prove(source(config, journal), wanted, to, since, archives or (), out)


@audit.command("check")
def check(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", help="What `audit prove` wrote.")],
    key: Annotated[str, typer.Option("--key", help="The public keys you trust: a file, or one key itself.")],
    heads: Annotated[
        list[Path] | None, typer.Option("--heads", help="Signed heads you received earlier; may be repeated.")
    ] = None,
    roots: Annotated[
        Path | None, typer.Option("--roots", help="The pinned roots (PEM) of the time-stamp server.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Check a proof, without journal or configuration.

    Exit status: 0 it holds, 1 it does not, 3 it says nothing of any of your --heads.
    """
    from supervisor.cli import audit_evidence

    return audit_evidence.check_proof(proof, key, heads or (), roots, as_json=as_json)


@audit.command("heads")
def heads(
    config: Config = None,
    journal: JournalFile = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many; a single one is printed in full, as signed.")] = 20,
    as_json: Json = False,
) -> int:
    """List the signed heads, newest last.

    `audit heads -n 1` prints the newest in full. Keep it elsewhere: `verify --heads` proves everything before it.
    """
    from supervisor.cli import audit_evidence
    from supervisor.cli.audit_selection import source

    return audit_evidence.heads(source(config, journal), count=count, as_json=as_json)


@audit.command("key")
def key(
    config: Config = None,
    journal: JournalFile = None,
    new: Annotated[
        bool, typer.Option("--new", help="Switch to a new key, which the old one signs. Stop the supervisor first.")
    ] = False,
) -> int:
    """Print the public keys of this journal's heads.

    Give them to the auditor: they check signed heads and proofs.
    """
    from supervisor.cli import audit_evidence
    from supervisor.cli.audit_selection import source
    from supervisor.cli.console import load_place

    private = None if journal is not None else load_place(config).signing_key
    return audit_evidence.key(source(config, journal), private, new=new)


@audit.command("head")
def head(config: Config = None, journal: JournalFile = None, as_json: Json = False) -> int:
    """Print the sequence number, hash and time of the last record.

    Keep the hash elsewhere: `verify --head` proves everything before it.
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
        str | None, typer.Option("--at", metavar="TIME", help="The moment, inclusive; now if omitted.")
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="TIME TIME", help="What changed between two times, and why."),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Decide again on the kept slices (journal.keep_slices).")
    ] = False,
    since: Since = None,
    until: Until = None,
    slices: Annotated[
        Path | None, typer.Option("--slices", help="The file of kept slices, if it is not beside the journal.")
    ] = None,
    archives: Archives = None,
    as_json: Json = False,
) -> int:
    """Show a book as it was at any time, rebuilt from the journal.

    Also shows what the broker had said by then. Pass the hash it prints to `verify --head` to prove it. With
    --recompute today's code decides again on the kept slices. Exit status: 0 it decides the same, 1 it would decide
    differently (with where and how) or the slices were changed, 3 some are missing.
    """
    from datetime import UTC, datetime

    from supervisor.cli import audit_replay
    from supervisor.cli.audit_selection import past, select, source
    from supervisor.cli.console import Failure, load_place

    if recompute:
        from supervisor.cli import audit_recompute

        if at is not None or diff is not None:
            raise Failure(
                "--recompute decides on everything that was kept, or on what lies between --since and --until"
            )
        chosen = select(since=since, until=until)
        wanted = audit_recompute.Wanted(account, instrument, chosen.get("since"), chosen.get("until"))
        return audit_recompute.recompute(source(config, journal), wanted, slices, archives or (), as_json=as_json)
    if since is not None or until is not None or slices is not None:
        raise Failure("--since, --until and --slices belong to --recompute; use --at or --diff for a book")
    if account is None or instrument is None:
        raise Failure("a book needs --account and --instrument")
    if at is not None and diff is not None:
        raise Failure("--at takes one time and --diff two: use only one of them")
    of, now = source(config, journal), datetime.now(UTC)
    if diff is None:
        moment = past("--at", at or "now", now)
        running = load_place(config) if at is None and journal is None else None
        return audit_replay.replay(of, account, instrument, moment, archives or (), as_json=as_json, running=running)
    moments = past("--diff", diff[0], now), past("--diff", diff[1], now)
    if moments[0] > moments[1]:
        raise Failure(f"--diff: {diff[0]} is after {diff[1]}. Put the earlier one first")
    return audit_replay.diff(of, account, instrument, moments, archives or (), as_json=as_json)


@audit.command("export")
def export(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The file to write, which must not exist; with delta, the URI of a table."),
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
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> int:
    """Export records to a file, oldest first.

    The file appears under its name once it is complete. Parquet needs the extra `parquet`. With `delta` the whole
    journal goes into a Delta table, and the next export adds what is new; this needs the extra `delta`.
    """
    from supervisor.cli import audit_export
    from supervisor.cli.audit_selection import select, source
    from supervisor.cli.console import Failure

    if form == audit_export.DELTA:
        if force or any((account, instrument, kinds, severities, since, until)):
            raise Failure("--format delta adds the whole journal to a table: it takes no filter and no --force")
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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write, which must not exist.")],
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="Move records older than this.")],
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Move old records to an archive.

    The chain can still be verified across the cut, and every book stays the same. Stop the supervisor first.
    """
    from datetime import UTC, datetime

    from supervisor.cli import audit_archive
    from supervisor.cli.audit_selection import past, source

    moment = past("--before", before, datetime.now(UTC))
    return audit_archive.archive(source(config, None), moment, file, as_json=as_json)
